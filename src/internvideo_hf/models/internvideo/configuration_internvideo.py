"""Configuration of InternVideo, the fused model."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig, SubConfigSpec

from internvideo_hf.models.common.configuration import ClassifierConfig
from internvideo_hf.models.common.narrowing import known, of_type
from internvideo_hf.models.internvideo_mae.configuration_internvideo_mae import InternVideoMAEConfig
from internvideo_hf.models.uniformerv2.configuration_uniformerv2 import UniFormerV2Config
from internvideo_hf.utils.pretrained import check_sizes


@strict
class InternVideoConfig(ClassifierConfig):
    """Sizes of two encoders and of the cross-model attention between them (arXiv 2212.03191, section 3.3).

    The model was never released, and the paper leaves most of it open. Fixed by the paper: both encoders frozen but
    for heads and video token; cross-attention and MLP with tanh gates in both directions; a learned sum of two scores.
    All else is our reading, each choice a field here.

    Args:
        internvideo_mae_config, uniformerv2_config: the two encoders, of any sizes.
        exchange_layers: layers of the masked encoder, counted from 0 and rising, behind which there is an exchange.
            Our reading: the ends of equal stages, as "all stages" are said to be enhanced: 2, 5, 8, 11 of twelve.
        exchange_blocks: global blocks of the UniFormerV2, counted from 0 and rising, one for each exchange layer.
            Our reading: the last four, all that models of Kinetics have; motion models have more.
        cross_attention_head_size: the most channels of a head. Our reading: 64, as in both encoders; a stream has the
            fewest heads of equal size that keep to it.
        mlp_ratio: width inside the MLP of an exchange, in widths of its stream. Our reading: 4, as in both encoders.
        hidden_act: activation of these MLPs. Our reading: gelu, the masked encoder's.
        layer_norm_eps: epsilon of the layer norms of exchanges.
        normalize_context: norm the tokens that are attended to as well as those that attend. Our reading: yes, since
            the two streams differ in scale, and UniFormerV2's global blocks do the same.
        enhanced_context: let the video token read the masked encoder's tokens behind this stage's cross-attention, and
            not before it. Our reading: yes, it is the text's order.
        gate_per_channel: a gate for every channel, in place of one for the stream. Our reading: no, as in Flamingo.
        attention_dropout, exchange_dropout: dropout of the attention probabilities of exchanges, and of what they add,
            0-1, in training only. Our reading: none.
        classifier_dropout: dropout before both heads, 0-1, in training only. Our reading of "dropout rate 0.9": the
            probability to drop, at the place where UniFormerV2 has its dropout. It stands for that of both encoders.
        fusion_per_class: a weight of the two scores for every class, in place of one. Our reading: no, "dynamic
            weighted sum" of two scores names one.
        freeze_encoders: leave both encoders as they are but for their norms before the heads and the video token, and
            keep them in evaluation.
        encoders: the folders, or names on the Hub, that the encoders came from, by `model_type`.
        encoders_fingerprint: hash of all that is frozen, to check that a folder still holds the same.
        adapters_only: whether the saved file leaves out what the two folders hold.
        initializer_range: standard deviation of heads that are initialized and not loaded.

    Raises:
        StrictDataclassClassValidationError: where two numbers do not fit each other.
    """

    model_type = "internvideo"
    sub_configs_defaults = {
        "internvideo_mae_config": SubConfigSpec(InternVideoMAEConfig),
        "uniformerv2_config": SubConfigSpec(UniFormerV2Config),
    }

    internvideo_mae_config: dict | PreTrainedConfig | None = None
    uniformerv2_config: dict | PreTrainedConfig | None = None
    exchange_layers: list[int] | tuple[int, ...] | None = None
    exchange_blocks: list[int] | tuple[int, ...] | None = None
    cross_attention_head_size: int = 64
    mlp_ratio: float | int = 4.0
    hidden_act: str = "gelu"
    layer_norm_eps: float | int = 1e-5
    normalize_context: bool = True
    enhanced_context: bool = True
    gate_per_channel: bool = False
    attention_dropout: float | int = 0.0
    exchange_dropout: float | int = 0.0
    classifier_dropout: float | int = 0.9
    fusion_per_class: bool = False
    freeze_encoders: bool = True
    encoders: dict[str, str] | None = None
    encoders_fingerprint: str | None = None
    adapters_only: bool = False
    initializer_range: float | int = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        depth, blocks = self.num_hidden_layers, len(of_type(self.uniformerv2_config, UniFormerV2Config).global_layers)
        given = self.exchange_layers if self.exchange_blocks is None else self.exchange_blocks
        stages = min(4, depth, blocks) if given is None else len(given)
        if self.exchange_blocks is None:
            self.exchange_blocks = list(range(blocks - stages, blocks))
        if self.exchange_layers is None:
            self.exchange_layers = [depth * (stage + 1) // stages - 1 for stage in range(stages)]

    @property
    def num_hidden_layers(self) -> int:
        """Layers of the masked encoder, whose states are the model's hidden states."""
        return of_type(self.internvideo_mae_config, InternVideoMAEConfig).num_hidden_layers

    @property
    def num_frames(self) -> int:
        """Frames of the masked encoder, which transformers' pipeline "video-classification" hands to the processor."""
        return of_type(self.internvideo_mae_config, InternVideoMAEConfig).num_frames

    def validate_architecture(self) -> None:
        super().validate_architecture()
        mae = of_type(self.internvideo_mae_config, InternVideoMAEConfig)
        uniformerv2 = of_type(self.uniformerv2_config, UniFormerV2Config)
        layers, blocks = list(known(self.exchange_layers)), list(known(self.exchange_blocks))
        if not mae.use_mean_pooling or mae.num_segments != 1:
            raise ValueError(
                "internvideo_mae_config must be a classifier's that pools the mean of its tokens and takes one clip "
                "at a time (use_mean_pooling=True, num_segments=1)."
            )
        for name, numbers, count, what in (
            ("exchange_layers", layers, mae.num_hidden_layers, "layers of the masked encoder"),
            ("exchange_blocks", blocks, len(uniformerv2.global_layers), "global blocks of the UniFormerV2"),
        ):
            if not numbers or numbers != sorted(set(numbers)) or not 0 <= numbers[0] <= numbers[-1] < count:
                raise ValueError(
                    f"{name}={numbers} must hold numbers that rise without repeats inside 0..{count - 1}, the {what}."
                )
        if len(layers) != len(blocks):
            raise ValueError(
                f"exchange_layers={layers} and exchange_blocks={blocks} must have the same length: each exchange is "
                "between one layer and one block."
            )
        for name in ("attention_dropout", "exchange_dropout", "classifier_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0 and less than 1.")
        if self.cross_attention_head_size < 1 or self.mlp_ratio <= 0:
            raise ValueError(
                f"cross_attention_head_size={self.cross_attention_head_size} must be at least 1, and "
                f"mlp_ratio={self.mlp_ratio} above 0."
            )
        check_sizes(vars(self))


__all__ = ["InternVideoConfig"]
