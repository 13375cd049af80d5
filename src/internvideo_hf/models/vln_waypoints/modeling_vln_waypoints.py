"""The predictor of waypoints (arXiv 2203.02764): places nearby that an agent can go to, from the depth of a panorama.

A transformer in which each view sees itself and its two neighbors gives a heatmap over angles and distances;
`candidates_vln_waypoints` picks places from it. The original also takes pictures, and ignores them.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import nn
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from internvideo_hf.models.common.base import VideoPreTrainedModel
from internvideo_hf.models.common.layers import Attention, PostNormLayer
from internvideo_hf.models.vln_waypoints.configuration_vln_waypoints import VLNWaypointsConfig


@dataclass
class VLNWaypointsOutput(ModelOutput):
    """A heatmap of places.

    Attributes:
        logits: `(batch, num_angles, num_distances)`. Row 0 is straight ahead, and rows turn to the right, clockwise;
            column 0 is `distance_step` away.
        hidden_states, attentions: of the layers.
    """

    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class VLNWaypointsClassifier(nn.Module):
    """The part of the heatmap around each view."""

    def __init__(self, config: VLNWaypointsConfig):
        super().__init__()
        cells = config.num_angles // config.num_views * config.num_distances
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, cells)

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        return self.output(self.dense(views).relu())


class VLNWaypointsModel(VideoPreTrainedModel):
    """Scores places around an agent by the depth of its views."""

    config: VLNWaypointsConfig
    base_model_prefix = "vln_waypoints"
    main_input_name = "depth_features"
    input_modalities = ["image"]
    # Most views are hidden from each other, which flash attention does not do, nor flex attention in this form.
    _supports_flash_attn = False
    _supports_flex_attn = False
    _no_split_modules = ["PostNormLayer"]
    _input_embed_layer = "embedding"
    _can_record_outputs = {
        "hidden_states": PostNormLayer,
        "attentions": OutputRecorder(Attention, index=1, layer_name="self_attn"),
    }
    layer_group_rules = {r"embedding": "embeddings", r"layers\.(\d+)": "layers.{}", r"classifier": "head"}

    def __init__(self, config: VLNWaypointsConfig):
        super().__init__(config)
        self.embedding = nn.Linear(config.depth_size, config.hidden_size)
        self.layers = nn.ModuleList([PostNormLayer(config) for _ in range(config.num_hidden_layers)])
        self.classifier = VLNWaypointsClassifier(config)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, depth_features: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> VLNWaypointsOutput:
        """Score places.

        Args:
            depth_features: of the views in order of their cameras, to the left, `(batch, views, ...)` with
                `depth_size` numbers a view, such as `(batch, 12, 128, 4, 4)`.
            kwargs: for the attention kernel.

        Raises:
            ValueError: if the shape does not fit the model.
        """
        config = self.config
        if depth_features.ndim < 3 or depth_features[0].numel() != config.num_views * config.depth_size:
            raise ValueError(
                f"depth_features has the shape {tuple(depth_features.shape)}, expected (batch, {config.num_views}, "
                f"...) with {config.depth_size} numbers a view."
            )
        # The heatmap turns to the right.
        clockwise = -torch.arange(config.num_views, device=depth_features.device) % config.num_views
        views = depth_features.flatten(2)[:, clockwise].to(self.dtype)
        hidden_states = self.embedding(views).relu()
        mask = neighbor_mask(hidden_states)
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask.to(hidden_states.device), **kwargs)
        logits = rearrange(self.classifier(hidden_states), "b v (r d) -> b (v r) d", d=config.num_distances)
        # The rows of a view begin at its left edge, half a view before its middle.
        return VLNWaypointsOutput(logits=logits.roll(-(config.num_angles // config.num_views // 2), dims=1))


def neighbor_mask(views: torch.Tensor) -> torch.Tensor:
    """Return what attention adds to its scores: nothing for a view and its two neighbors, and else almost -inf.

    Args:
        views: `(b, v, c)`; of their number and type.

    Returns:
        `(1, 1, v, v)`.
    """
    count = views.shape[1]
    numbers = torch.arange(count, device=views.device)
    apart = (numbers - numbers[:, None]) % count
    near = (apart <= 1) | (apart == count - 1)
    lowest = torch.finfo(views.dtype).min
    return torch.zeros_like(near, dtype=views.dtype).masked_fill(~near, lowest)[None, None]


__all__ = ["VLNWaypointsConfig", "VLNWaypointsModel"]
