"""From what models return to answers."""

import torch


def zero_shot_scores(
    video_embeds: torch.Tensor,
    text_embeds: torch.Tensor,
    logit_scale: torch.Tensor | float,
    mean_of: str = "probabilities",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score labels for videos by several prompts a label.

    The score is the mean over prompts of the softmax over labels, as in the released evaluation of InternVideo-MM, or
    the softmax of the mean cosine, by which ViCLIP's ranks. Neither is the softmax of averaged text embeddings.

    Args:
        video_embeds: embeddings of length 1, `(videos, dim)`.
        text_embeds: embeddings of length 1, `(prompts, labels, dim)`.
        logit_scale: the factor in front of the cosine, already exponentiated.
        mean_of: what is averaged over prompts, "probabilities" or "cosines".

    Returns:
        Scores, `(videos, labels)`, which sum to 1 for each video; mean cosines over prompts, `(videos, labels)`.
    """
    cosines = torch.einsum("vd,pld->pvl", video_embeds, text_embeds)
    mean = cosines.mean(dim=0)
    if mean_of == "cosines":
        return (logit_scale * mean).softmax(dim=-1), mean
    return (logit_scale * cosines).softmax(dim=-1).mean(dim=0), mean
