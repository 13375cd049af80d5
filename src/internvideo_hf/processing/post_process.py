"""Scores from the outputs of models."""

import torch


def zero_shot_scores(
    video_embeds: torch.Tensor,
    text_embeds: torch.Tensor,
    logit_scale: torch.Tensor | float,
    mean_of: str = "probabilities",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score labels for videos by several prompts per label.

    The score is the mean over prompts of the softmax over labels, as in the released evaluation of InternVideo-MM, or
    the softmax of the mean cosine, as in ViCLIP's. Neither is the softmax of averaged text embeddings.

    Args:
        video_embeds: embeddings of length 1, `(videos, dim)`.
        text_embeds: embeddings of length 1, `(prompts, labels, dim)`.
        logit_scale: the factor of the cosine, already exponentiated.
        mean_of: the quantity averaged over prompts, "probabilities" or "cosines".

    Returns:
        Scores, `(videos, labels)`, that sum to 1 for each video; mean cosines over prompts, `(videos, labels)`.
    """
    cosines = torch.einsum("vd,pld->pvl", video_embeds, text_embeds)
    mean = cosines.mean(dim=0)
    if mean_of == "cosines":
        return (logit_scale * mean).softmax(dim=-1), mean
    return (logit_scale * cosines).softmax(dim=-1).mean(dim=0), mean
