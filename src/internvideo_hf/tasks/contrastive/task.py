"""Contrastive training: which caption belongs to which video of a batch."""

from internvideo_hf.tasks.base import Task, Training
from internvideo_hf.tasks.caption_training import LABEL_NAMES, embeddings, make_collator, recalls

TASK = Task(
    "contrastive",
    training=Training(
        auto_class="AutoModel",
        make_collator=make_collator,
        label_names=LABEL_NAMES,
        needs_text=True,
        compares_batch=True,
        takes_grad_cache=True,
        column="caption",
        allow_duplicates=True,
        compute_metrics=recalls,
        preprocess_logits=embeddings,
    ),
)
