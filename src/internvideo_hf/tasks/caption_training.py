"""Training on videos and their captions: batches and recalls, for all tasks whose loss compares the two."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.inference.ranking import retrieval_recalls
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.recipes.captions import clean_caption
from internvideo_hf.tasks.base import Training


def recalls(prediction: EvalPrediction) -> dict[str, float]:
    """Return recalls in both directions, in percent; a caption's true items are all videos with that caption."""
    captions, videos = map(np.asarray, prediction.label_ids)
    readable = videos != -100
    captions, videos = captions[readable], videos[readable]
    video_embeds, text_embeds = (embeds[readable] for embeds in prediction.predictions)
    _, first, owner = np.unique(videos, return_index=True, return_inverse=True)  # a video may have several captions
    is_true = np.zeros((len(captions), len(first)), dtype=bool)
    for caption in np.unique(captions):
        texts = np.flatnonzero(captions == caption)
        is_true[np.ix_(texts, owner[texts])] = True
    similarity = text_embeds @ video_embeds[first].T
    both = {"text_to_video": (similarity, is_true), "video_to_text": (similarity.T, is_true.T)}
    return {
        f"{name}_{key}": value
        for name, (scores, true) in both.items()
        for key, value in retrieval_recalls(scores, [np.flatnonzero(row) for row in true]).items()
    }


def embeddings(outputs: tuple[torch.Tensor, ...], labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return a dual encoder's embeddings; its logits depend on the batch."""
    return outputs[2], outputs[3]


def tokenize_captions(captions: Sequence[str], *, processor: InternVideoProcessor) -> dict[str, Any]:
    """Turn captions into a model's inputs, with `return_loss`.

    Args:
        captions: one or more.
        processor: of the model; it cuts captions that are too long, and keeps their end token.
    """
    return {**processor(text=list(captions), truncation=True, return_tensors="pt"), "return_loss": True}


def make_collator(
    *,
    training: bool,
    processor: InternVideoProcessor,
    caption_rule: str | None = None,
    equal_captions: str | None = None,
    **_: Any,
) -> VideoCollator:
    """Make the collator of batches of videos and captions.

    Args:
        training: drop unreadable videos, and compare captions as `equal_captions` says.
        processor: of the model.
        caption_rule: cleaning of captions, a name in `internvideo_hf.recipes.captions`.
        equal_captions: see `VideoCollator`; in validation, captions of one text are equal.
    """
    return VideoCollator(
        targets=("captions",),
        tokenize=partial(tokenize_captions, processor=processor),
        clean=None if caption_rule is None else partial(clean_caption, rule=caption_rule),
        # In validation, a caption's true items are all videos with that caption.
        equal_captions=equal_captions if training else "text",
        keep_names=True,
        fill_gaps=not training,
    )


def training_on_captions(auto_class: str, takes_grad_cache: bool = False) -> Training:
    """Return the training of a task whose loss compares videos with their captions.

    Args:
        auto_class: name of the Auto class of the trained models.
        takes_grad_cache: see `Training`.
    """
    return Training(
        auto_class=auto_class,
        make_collator=make_collator,
        label_names=("caption_ids", "video_ids"),  # what `recalls` needs
        needs_text=True,
        compares_batch=True,
        takes_grad_cache=takes_grad_cache,
        column="caption",
        allow_duplicates=True,
        compute_metrics=recalls,
        preprocess_logits=embeddings,
    )
