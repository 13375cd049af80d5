"""Configuration of the UniFormerV2 video encoder and classifier."""

from typing import Any

from huggingface_hub.dataclasses import strict

from internvideo_hf.models.common.configuration import ClassifierConfig
from internvideo_hf.utils.names import lookup
from internvideo_hf.utils.pretrained import check_sizes

# Sizes by name: those of CLIP's image encoders.
SIZES = {
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "patch_size": 16},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14},
}
SIZES["large-336"] = SIZES["large"] | {"image_size": 336}

# What the released classifiers have besides a size.
TASKS: dict[str, dict[str, Any]] = {
    "scene": {},
    "motion": {
        "num_frames": 16,
        "num_local_blocks": 2,
        "temporal_downsampling": True,
        "drop_path_rate": 0.2,
        "global_drop_path_rate": 0.4,
    },
}


@strict
class UniFormerV2Config(ClassifierConfig):
    """Sizes of a UniFormerV2 video encoder and its classifier; the defaults are the released B/16 for Kinetics.

    Args:
        hidden_size: width of all tokens.
        intermediate_size: width inside the MLPs; four times `hidden_size` by default.
        num_hidden_layers: layers of the backbone, which attend inside a frame.
        num_attention_heads: heads of the backbone; must divide `hidden_size`.
        global_layers: backbone layers, counted from 0 and rising, whose tokens feed a global block.
        num_global_attention_heads: heads of the global blocks, which must divide `hidden_size`; by default the same.
        global_dropout: dropout behind the activation in the MLPs of the global blocks, 0-1, in training only.
        use_fusion_gate: mix the video token with the mean of the frames' class tokens by a learned gate. Without it,
            as in the released "frozen" models, the video token is all that the head sees.
        num_local_blocks: temporal convolutions in every layer of the backbone: 0, 1 (before the attention) or 2
            (before the MLP too).
        local_intermediate_size: channels of these convolutions; two thirds of `hidden_size`, rounded down, by default.
        temporal_downsampling: patches of 3 frames, every second frame, instead of one frame each.
        drop_path_rate, global_drop_path_rate: of the last backbone layer and the last global block, 0-1; they rise
            linearly from 0 at the first.
        attention_dropout: dropout of attention probabilities, 0-1, in training only.
        classifier_dropout: dropout before the classification head, 0-1, in training only.
        image_size: height and width in pixels that the position table was made for; other sizes re-sample it.
        patch_size: height and width of a patch in pixels; must divide `image_size`.
        num_channels: color channels.
        num_frames: frames that the processor samples by default; the model takes any number.
        hidden_act: activation of the MLPs.
        layer_norm_eps: epsilon of all layer norms.
        initializer_range: standard deviation of freshly initialized weights.

    Raises:
        StrictDataclassClassValidationError: where two numbers do not fit each other.
    """

    model_type = "uniformerv2"
    base_config_key = "vision_config"

    hidden_size: int = 768
    intermediate_size: int | None = None
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    global_layers: list[int] | tuple[int, ...] = (8, 9, 10, 11)
    num_global_attention_heads: int | None = None
    global_dropout: float | int = 0.5
    use_fusion_gate: bool = True
    num_local_blocks: int = 0
    local_intermediate_size: int | None = None
    temporal_downsampling: bool = False
    drop_path_rate: float | int = 0.0
    global_drop_path_rate: float | int = 0.0
    attention_dropout: float | int = 0.0
    classifier_dropout: float | int = 0.5
    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    num_frames: int = 8
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float | int = 1e-5
    initializer_range: float | int = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        self.intermediate_size = self.intermediate_size or 4 * self.hidden_size
        self.num_global_attention_heads = self.num_global_attention_heads or self.num_attention_heads
        self.local_intermediate_size = self.local_intermediate_size or max(2 * self.hidden_size // 3, 1)
        super().__post_init__(**kwargs)

    @classmethod
    def from_size(cls, size: str, task: str = "scene", **overrides: Any) -> "UniFormerV2Config":
        """Make the configuration of a released size.

        Args:
            size: "base" (B/16), "large" (L/14) or "large-336".
            task: "scene" for Kinetics, Moments in Time, ActivityNet, HACS, where a few frames tell the class;
                "motion" for Something-Something, with local blocks, temporal downsampling and more global blocks.
            overrides: other fields.

        Raises:
            ValueError: if there is no such size or task.
        """
        sizes, blocks = lookup(SIZES, size, "size"), lookup(TASKS, task, "task")
        layers = sizes["num_hidden_layers"]
        first = {"scene": layers - 4, "motion": layers // 3}[task]
        return cls(**sizes | blocks | {"global_layers": list(range(first, layers))} | overrides)

    def validate_architecture(self) -> None:
        super().validate_architecture()
        for name in (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_global_attention_heads",
            "local_intermediate_size",
            "num_frames",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        for name in ("num_attention_heads", "num_global_attention_heads"):
            if self.hidden_size % getattr(self, name):
                raise ValueError(f"{name}={getattr(self, name)} must divide hidden_size={self.hidden_size}.")
        if self.image_size % self.patch_size:
            raise ValueError(f"patch_size={self.patch_size} must divide image_size={self.image_size}.")
        for name in ("drop_path_rate", "global_drop_path_rate", "global_dropout", "classifier_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0 and less than 1.")
        if self.num_local_blocks not in (0, 1, 2):
            raise ValueError(f"num_local_blocks={self.num_local_blocks} must be 0, 1 or 2.")
        layers = list(self.global_layers)
        if layers != sorted(set(layers)) or not all(0 <= layer < self.num_hidden_layers for layer in layers):
            raise ValueError(
                f"global_layers={layers} must rise without repeats inside 0..{self.num_hidden_layers - 1}, "
                f"the indices of the num_hidden_layers={self.num_hidden_layers} backbone layers."
            )
        check_sizes(vars(self))


__all__ = ["UniFormerV2Config"]
