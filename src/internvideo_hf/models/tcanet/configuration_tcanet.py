"""Configuration of TCANet."""

from typing import Any

from huggingface_hub.dataclasses import strict

from internvideo_hf.models.common.configuration import VideoConfig
from internvideo_hf.models.common.overrides import check_features
from internvideo_hf.utils.pretrained import check_sizes

SUPPRESSION = {
    "method": "gaussian",
    "class_wise": False,
    "sigma": 0.4,
    "exponent": 2.5,
    "min_score": 0.0,
    "max_segments": 100,
}
FUSION = {"classes": 3, "max_segments": 100, "combine": "product", "sharpness": 2.0, "max_detections": 200}


@strict
class TCANetConfig(VideoConfig):
    """Sizes of TCANet; the defaults are the public one for HACS, on SlowFast features.

    Args:
        feature_size: channels of the features.
        hidden_size: width of all positions.
        intermediate_size: width inside the MLPs.
        num_hidden_layers: encoder layers.
        num_attention_heads: must divide `hidden_size`. The first half, rounded down, attends to windows, the others to
            everything.
        attention_window: positions that the first half of the heads attends to, itself in their middle.
        max_sequence_length: positions that shorter sequences are padded to. Padding is not masked: its length is part
            of the answer.
        step_seconds: from the start of one feature to the start of the next.
        boundary_hidden_size: width of the branches that refine starts and ends.
        num_start_samples: features sampled around the start of a proposal; a multiple of 4.
        num_action_samples: features sampled within a proposal; a multiple of 4.
        num_end_samples: features sampled around the end of a proposal; a multiple of 4.
        context_ratio: length of what is sampled before the start and behind the end, in lengths of the proposal.
        iou_thresholds: for each stage, the overlap with a segment, 0-1, from which on a proposal learns boundaries.
        num_groups: of the convolutions; must divide both hidden sizes and `feature_size`.
        hidden_act: activation of the MLPs.
        layer_norm_eps: epsilon of all layer norms.
        hidden_dropout: dropout behind attention and inside and behind the MLPs, 0-1, in training only.
        attention_dropout: dropout of attention probabilities, 0-1, in training only.
        suppression: how segments suppress each other; the fields of the task's `Suppression`, of which some may be
            missing.
        fusion: how a video classifier names segments; the fields of the task's `Fusion`, likewise.
        features: which features the model was trained on; see `ActionFormerConfig.features`.

    Raises:
        StrictDataclassClassValidationError: where two numbers do not fit each other.
    """

    model_type = "tcanet"

    feature_size: int = 2304
    hidden_size: int = 512
    intermediate_size: int = 256
    num_hidden_layers: int = 2
    num_attention_heads: int = 8
    attention_window: int = 9
    max_sequence_length: int = 1000
    step_seconds: float | int = 8 / 15
    boundary_hidden_size: int = 128
    num_start_samples: int = 32
    num_action_samples: int = 64
    num_end_samples: int = 32
    context_ratio: float | int = 0.5
    iou_thresholds: list[float | int] | tuple[float | int, ...] = (0.5, 0.6, 0.7)
    num_groups: int = 4
    hidden_act: str = "relu"
    layer_norm_eps: float | int = 1e-5
    hidden_dropout: float | int = 0.1
    attention_dropout: float | int = 0.1
    suppression: dict[str, Any] | None = None
    fusion: dict[str, Any] | None = None
    features: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.iou_thresholds = list(self.iou_thresholds)
        self.suppression = SUPPRESSION | (self.suppression or {})
        self.fusion = FUSION | (self.fusion or {})
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        super().validate_architecture()
        for name in ("attention_window", "max_sequence_length", "num_groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        for name in ("step_seconds", "context_ratio"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0.")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads} must divide hidden_size={self.hidden_size}."
            )
        for name in ("feature_size", "hidden_size", "boundary_hidden_size"):
            if getattr(self, name) % self.num_groups:
                raise ValueError(f"num_groups={self.num_groups} must divide {name}={getattr(self, name)}.")
        for name in ("num_start_samples", "num_action_samples", "num_end_samples"):
            if getattr(self, name) < 4 or getattr(self, name) % 4:
                raise ValueError(f"{name}={getattr(self, name)} must be a multiple of 4.")
        if not self.iou_thresholds or not all(0 < threshold < 1 for threshold in self.iou_thresholds):
            raise ValueError(f"iou_thresholds={self.iou_thresholds} must hold overlaps between 0 and 1, one a stage.")
        for name in ("hidden_dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0 and less than 1.")
        check_features(self.features)
        check_sizes(vars(self))


__all__ = ["TCANetConfig"]
