"""Training losses that several families share."""

import torch
from torch import nn


def contrastive_loss(logits_per_video: torch.Tensor) -> torch.Tensor:
    """Symmetric cross-entropy of a square similarity matrix whose true pairs are the diagonal (InfoNCE).

    Args:
        logits_per_video: `(videos, texts)`, scaled by the temperature; video `i` belongs to text `i`.

    Raises:
        ValueError: if there are not as many texts as videos.
    """
    videos, texts = logits_per_video.shape
    if videos != texts:
        raise ValueError(
            f"The contrastive loss pairs video i with text i, but got {videos} videos and {texts} texts. "
            "Pass one text per video, or leave out return_loss."
        )
    target = torch.arange(videos, device=logits_per_video.device)
    over_texts = nn.functional.cross_entropy(logits_per_video, target)
    over_videos = nn.functional.cross_entropy(logits_per_video.T, target)
    return (over_texts + over_videos) / 2
