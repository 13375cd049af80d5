"""Training losses that several families share."""

from collections.abc import Callable
from typing import Any

import torch
from torch import distributed, nn
from torch.utils.checkpoint import checkpoint

IGNORED = -100
"""The label of what a cross-entropy leaves out, torch's default."""


def known_label_loss(
    scores: torch.Tensor, labels: torch.Tensor, over_processes: bool = False, num_items: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute the cross-entropy in float32, the mean over the labels that are not `IGNORED`, 0 without any.

    Args:
        scores: `(n, classes)`.
        labels: class numbers, `(n,)`.
        over_processes: see `mean_of_items`.
        num_items: see `mean_of_items`.
    """
    labels = labels.to(scores.device)
    total = nn.functional.cross_entropy(scores.float(), labels, ignore_index=IGNORED, reduction="sum")
    return mean_of_items(total, (labels != IGNORED).sum(), over_processes, num_items)


def mean_of_items(
    total: torch.Tensor, count: torch.Tensor, over_processes: bool = False, num_items: torch.Tensor | None = None
) -> torch.Tensor:
    """Divide a sum of losses by the number of their items, at least 1.

    Args:
        total: of this process.
        count: items of this process.
        over_processes: divide by the items of all processes, such that the average of their losses is the mean.
        num_items: items of a step, over all of its batches and processes, to divide by in place of all this; the means
            then add up to that of the step.
    """
    if num_items is not None:
        return total / num_items.to(total.device).clamp(min=1)
    processes = 1
    if over_processes:
        count, processes = count_in_all_processes(count)
    return total * processes / count.clamp(min=1)


def count_in_all_processes(count: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return the sum of a count over all training processes, and the number of processes.

    Gradients are averaged over processes afterwards, so a loss that is divided by the sum has to be multiplied by the
    number of processes to be that of a single process with all videos.

    Args:
        count: of this process.
    """
    if not distributed.is_available() or not distributed.is_initialized():
        return count, 1
    total = count.clone()
    distributed.all_reduce(total)
    return total, distributed.get_world_size()


def next_token_loss(logits: torch.Tensor, labels: torch.Tensor, over_processes: bool = False) -> torch.Tensor:
    """Compute the cross-entropy of the next token; see `known_label_loss`.

    Args:
        logits: behind each token, `(texts, tokens, vocab_size)`.
        labels: `(texts, tokens)`, each predicted from the logits one place before it; `IGNORED` is left out.
        over_processes: see `known_label_loss`.
    """
    return known_label_loss(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), over_processes)


def contrastive_loss(logits_per_video: torch.Tensor, groups: torch.Tensor | None = None) -> torch.Tensor:
    """Compute the symmetric cross-entropy of a square similarity matrix with true pairs on the diagonal (InfoNCE).

    Args:
        logits_per_video: `(videos, texts)`, scaled by the temperature; video `i` belongs to text `i`.
        groups: `(texts,)`, numbers that are equal where texts are the same. A video then belongs to all texts of its
            group in equal parts. None: every text is a group of its own.

    Raises:
        ValueError: if texts or groups differ in number from videos.
    """
    videos, texts = logits_per_video.shape
    if videos != texts:
        raise ValueError(
            f"The contrastive loss pairs video i with text i, but got {videos} videos and {texts} texts. "
            "Pass one text per video, or leave out return_loss."
        )
    groups = None if groups is None else torch.as_tensor(groups, device=logits_per_video.device)
    if groups is None:
        target = torch.arange(videos, device=logits_per_video.device)
    elif groups.shape != (texts,):
        raise ValueError(f"The groups have the shape {tuple(groups.shape)}, expected one for each of {texts} texts.")
    else:
        same = (groups[:, None] == groups).to(logits_per_video.dtype)
        target = same / same.sum(dim=1, keepdim=True)  # symmetric, as all rows of a group are alike
    over_texts = nn.functional.cross_entropy(logits_per_video, target)
    over_videos = nn.functional.cross_entropy(logits_per_video.T, target)
    return (over_texts + over_videos) / 2


def gathered_contrastive_loss(
    video_embeds: torch.Tensor,
    text_embeds: torch.Tensor,
    logit_scale: torch.Tensor | float,
    groups: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute the contrastive loss of the pairs of all processes, the same number in each of them.

    Args:
        video_embeds: of this process, of length 1, `(pairs, dim)`.
        text_embeds: likewise.
        logit_scale: factor on the cosines.
        groups: of this process, `(pairs,)`; see `contrastive_loss`. Numbers must mean the same in all processes.

    Raises:
        ValueError: if texts and videos differ in number.
    """
    videos, texts = gather_with_gradient(video_embeds), gather_with_gradient(text_embeds)
    return contrastive_loss(logit_scale * videos @ texts.T, None if groups is None else gather_with_gradient(groups))


def encode_in_chunks(
    encode: Callable[..., torch.Tensor], size: int | None, *inputs: torch.Tensor | None
) -> torch.Tensor:
    """Encode a batch in chunks, so that memory holds the activations of one chunk at a time.

    The activations of a chunk are discarded, and computed again with the same random numbers in the backward pass:
    the loss compares all rows, and its gradient is that of the undivided batch, unless batch norms normalize by the
    rows of a chunk. Source: gradient caching (arXiv 2101.06983), by activation checkpointing.

    Args:
        encode: called with a chunk of each input.
        size: rows of a chunk; None for all at once.
        inputs: with the same number of rows, or None, which stays None.
    """
    if size is None:
        return encode(*inputs)
    rows = len(next(entry for entry in inputs if entry is not None))
    chunks = [
        [None if entry is None else entry[start : start + size] for entry in inputs] for start in range(0, rows, size)
    ]
    return torch.cat([checkpoint(encode, *chunk, use_reentrant=False) for chunk in chunks])


def gather_with_gradient(rows: torch.Tensor) -> torch.Tensor:
    """Gather the rows of all processes in the order of their ranks; return `rows` itself in a single process.

    Gradients flow back to the process that a row came from, summed over all processes that used it. When every
    process computes the same loss of the gathered rows, and gradients are averaged over processes afterwards
    (`DistributedDataParallel`), the parameters get the true gradient of that loss. The original keeps the gradient of
    its own process alone, without a sum: its average is the true gradient divided by the number of processes (for all
    parameters but the temperature, which is not gathered), a smaller step unless the optimizer, as Adam does, undoes
    the scale. Reference case: `viclip_loss_two_ranks`.

    Args:
        rows: `(n, ...)`; `n` may differ from process to process, as it does where videos could not be read.

    Returns:
        `(n of all processes, ...)`.
    """
    if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() == 1:
        return rows
    gathered: torch.Tensor = _GatherWithGradient.apply(rows)
    return gathered


class _GatherWithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        count = torch.tensor([len(rows)], device=rows.device)
        counts = [torch.empty_like(count) for _ in range(distributed.get_world_size())]
        distributed.all_gather(counts, count)
        ctx.counts = torch.cat(counts).tolist()
        padded = rows.new_zeros(max(ctx.counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in ctx.counts]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, ctx.counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(gradient)
        own: torch.Tensor = gradient.split(ctx.counts)[distributed.get_rank()]  # type: ignore[no-untyped-call]
        return own
