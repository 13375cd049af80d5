"""InternVideo (arXiv 2212.03191, section 3.3): masked and multimodal video encoders with cross-model attention.

The encoders stay frozen. At the end of some stages, a cross-model attention (CMA) joins them:

- the tokens of the masked encoder attend to those of the UniFormerV2, and go on through the masked encoder's layers;
- the UniFormerV2's video token attends to the masked encoder's tokens. Its other tokens are unaffected.

Each addition passes a gate that starts at tanh(0) = 0, as in Flamingo. So at the start the model equals its two
encoders, to the last bit, and its score is the mean of theirs. The model was never released; `InternVideoConfig` says
what the paper fixes, and what is our reading.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from internvideo_hf.models.common.base import init_weight_with
from internvideo_hf.models.common.classification import ClassificationHead
from internvideo_hf.models.common.deprecation import warn_deprecated
from internvideo_hf.models.common.layers import MLP, Attention
from internvideo_hf.models.common.narrowing import known, of_type
from internvideo_hf.models.common.open_set import OpenSetHead, OpenSetOutput
from internvideo_hf.models.internvideo.adapters_internvideo import FrozenEncoders, FusedFromEncoders
from internvideo_hf.models.internvideo.configuration_internvideo import InternVideoConfig
from internvideo_hf.models.internvideo_mae.configuration_internvideo_mae import InternVideoMAEConfig
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae import InternVideoMAELayer, InternVideoMAEModel
from internvideo_hf.models.uniformerv2.configuration_uniformerv2 import UniFormerV2Config
from internvideo_hf.models.uniformerv2.modeling_uniformerv2 import UniFormerV2FramesOutput, UniFormerV2Model


@dataclass
class InternVideoBackboneOutput(ModelOutput):
    """The two encoders' results before the first exchange, which no trained parameter affects.

    Attributes:
        video_tokens: the masked encoder's, before the first exchange, `(batch, tubelets, hidden_size)`.
        contexts: the input of each global block of the UniFormerV2, each `(batch, frames * (1 + patches),
            hidden_size)`.
        class_token: the mean of its frames' class tokens, `(batch, hidden_size)`.
    """

    video_tokens: torch.Tensor | None = None
    contexts: tuple[torch.Tensor, ...] | None = None
    class_token: torch.Tensor | None = None


@dataclass
class InternVideoOutput(ModelOutput):
    """The result of the classifier.

    Attributes:
        loss: cross-entropy of `logits`.
        logits: the fused scores, `(batch, num_labels)`.
        internvideo_mae_logits, uniformerv2_logits: those of each encoder, of which `logits` are the weighted sum.
        hidden_states, attentions: of the masked encoder.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    internvideo_mae_logits: torch.Tensor | None = None
    uniformerv2_logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class InternVideoOpenSetOutput(OpenSetOutput):
    """The result of the open-set classifier.

    Attributes:
        internvideo_mae_logits, uniformerv2_logits: as of `InternVideoOutput`.
    """

    internvideo_mae_logits: torch.Tensor | None = None
    uniformerv2_logits: torch.Tensor | None = None


class InternVideoGatedLayer(nn.Module):
    """Cross-attention to the other encoder's tokens, and an MLP, both added through gates that start closed.

    Args:
        config: of the fused model.
        hidden_size: width of the tokens that attend.
        context_size: width of those that are attended to.
    """

    def __init__(self, config: InternVideoConfig, hidden_size: int, context_size: int):
        super().__init__()
        eps, gates = config.layer_norm_eps, hidden_size if config.gate_per_channel else 1
        self.layer_norm_query = nn.LayerNorm(hidden_size, eps=eps)
        self.layer_norm_context = nn.LayerNorm(context_size, eps=eps) if config.normalize_context else nn.Identity()
        heads = num_heads(hidden_size, config.cross_attention_head_size)
        self.cross_attn = Attention(config, hidden_size, heads, context_size=context_size)
        self.attention_gate = nn.Parameter(torch.empty(gates))
        self.layer_norm_mlp = nn.LayerNorm(hidden_size, eps=eps)
        self.mlp = MLP(hidden_size, round(config.mlp_ratio * hidden_size), config.hidden_act)
        self.mlp_gate = nn.Parameter(torch.empty(gates))
        self.dropout = nn.Dropout(config.exchange_dropout)
        # The last layers too: with a gate that is 0, zeros there would leave no gradient to either.
        init_weight_with(init.xavier_uniform_, *self.cross_attn.children(), self.mlp.fc1, self.mlp.fc2)

    def forward(self, tokens: torch.Tensor, context: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Attend.

        Args:
            tokens: `(b, n, hidden_size)`.
            context: `(b, m, context_size)`.
            kwargs: for the attention kernel.
        """
        attended = self.cross_attn(self.layer_norm_query(tokens), self.layer_norm_context(context), **kwargs)[0]
        tokens = tokens + self.attention_gate.tanh() * self.dropout(attended)
        return tokens + self.mlp_gate.tanh() * self.dropout(self.mlp(self.layer_norm_mlp(tokens)))


class InternVideoExchange(GradientCheckpointingLayer):
    """The cross-model attention at the end of a stage, in both directions."""

    def __init__(self, config: InternVideoConfig):
        super().__init__()
        self.enhanced_context = config.enhanced_context
        mae = of_type(config.internvideo_mae_config, InternVideoMAEConfig).hidden_size
        uniformerv2 = of_type(config.uniformerv2_config, UniFormerV2Config).hidden_size
        self.video_tokens = InternVideoGatedLayer(config, mae, uniformerv2)
        self.video_token = InternVideoGatedLayer(config, uniformerv2, mae)

    def forward(
        self, video_tokens: torch.Tensor, video_token: torch.Tensor, context: torch.Tensor, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Let the two encoders attend to each other.

        Args:
            video_tokens: of the masked encoder, `(b, n, c)`.
            video_token: of the UniFormerV2, behind this stage's global block, `(b, 1, d)`.
            context: the input of that block, `(b, m, d)`.
            kwargs: for the attention kernel.

        Returns:
            Both, enhanced.
        """
        enhanced = self.video_tokens(video_tokens, context, **kwargs)
        read = enhanced if self.enhanced_context else video_tokens
        return enhanced, self.video_token(video_token, read, **kwargs)


def num_heads(width: int, head_size: int) -> int:
    """Return the smallest number of heads of equal size, of at most `head_size` channels each.

    Args:
        width: channels of all heads together.
        head_size: the most channels of a head.
    """
    return next(heads for heads in range(-(-width // head_size), width + 1) if width % heads == 0)


class InternVideoPreTrainedModel(FrozenEncoders):
    base_model_prefix = "internvideo"
    _no_split_modules = ["UniFormerV2Embeddings", "InternVideoExchange", "InternVideoClassifier"]
    layer_group_rules = {
        r"internvideo_mae\.(?:embeddings|positions)": "internvideo_mae.embeddings",
        r"internvideo_mae\.layers\.(\d+)": "internvideo_mae.layers.{}",
        r"uniformerv2\.(?:embeddings|pre_layernorm)": "uniformerv2.embeddings",
        r"uniformerv2\.layers\.(\d+)": "uniformerv2.layers.{}",
        r"uniformerv2\.global_blocks\.(\d+)": "uniformerv2.global_blocks.{}",
        r"uniformerv2\.fusion_gate": "uniformerv2.fusion_gate",
        r"uniformerv2\.video_embedding": "video_embedding",
        r"exchanges\.(\d+)": "exchanges.{}",
        r"internvideo_mae\.(?:layernorm|pooler_layernorm)|classifier": "head",
    }
    # All of both encoders but what the paper trains: the video token, and the layers behind the last stage.
    backbone_groups = ("internvideo_mae", "uniformerv2")

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize weights so that nothing is exchanged yet, and both encoders' scores weigh the same."""
        super()._init_weights(module)
        if isinstance(module, InternVideoGatedLayer):
            init.zeros_(module.attention_gate)
            init.zeros_(module.mlp_gate)
        elif isinstance(module, InternVideoClassifier):
            init.zeros_(module.fusion)


class InternVideoModel(InternVideoPreTrainedModel):
    """Both encoders and their exchanges, without a head."""

    frozen_argument = "backbone_outputs"  # of `forward`: the outputs of `frozen_forward`

    # The UniFormerV2's backbone records for itself.
    _can_record_outputs = {
        "hidden_states": InternVideoMAELayer,
        "attentions": OutputRecorder(Attention, index=1, layer_name="self_attn"),
    }

    def __init__(self, config: InternVideoConfig):
        super().__init__(config)
        self.exchange_layers, self.exchange_blocks = known(config.exchange_layers), known(config.exchange_blocks)
        self.internvideo_mae = InternVideoMAEModel(of_type(config.internvideo_mae_config, InternVideoMAEConfig))
        self.uniformerv2 = UniFormerV2Model(of_type(config.uniformerv2_config, UniFormerV2Config))
        self.exchanges = nn.ModuleList([InternVideoExchange(config) for _ in self.exchange_layers])
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.internvideo_mae.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.internvideo_mae.set_input_embeddings(value)

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        uniformerv2_pixel_values_videos: torch.Tensor | None = None,
        backbone_outputs: InternVideoBackboneOutput | Mapping[str, Any] | None = None,
        trunk_outputs: InternVideoBackboneOutput | Mapping[str, Any] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Encode clips.

        Args:
            pixel_values_videos: for the masked encoder, `(batch, frames, channels, height, width)`.
            uniformerv2_pixel_values_videos: the same clips for the UniFormerV2, with its own frames, sizes and
                normalization.
            backbone_outputs: of `encode_backbones`, in place of both.
            trunk_outputs: deprecated name of `backbone_outputs`.
            kwargs: for the layers.

        Returns:
            `last_hidden_state`: the masked encoder's tokens, `(batch, tubelets, hidden_size)`, time slowest.
            `pooler_output`: the input of the two heads, the masked encoder's first, `(batch, sum of both widths)`.
            `hidden_states`, where asked for: of the masked encoder, as it says; from the first exchange on alone where
            `backbone_outputs` are given.

        Raises:
            ValueError: if an input is missing, or the shapes do not fit the encoders or each other.
        """
        if trunk_outputs is not None:
            warn_deprecated("trunk_outputs is deprecated: pass backbone_outputs.")
            backbone_outputs = trunk_outputs
        if backbone_outputs is None:
            backbone_outputs = self.encode_backbones(pixel_values_videos, uniformerv2_pixel_values_videos, **kwargs)
        video_tokens, contexts = backbone_outputs["video_tokens"], tuple(backbone_outputs["contexts"])
        frames = UniFormerV2FramesOutput(contexts=contexts, class_token=backbone_outputs["class_token"])
        stages = zip(self.exchange_layers, self.exchanges, strict=True)
        stage_of = dict(zip(self.exchange_blocks, stages, strict=True))
        done = self.exchange_layers[0]  # the last layer that the backbone has run

        def exchange_behind(block: int, video_token: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
            nonlocal video_tokens, done
            if block in stage_of:
                last, exchange = stage_of[block]
                video_tokens = self._run_layers(done + 1, last + 1, video_tokens, **kwargs)
                video_tokens, video_token = exchange(video_tokens, video_token, context, **kwargs)
                done = last
            return video_token

        multimodal = self.uniformerv2(frames_output=frames, after_block=exchange_behind, return_dict=True, **kwargs)
        masked = self.internvideo_mae.pool(self._run_layers(done + 1, None, video_tokens, **kwargs))
        pooled = known(masked.pooler_output)
        return BaseModelOutputWithPooling(
            last_hidden_state=masked.last_hidden_state,
            pooler_output=torch.cat([pooled, multimodal.pooler_output.to(pooled.device)], dim=-1),
        )

    def _run_layers(self, start: int, stop: int | None, video_tokens: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Run layers of the masked encoder, which checkpoint their activations although they are frozen."""
        layer: Any
        for layer in self.internvideo_mae.layers[start:stop]:
            # Transformers leaves that to layers in training. These are in evaluation, but gradients pass them.
            if self.training and not layer.training and layer.gradient_checkpointing:
                video_tokens = layer._gradient_checkpointing_func(partial(layer, **kwargs), video_tokens)
            else:
                video_tokens = layer(video_tokens, **kwargs)
        return video_tokens

    def encode_trunks(self, *args: Any, **kwargs: Any) -> InternVideoBackboneOutput:
        """Call `encode_backbones`; a deprecated name."""
        warn_deprecated("encode_trunks is deprecated: call encode_backbones.")
        return self.encode_backbones(*args, **kwargs)

    def encode_backbones(
        self,
        pixel_values_videos: torch.Tensor | None,
        uniformerv2_pixel_values_videos: torch.Tensor | None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> InternVideoBackboneOutput:
        """Run both encoders up to the first exchange.

        With frozen encoders, the result is the same in every epoch, and can be cached.

        Args:
            pixel_values_videos: as of `forward`.
            uniformerv2_pixel_values_videos: as of `forward`.
            kwargs: for the layers.

        Raises:
            ValueError: as of `forward`.
        """
        if pixel_values_videos is None or uniformerv2_pixel_values_videos is None:
            raise ValueError(
                "Both encoders need a clip: pass pixel_values_videos and uniformerv2_pixel_values_videos, as the "
                "processor makes them, or backbone_outputs."
            )
        video_tokens = self.internvideo_mae.embed(pixel_values_videos)
        silent = kwargs | {"output_hidden_states": False, "output_attentions": False}
        frames = self.uniformerv2.encode_frames(uniformerv2_pixel_values_videos, return_dict=True, **silent)
        clips = video_tokens.shape[0], frames.class_token.shape[0]
        if clips[0] != clips[1]:
            raise ValueError(
                f"Got {clips[0]} clips in pixel_values_videos, and {clips[1]} in uniformerv2_pixel_values_videos, "
                "expected the same ones."
            )
        for layer in self.internvideo_mae.layers[: self.exchange_layers[0] + 1]:
            video_tokens = layer(video_tokens, **kwargs)
        return InternVideoBackboneOutput(video_tokens, frames.contexts, frames.class_token)

    def frozen_facts(self) -> list[Any]:
        """Return what decides the outputs of `frozen_forward` besides `frozen_state`, as JSON."""
        return [list(self.exchange_layers), list(self.exchange_blocks)]

    def frozen_forward(
        self, pixel_values_videos: torch.Tensor, uniformerv2_pixel_values_videos: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the outputs of `encode_backbones` under flat names, `contexts.0` for the first context.

        Args:
            pixel_values_videos: as of `forward`.
            uniformerv2_pixel_values_videos: as of `forward`.
        """
        outputs = self.encode_backbones(pixel_values_videos, uniformerv2_pixel_values_videos)
        contexts = {f"contexts.{number}": context for number, context in enumerate(outputs["contexts"])}
        return {"video_tokens": outputs["video_tokens"], "class_token": outputs["class_token"], **contexts}


class InternVideoClassifier(nn.Module):
    """The heads of both encoders, and the weighted sum of their scores.

    The weight of the masked encoder is `sigmoid(fusion)`, where `fusion` starts at 0, as the paper has it: that gives
    the mean of both. Weights of 0 would give no score, and no gradient to the heads.
    """

    def __init__(self, config: InternVideoConfig):
        super().__init__()
        mae = of_type(config.internvideo_mae_config, InternVideoMAEConfig).hidden_size
        uniformerv2 = of_type(config.uniformerv2_config, UniFormerV2Config)
        labels = known(config.num_labels)
        self.widths = (mae, uniformerv2.hidden_size)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.internvideo_mae = nn.Linear(mae, labels)
        self.layernorm = nn.LayerNorm(uniformerv2.hidden_size, eps=uniformerv2.layer_norm_eps)
        self.uniformerv2 = nn.Linear(uniformerv2.hidden_size, labels)
        self.fusion = nn.Parameter(torch.empty(labels if config.fusion_per_class else 1))

    def forward(self, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute the scores.

        Args:
            pooled: of `InternVideoModel`, `(b, sum of both widths)`.

        Returns:
            Fused scores, the masked encoder's and the UniFormerV2's, `(b, num_labels)` each.
        """
        masked, multimodal = pooled.split(self.widths, dim=-1)
        masked = self.internvideo_mae(self.dropout(masked))
        multimodal = self.uniformerv2(self.dropout(self.layernorm(multimodal)))
        weight = self.fusion.sigmoid()
        return weight * masked + (1 - weight) * multimodal, masked, multimodal


class InternVideoForVideoClassification(ClassificationHead, FusedFromEncoders, InternVideoPreTrainedModel):
    """The fused classifier; `from_encoders` makes it of two trained ones."""

    output_class: type[ModelOutput] = InternVideoOutput

    def __init__(self, config: InternVideoConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.internvideo = InternVideoModel(config)
        self.classifier = InternVideoClassifier(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        uniformerv2_pixel_values_videos: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        backbone_outputs: InternVideoBackboneOutput | Mapping[str, Any] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | ModelOutput:
        """Classify clips.

        Args:
            pixel_values_videos: as of `InternVideoModel`.
            uniformerv2_pixel_values_videos: as of `InternVideoModel`.
            labels: see `classification_loss`.
            backbone_outputs: as of `InternVideoModel`.
            kwargs: for the layers.
        """
        outputs = self.internvideo(
            pixel_values_videos, uniformerv2_pixel_values_videos, backbone_outputs, return_dict=True, **kwargs
        )
        logits, masked, multimodal = self.classifier(outputs.pooler_output)
        return self.result(
            logits,
            labels,
            internvideo_mae_logits=masked,
            uniformerv2_logits=multimodal,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class InternVideoForOpenSetClassification(OpenSetHead, InternVideoForVideoClassification):
    """The fused classifier with evidential loss and uncertainty; its tensors have the same names."""

    output_class = InternVideoOpenSetOutput


__all__ = [
    "InternVideoForOpenSetClassification",
    "InternVideoForVideoClassification",
    "InternVideoModel",
    "InternVideoPreTrainedModel",
]
