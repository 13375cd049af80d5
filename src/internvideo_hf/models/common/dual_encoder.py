"""What models of video and text share."""

from typing import Any

from torch import nn


def comparison_problem(model: nn.Module, tokenizer: Any = None) -> str | None:
    """Return why a model cannot score video-text pairs, or None if it can.

    Args:
        model: any model.
        tokenizer: its tokenizer; None where its folder has none.
    """
    for method in ("get_video_features", "get_text_features"):
        if not hasattr(model, method):
            return (
                f"{type(model).__name__} has no {method}: a model of video and text is needed, such as "
                "InternVideoMMModel."
            )
    if getattr(model.config, "projection_dim", 1) is None:
        return (
            "This model has no shared space for video and text (projection_dim=None, as question-answering "
            "checkpoints), so it cannot compare them. Use a checkpoint with projections."
        )
    vocabulary = model.config.text_config.vocab_size
    if tokenizer is not None and len(tokenizer) != vocabulary:
        return (
            f"The folder's tokenizer has {len(tokenizer)} tokens and its model {vocabulary}: a file is missing. "
            "Convert again."
        )
    return None
