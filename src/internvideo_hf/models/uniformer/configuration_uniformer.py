"""Configuration of UniFormer."""

from typing import Any

from huggingface_hub.dataclasses import strict

from internvideo_hf.models.common.configuration import ClassifierConfig
from internvideo_hf.utils.names import lookup
from internvideo_hf.utils.pretrained import check_sizes

NUM_STAGES = 4

SIZES = {"small": {"depths": [3, 4, 8, 3]}, "base": {"depths": [5, 8, 20, 7]}}
"""Released sizes by name."""


@strict
class UniFormerConfig(ClassifierConfig):
    """Sizes of a UniFormer and its heads; the defaults are UniFormer-B.

    Args:
        hidden_sizes: channels of the four stages.
        depths: layers of the four stages; those of the first two convolve, those of the last two attend.
        head_dim: channels of an attention head; must divide the last two of `hidden_sizes`.
        mlp_ratio: width inside the MLPs, as a multiple of the stage's.
        image_size: height and width in pixels that the model is meant for, a multiple of 32.
        num_frames: frames that the model is meant for.
        num_channels: color channels.
        hidden_act: activation of the MLPs.
        layer_norm_eps: epsilon of the layer norms of the attention layers.
        drop_path_rate: of the last layer, 0-1; it rises linearly from 0 at the first.
        attention_dropout: dropout of attention probabilities, 0-1, in training only.
        classifier_dropout: dropout before the head, 0-1, in training only.
        initializer_range: standard deviation of freshly initialized linear layers.

    Raises:
        StrictDataclassClassValidationError: where two numbers do not fit each other.
    """

    model_type = "uniformer"

    hidden_sizes: list[int] | tuple[int, ...] = (64, 128, 320, 512)
    depths: list[int] | tuple[int, ...] = (5, 8, 20, 7)
    head_dim: int = 64
    mlp_ratio: float | int = 4
    image_size: int = 224
    num_frames: int = 16
    num_channels: int = 3
    hidden_act: str = "gelu"
    layer_norm_eps: float | int = 1e-6
    drop_path_rate: float | int = 0.0
    attention_dropout: float | int = 0.0
    classifier_dropout: float | int = 0.0
    initializer_range: float | int = 0.02

    @classmethod
    def from_size(cls, size: str, **overrides: Any) -> "UniFormerConfig":
        """Make the configuration of a released size.

        Args:
            size: "small" or "base".
            overrides: other fields.

        Raises:
            ValueError: if there is no such size.
        """
        return cls(**lookup(SIZES, size, "size") | overrides)

    @property
    def hidden_size(self) -> int:
        """Channels of the last stage, the length of the pooled output."""
        return self.hidden_sizes[-1]

    @property
    def num_hidden_layers(self) -> int:
        """Layers of all stages."""
        return sum(self.depths)

    @property
    def patch_size(self) -> int:
        """Pixels of a cell of the last stage's map, in height and in width."""
        return 32

    def validate_architecture(self) -> None:
        super().validate_architecture()
        for name in ("hidden_sizes", "depths"):
            numbers = getattr(self, name)
            if len(numbers) != NUM_STAGES or min(numbers) < 1:
                raise ValueError(f"{name}={list(numbers)} must be {NUM_STAGES} numbers above 0, one for each stage.")
        if self.head_dim < 1 or any(size % self.head_dim for size in self.hidden_sizes[2:]):
            raise ValueError(
                f"head_dim={self.head_dim} must divide the last two of hidden_sizes={list(self.hidden_sizes)}."
            )
        if self.mlp_ratio * min(self.hidden_sizes) < 1:
            raise ValueError(f"mlp_ratio={self.mlp_ratio} leaves no channel inside the MLPs. Raise it.")
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size={self.image_size} must be a multiple of {self.patch_size}.")
        check_sizes(vars(self))


__all__ = ["UniFormerConfig"]
