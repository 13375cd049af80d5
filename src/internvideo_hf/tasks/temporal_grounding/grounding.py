"""From a raw video and sentences to the stretches that they ask for: features, words, a head."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.checkpoints.model_names import resolve_model
from internvideo_hf.inference.texts import TextEncoder
from internvideo_hf.inference.untrimmed import VideoFeatures, filled, some_known
from internvideo_hf.models.vslnet.spans_vslnet import Span, best_spans
from internvideo_hf.tasks.temporal_grounding.rows import Floats, row_edges

IOU_THRESHOLD = 0.5
"""Overlap from which on an answer to a user is left out that overlaps a better one: five answers are five places."""


class Answer(NamedTuple):
    """A stretch of a video that a sentence may ask for.

    Args:
        start: where it begins, in seconds.
        end: where it ends, in seconds.
        score: joint probability of both ends, 0-1.
    """

    start: float
    end: float
    score: float


def text_encoder_of(
    config: PreTrainedConfig,
    name: str | Path | None,
    head: str = "the model",
    device: str | torch.device | None = None,
    dtype: str | None = None,
) -> TextEncoder:
    """Return what makes the features of words that a head was trained on.

    Args:
        config: of the head; its `text_encoder` names the model.
        name: folder or Hub name of the model; the one that the head names if None.
        head: name of the head in messages.
        device: see `TextEncoder`.
        dtype: see `TextEncoder`.

    Raises:
        ValueError: if the head does not name it, or it makes other features.
    """
    known, revision = getattr(config, "text_encoder", None), getattr(config, "text_revision", None)
    how = "(text_encoder, data.queries.text_encoder, --text-encoder)"
    if name is None and known is None:
        raise ValueError(f"{head} does not name the model of its words. Give it {how}.")
    if name is None:
        try:
            resolve_model(str(known))
        except ValueError as error:
            message = f"The model of the words of {head} was {known}, which is not there. Give it {how}."
            raise ValueError(message) from error
    encoder = TextEncoder(name or str(known), device, dtype)
    if encoder.size != config.text_size:
        raise ValueError(
            f"{head} takes words of {config.text_size} channels, {encoder.name} gives {encoder.size}. Give the model "
            f"that it was trained with {how}."
        )
    if revision is not None and encoder.revision != revision:
        raise ValueError(
            f"{head} was trained on words of {known} ({revision}), and {encoder.name} ({encoder.revision}) makes "
            f"others. Give that model {how}."
        )
    return encoder


def decode(
    start_logits: torch.Tensor, end_logits: torch.Tensor, most: int, iou_threshold: float = 1.0
) -> list[list[Span]]:
    """Return first row, last row and score of the best answers to each sentence; see `best_spans`.

    Args:
        start_logits: `(batch, rows)`, -inf on padding.
        end_logits: likewise.
        most: answers to a sentence.
        iou_threshold: overlap from which on an answer is left out that overlaps a better one; 1 leaves none out.
    """
    return best_spans(start_logits, end_logits, None, most, iou_threshold)


def best_answers(spans: Sequence[Span], edges: Floats) -> NDArray[np.float64]:
    """Return answers in seconds, `(n, 3)`: start, end and score.

    Args:
        spans: first and last row and score of each.
        edges: of the rows, see `rows.row_edges`.
    """
    rows = [(edges[first], edges[last + 1], score) for first, last, score in spans]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


class Grounder:
    """A head on features that finds the stretches of a video that sentences ask for.

    Args:
        model: a VSLNet, on its device.
        encoder: makes features of words.
    """

    def __init__(self, model: PreTrainedModel, encoder: TextEncoder):
        self.model, self.encoder = model.eval(), encoder

    @torch.no_grad()
    def ground(
        self, features: VideoFeatures, sentences: Sequence[str], top_k: int = 5, video: str = "the video"
    ) -> list[list[Answer]]:
        """Find the stretches of each sentence in a video, the best first.

        Args:
            features: of the video; those of damaged windows are interpolated.
            sentences: one or more.
            top_k: answers to each.
            video: its name, for messages.

        Raises:
            ValueError: if a sentence is empty.
            VideoDecodeError: if all of the video is damaged.
        """
        rows = filled(some_known(video, features.rows)).to(self.model.device)
        steps = torch.arange(len(rows), dtype=torch.float64)[:, None]
        edges = row_edges(features.in_seconds(steps)[:, 0].numpy(), features.duration)
        found = []
        for words in self.encoder.encode(sentences):  # one by one: rows may be many, and words differ in number
            outputs = self.model(rows[None], text_features=words[None].to(self.model.device))
            (spans,) = decode(outputs.start_logits, outputs.end_logits, top_k, IOU_THRESHOLD)
            found.append([Answer(*map(float, answer)) for answer in best_answers(spans, edges)])
        return found
