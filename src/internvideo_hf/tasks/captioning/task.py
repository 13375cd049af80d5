"""Captioning: describe a video in words."""

from internvideo_hf.tasks.base import Task, Training
from internvideo_hf.tasks.caption_training import LABEL_NAMES, embeddings, make_collator, recalls

TASK = Task(
    "captioning",
    # The decoder learns with the towers, whose contrast is a part of the loss.
    training=Training(
        auto_class="AutoModelForMultimodalLM",
        make_collator=make_collator,
        label_names=LABEL_NAMES,
        needs_text=True,
        compares_batch=True,
        column="caption",
        allow_duplicates=True,
        compute_metrics=recalls,
        preprocess_logits=embeddings,
    ),
)
