"""Spans of rows from the scores of their first and last rows."""

from typing import NamedTuple

import torch


class Span(NamedTuple):
    """An answer.

    Attributes:
        start: its first row.
        end: its last row, `start` or more.
        score: joint probability of both, 0-1.
    """

    start: int
    end: int
    score: float


def best_spans(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    feature_mask: torch.Tensor | None = None,
    k: int = 5,
    iou_threshold: float = 1.0,
) -> list[list[Span]]:
    """Return the most probable spans of each video, best first, of equal ones the earliest first.

    The probability of a span is that of its first row times that of its last row, as in the paper, which takes the
    best. The baseline of Ego4D takes the five best of all, which often are one answer moved by a row: so it is here,
    too, unless `iou_threshold` is below 1.

    Args:
        start_logits: `(batch, rows)`.
        end_logits: `(batch, rows)`.
        feature_mask: `(batch, rows)`, True or 1 on real rows; None if all are, or logits are -inf elsewhere.
        k: spans of a video, 1 or more; a video with fewer has fewer.
        iou_threshold: intersection over union, above 0 up to 1, from which on a span is left out that overlaps one
            before it. 1: only the same span is.

    Raises:
        ValueError: if shapes or numbers do not fit.
    """
    shape = tuple(start_logits.shape)
    if start_logits.ndim != 2 or tuple(end_logits.shape) != shape:
        raise ValueError(
            f"start_logits and end_logits have the shapes {shape} and {tuple(end_logits.shape)}, expected (batch, "
            "rows) for both."
        )
    if feature_mask is not None and tuple(feature_mask.shape) != shape:
        raise ValueError(f"feature_mask has the shape {tuple(feature_mask.shape)}, expected {shape}.")
    if k < 1 or not 0 < iou_threshold <= 1:
        raise ValueError(f"Got k={k} and iou_threshold={iou_threshold}, expected 1 or more, and above 0 up to 1.")
    start, end = (logits.detach().cpu().double() for logits in (start_logits, end_logits))
    is_real = (start > -torch.inf) & (end > -torch.inf)
    if feature_mask is not None:
        is_real &= feature_mask.cpu().bool()
    return [_spans(*rows, k, iou_threshold) for rows in zip(start, end, is_real, strict=True)]


def _spans(start: torch.Tensor, end: torch.Tensor, is_real: torch.Tensor, k: int, iou_threshold: float) -> list[Span]:
    """Return the best spans of a video of `n` rows, given `(n,)` each."""
    if not is_real.any():
        return []
    start, end = (logits.masked_fill(~is_real, -torch.inf).log_softmax(dim=0) for logits in (start, end))
    rows = torch.arange(len(start), dtype=torch.int32)
    first, last = rows[:, None], rows[None]
    # An hour of video has some thousand rows, and each matrix of all their pairs 100 MB or more: few of them at once.
    scores = (start[:, None] + end).masked_fill_(last < first, -torch.inf)
    spans: list[Span] = []
    while len(spans) < k:
        i, j = divmod(int(scores.argmax()), len(rows))
        if scores[i, j] == -torch.inf:
            break
        spans.append(Span(i, j, scores[i, j].exp().item()))
        # Counted in rows, of which both ends are part.
        intersection = (last.clamp(max=j) - first.clamp(min=i)).add_(1).clamp_(min=0)
        union = (last - first).add_(j - i + 2).sub_(intersection)
        scores.masked_fill_(intersection >= union * iou_threshold, -torch.inf)
    return spans


__all__ = ["Span", "best_spans"]
