"""Configuration of the UniFormerV2 video encoder."""

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig


@strict
class UniFormerV2Config(PreTrainedConfig):
    """Sizes of a UniFormerV2 video encoder; the defaults are the released B/16 of InternVideo-MM.

    Args:
        hidden_size: width of all tokens.
        intermediate_size: width inside the MLPs.
        num_hidden_layers: layers of the trunk, which attend inside a frame.
        num_attention_heads: heads of the trunk; must divide `hidden_size`.
        global_layers: trunk layers, counted from 0 and rising, whose tokens feed a global block.
        num_global_attention_heads: heads of the global blocks; must divide `hidden_size`.
        global_dropout: dropout behind the activation in the MLPs of the global blocks, 0-1, in training only.
        attention_dropout: dropout of attention probabilities, 0-1, in training only.
        image_size: height and width in pixels that the position table was made for; other sizes re-sample it.
        patch_size: height and width of a patch in pixels; must divide `image_size`.
        num_channels: colour channels.
        num_frames: frames that the processor samples by default; the model takes any number.
        hidden_act: activation of the MLPs.
        layer_norm_eps: epsilon of all layer norms.
        initializer_range: standard deviation of freshly drawn weights.

    Raises:
        StrictDataclassClassValidationError: where two numbers do not fit each other.
    """

    model_type = "uniformerv2"
    base_config_key = "vision_config"

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    global_layers: list[int] | tuple[int, ...] = (8, 9, 10, 11)
    num_global_attention_heads: int = 12
    global_dropout: float | int = 0.5
    attention_dropout: float | int = 0.0
    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    num_frames: int = 8
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float | int = 1e-5
    initializer_range: float | int = 0.02

    def validate_architecture(self) -> None:
        super().validate_architecture()
        for name in (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_global_attention_heads",
            "num_frames",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        for name in ("num_attention_heads", "num_global_attention_heads"):
            if self.hidden_size % getattr(self, name):
                raise ValueError(f"{name}={getattr(self, name)} must divide hidden_size={self.hidden_size}.")
        if self.image_size % self.patch_size:
            raise ValueError(f"patch_size={self.patch_size} must divide image_size={self.image_size}.")
        layers = list(self.global_layers)
        if layers != sorted(set(layers)) or not all(0 <= layer < self.num_hidden_layers for layer in layers):
            raise ValueError(
                f"global_layers={layers} must rise without repeats inside 0..{self.num_hidden_layers - 1}, "
                f"the indices of the num_hidden_layers={self.num_hidden_layers} trunk layers."
            )


__all__ = ["UniFormerV2Config"]
