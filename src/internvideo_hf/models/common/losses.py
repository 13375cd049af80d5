"""Training losses that several families share."""

from collections.abc import Callable

import torch
from torch import distributed, nn
from torch.utils.checkpoint import checkpoint


def contrastive_loss(logits_per_video: torch.Tensor, groups: torch.Tensor | None = None) -> torch.Tensor:
    """Symmetric cross-entropy of a square similarity matrix whose true pairs are the diagonal (InfoNCE).

    Args:
        logits_per_video: `(videos, texts)`, scaled by the temperature; video `i` belongs to text `i`.
        groups: `(texts,)`, numbers that are equal where texts are the same. A video then belongs to all texts of its
            group in equal parts. None: every text is a group of its own.

    Raises:
        ValueError: if there are not as many texts as videos, or not as many groups.
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
    factor: torch.Tensor | float,
    groups: torch.Tensor | None = None,
) -> torch.Tensor:
    """The contrastive loss of the pairs of all processes, which is the same number in each of them.

    Args:
        video_embeds, text_embeds: of this process, of length 1, `(pairs, dim)`.
        factor: in front of the cosines.
        groups: of this process, `(pairs,)`; see `contrastive_loss`. Numbers must mean the same in all processes.

    Raises:
        ValueError: if there are not as many texts as videos.
    """
    videos, texts = gather_with_gradient(video_embeds), gather_with_gradient(text_embeds)
    return contrastive_loss(factor * videos @ texts.T, None if groups is None else gather_with_gradient(groups))


def encode_in_chunks(
    encode: Callable[..., torch.Tensor], size: int | None, *inputs: torch.Tensor | None
) -> torch.Tensor:
    """Encode a batch part by part, so that memory is needed for the activations of one part at a time.

    What the parts compute on their way is forgotten, and computed once more, with the same draws, when the gradient
    comes back: the loss compares all rows, and its gradient is that of the undivided batch. Source: gradient caching
    (arXiv 2101.06983), by activation checkpointing.

    Args:
        encode: what to do with a part of each input.
        size: rows of a part; None for all at once.
        inputs: of as many rows each, or None, which stays None.
    """
    if size is None:
        return encode(*inputs)
    rows = len(next(entry for entry in inputs if entry is not None))
    parts = [
        [None if entry is None else entry[start : start + size] for entry in inputs] for start in range(0, rows, size)
    ]
    return torch.cat([checkpoint(encode, *part, use_reentrant=False) for part in parts])


def gather_with_gradient(rows: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, in the order of their ranks; `rows` itself where there is one process.

    Gradients flow back to the process that a row came from, summed over all processes that used it. When every
    process takes the same loss of the gathered rows, and gradients are averaged over processes afterwards
    (`DistributedDataParallel`), the parameters get the true gradient of that loss. The original keeps only what its
    own process made of its rows, without a sum: its average is the true gradient divided by the number of processes
    (for all but the temperature, which no gathering comes before), a smaller step unless the optimizer, as Adam does,
    undoes the scale. Reference case: `viclip_loss_two_ranks`.

    Args:
        rows: `(n, ...)`; `n` may differ from process to process, as it does where videos could not be read.

    Returns:
        `(n of all processes, ...)`.
    """
    if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() == 1:
        return rows
    return _GatherWithGradient.apply(rows)


class _GatherWithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: torch.Tensor) -> torch.Tensor:
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
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(gradient)
        return gradient.split(ctx.counts)[distributed.get_rank()]
