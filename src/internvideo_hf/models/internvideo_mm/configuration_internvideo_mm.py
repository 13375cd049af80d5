"""Configuration of InternVideo-MM."""

from huggingface_hub.dataclasses import strict
from transformers import CLIPTextConfig
from transformers.configuration_utils import PreTrainedConfig, SubConfigSpec

from internvideo_hf.models.uniformerv2.configuration_uniformerv2 import UniFormerV2Config
from internvideo_hf.utils.pretrained import check_sizes


@strict
class InternVideoMMConfig(PreTrainedConfig):
    """Sizes of the InternVideo-MM dual encoder; the defaults are the released B/16.

    Args:
        vision_config: the video tower.
        text_config: the text tower, CLIP's.
        projection_dim: width of the space that video and text share; None for towers without projections, as
            released question-answering checkpoints hold them.
        logit_scale_init_value: start of the learned temperature, as the logarithm of the factor.
    """

    model_type = "internvideo_mm"
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(UniFormerV2Config),
        "text_config": SubConfigSpec(CLIPTextConfig),
    }

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    projection_dim: int | None = 512
    logit_scale_init_value: float | int = 2.6592

    def validate_architecture(self) -> None:
        super().validate_architecture()
        check_sizes(vars(self))


__all__ = ["InternVideoMMConfig"]
