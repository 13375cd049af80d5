"""Configuration of ViCLIP."""

from huggingface_hub.dataclasses import strict
from transformers import CLIPTextConfig
from transformers.configuration_utils import PreTrainedConfig, SubConfigSpec

from internvideo_hf.models.common.configuration import ClassifierConfig, VideoConfig
from internvideo_hf.models.common.narrowing import of_type
from internvideo_hf.utils.pretrained import check_sizes

CONTEXT_LENGTH = 32  # tokens of a text, of every released model


@strict
class ViCLIPVisionConfig(VideoConfig):
    """Sizes of ViCLIP's video tower; the defaults are the released B/16.

    Args:
        hidden_size: width of all tokens.
        intermediate_size: width inside the MLPs.
        num_hidden_layers: layers, in which all tokens of a clip attend to each other.
        num_attention_heads: must divide `hidden_size`.
        image_size: height and width in pixels that the position table was made for; other sizes re-sample it.
        patch_size: height and width of a patch in pixels; must divide `image_size`.
        tubelet_size: frames of a patch; must divide `num_frames`.
        num_channels: color channels.
        num_frames: frames that the temporal table was made for, and that the processor samples by default; other
            counts re-sample the table.
        hidden_act: activation of the MLPs.
        layer_norm_eps: epsilon of all layer norms.
        drop_path_rate: of the last layer, 0-1; it rises linearly from 0 at the first. Released training: 0.1.
        attention_dropout: dropout of attention probabilities, 0-1, in training only.
        mask_ratio: fraction of a clip's patches that is left out in training, 0-1, another draw for every clip.
            Released training: 0.9, then 0 in its second stage. Never in evaluation.
        initializer_range: standard deviation of freshly initialized weights.

    Raises:
        StrictDataclassClassValidationError: where two numbers do not fit each other.
    """

    model_type = "viclip_vision_model"
    base_config_key = "vision_config"

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 16
    tubelet_size: int = 1
    num_channels: int = 3
    num_frames: int = 8
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float | int = 1e-5
    drop_path_rate: float | int = 0.0
    attention_dropout: float | int = 0.0
    mask_ratio: float | int = 0.0
    initializer_range: float | int = 0.02

    def validate_architecture(self) -> None:
        super().validate_architecture()
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_frames", "tubelet_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        for part, whole in (
            ("num_attention_heads", "hidden_size"),
            ("patch_size", "image_size"),
            ("tubelet_size", "num_frames"),
        ):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(f"{part}={getattr(self, part)} must divide {whole}={getattr(self, whole)}.")
        for name in ("mask_ratio", "drop_path_rate", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0 and less than 1.")
        check_sizes(vars(self))


@strict
class ViCLIPConfig(ClassifierConfig):
    """Sizes of the ViCLIP dual encoder; the defaults are the released B/16.

    Args:
        vision_config: the video tower.
        text_config: the text tower, CLIP's; where none is given, with 32 positions in place of CLIP's 77.
        projection_dim: width of the space that video and text share.
        temperature_init_value: start of the learned temperature, which divides the cosines.
        temperature_min: floor of the temperature.
        inference_scale: factor on the cosines in evaluation, in place of the learned temperature. The original's
            inference code always multiplies by 100, whatever temperature was learned; the two agree only where that
            has reached its floor. None (the default) keeps the learned one; 100.0 gives that code's probabilities.

    Raises:
        StrictDataclassClassValidationError: where a number has no meaning.
    """

    model_type = "viclip"
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(ViCLIPVisionConfig),
        "text_config": SubConfigSpec(CLIPTextConfig, init_kwargs={"max_position_embeddings": CONTEXT_LENGTH}),
    }

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    projection_dim: int = 512
    temperature_init_value: float | int = 0.01
    temperature_min: float | int = 0.01
    inference_scale: float | int | None = None

    @property
    def num_frames(self) -> int:
        """Frames of the video tower, which transformers' pipeline "video-classification" hands to the processor."""
        return of_type(self.vision_config, ViCLIPVisionConfig).num_frames

    def validate_architecture(self) -> None:
        super().validate_architecture()
        for name in ("temperature_init_value", "temperature_min"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0: it divides the cosines.")
        if self.inference_scale is not None and self.inference_scale <= 0:
            raise ValueError(f"inference_scale={self.inference_scale} must be above 0, or None for the learned one.")
        check_sizes(vars(self))


__all__ = ["ViCLIPConfig", "ViCLIPVisionConfig"]
