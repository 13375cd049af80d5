"""Configuration of InternVideo-MM."""

from huggingface_hub.dataclasses import strict
from transformers import CLIPTextConfig
from transformers.configuration_utils import PreTrainedConfig, SubConfigSpec

from internvideo_hf.models.common.configuration import VideoConfig
from internvideo_hf.models.common.narrowing import of_type
from internvideo_hf.models.uniformerv2.configuration_uniformerv2 import UniFormerV2Config
from internvideo_hf.utils.pretrained import check_sizes


@strict
class InternVideoMMDecoderConfig(PreTrainedConfig):
    """Sizes of the caption decoder; the defaults are those of the released B/16.

    Args:
        hidden_size: width of the tokens, that of the text tower.
        encoder_hidden_size: width of the video tower.
        intermediate_size: width inside the gated MLPs.
        num_hidden_layers: layers; 4 in the released code, 6 in the paper.
        num_attention_heads: heads of the queries, which share one of keys and values; must divide `hidden_size`.
        num_visual_queries: learned queries that a clip's tokens are pooled to.
        mark_positions: read the clip's tokens with their places marked, by the convolution of the video tower's last
            global block. Released decoders read them unmarked: of motion, such tokens tell little.
        rope_theta: base of the wavelengths of rotary positions.
        layer_norm_eps: epsilon of all layer norms.
        attention_dropout: dropout of attention probabilities, 0-1, in training only.
        initializer_range: standard deviation of the random initial weights.

    Raises:
        StrictDataclassClassValidationError: where two numbers do not fit each other.
    """

    model_type = "internvideo_mm_decoder"
    base_config_key = "decoder_config"

    hidden_size: int = 512
    encoder_hidden_size: int = 768
    intermediate_size: int = 2048
    num_hidden_layers: int = 4
    num_attention_heads: int = 8
    num_visual_queries: int = 256
    mark_positions: bool = False
    rope_theta: float | int = 10_000.0
    layer_norm_eps: float | int = 1e-5
    attention_dropout: float | int = 0.0
    initializer_range: float | int = 0.02

    def validate_architecture(self) -> None:
        super().validate_architecture()
        heads, width = self.num_attention_heads, self.hidden_size
        if heads < 1 or width % (2 * heads):
            raise ValueError(
                f"hidden_size={width} must be a multiple of 2 x num_attention_heads={heads}: rotary positions turn "
                "pairs of channels."
            )
        if self.num_visual_queries < 1:
            raise ValueError(f"num_visual_queries={self.num_visual_queries} must be at least 1.")
        check_sizes(vars(self))


@strict
class InternVideoMMConfig(VideoConfig):
    """Sizes of InternVideo-MM; the defaults are the released B/16.

    Args:
        vision_config: the video tower.
        text_config: the text tower, CLIP's.
        decoder_config: the caption decoder; None for the dual encoder alone.
        projection_dim: width of the space that video and text share; None for towers without projections, as
            released question-answering checkpoints hold them.
        logit_scale_init_value: start of the learned temperature, as the logarithm of the factor.
        classifier_dropout: dropout before each linear layer of the answer head, 0-1, in training only.

    Raises:
        StrictDataclassClassValidationError: where two numbers do not fit each other.
    """

    model_type = "internvideo_mm"
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(UniFormerV2Config),
        "text_config": SubConfigSpec(CLIPTextConfig),
        "decoder_config": SubConfigSpec(InternVideoMMDecoderConfig, optional=True),
    }

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    decoder_config: dict | PreTrainedConfig | None = None
    projection_dim: int | None = 512
    logit_scale_init_value: float | int = 2.6592
    classifier_dropout: float | int = 0.5

    def validate_architecture(self) -> None:
        super().validate_architecture()
        check_sizes(vars(self))
        if self.decoder_config is not None:
            decoder = of_type(self.decoder_config, InternVideoMMDecoderConfig)
            for name, tower in (("hidden_size", "text_config"), ("encoder_hidden_size", "vision_config")):
                width, expected = getattr(decoder, name), getattr(self, tower).hidden_size
                if width != expected:
                    raise ValueError(
                        f"decoder_config.{name}={width} must be {tower}.hidden_size={expected}: the decoder reads the "
                        "tokens of the tower."
                    )
            vision = of_type(self.vision_config, UniFormerV2Config)
            if decoder.mark_positions and vision.num_hidden_layers - 1 not in vision.global_layers:
                last = vision.num_hidden_layers - 1
                raise ValueError(
                    f"decoder_config.mark_positions needs a global block behind the last layer, {last}, but "
                    f"vision_config.global_layers is {vision.global_layers}. Add {last}, or set mark_positions=False."
                )


__all__ = ["InternVideoMMConfig", "InternVideoMMDecoderConfig"]
