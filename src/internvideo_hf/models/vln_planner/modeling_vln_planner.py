"""The planner of vision-language navigation in continuous environments, HAMT with InternVideo's features of views.

An agent that follows an instruction sees a panorama of views, and candidates: places nearby that it can go to. At each
step the planner scores the candidates and stopping. It reads the words of the instruction, the panoramas and choices
of all steps before, and what there is now: a token for each candidate, for stopping, and for each view in which no
candidate lies. Words and the rest attend to each other in layers like LXMERT's.

Views are in order of their cameras everywhere: view `i` looks `360 * i / num_views` degrees to the left of straight
ahead. Angles of places are radians to the left, too. The original orders some views clockwise and others
counter-clockwise, by which its weights fuse each still with the video of another view: `mirrored_video_views`.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import nn
from torch.nn.functional import cross_entropy
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from internvideo_hf.models.common.base import VideoPreTrainedModel
from internvideo_hf.models.common.layers import Attention, PostNormLayer
from internvideo_hf.models.common.narrowing import known
from internvideo_hf.models.vln_planner.configuration_vln_planner import VLNPlannerConfig

ANGLE_SIZE = 4
"""Numbers that describe an angle or a distance."""
MOST_DISTANCE = 3.0  # meters, by which distances are divided
VIEW, CANDIDATE, STOP = 0, 1, 2
"""Kinds of what is seen, rows of the planner's table."""


@dataclass
class VLNPlannerOutput(ModelOutput):
    """A decision.

    Attributes:
        loss: cross-entropy of the labels, where they were given; the mean over samples.
        logits: `(batch, candidates + 1)`; the last is stopping, and -inf stands where there is no candidate.
        value: estimated return of the state, `(batch,)`, where the model has a critic.
        state: `(batch, hidden_size)`.
        text_embeds: the encoded words, `(batch, words, hidden_size)`; the next step can take them over.
        hidden_states, attentions: of the layers of the language; none where `text_embeds` were given.
        cross_attentions: of each cross layer two: by which words attend to the history and what is seen, `(batch,
            heads, words, tokens)`, and by which these attend to words.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    value: torch.Tensor | None = None
    state: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    cross_attentions: tuple[torch.Tensor, ...] | None = None


class Observation(NamedTuple):
    """What is seen now, a row for each candidate, for stopping, and for each view.

    Attributes:
        rgb: features of views from videos and stills, `(b, n, rgb_size)`.
        depth: features of their depth, `(b, n, depth_size)`.
        angles: `(b, n, 4)`.
        distances: `(b, n, 4)`.
        types: `(n,)`: CANDIDATE, STOP or VIEW.
        mask: `(b, n)`, False where there is no candidate, and for views that a candidate lies in.
    """

    rgb: torch.Tensor
    depth: torch.Tensor
    angles: torch.Tensor
    distances: torch.Tensor
    types: torch.Tensor
    mask: torch.Tensor


def angle_features(angles: torch.Tensor) -> torch.Tensor:
    """Describe angles as the planner sees them: by sine and cosine to the right, and no elevation.

    Args:
        angles: radians to the left, of any shape.

    Returns:
        `(..., 4)`.
    """
    level = torch.zeros_like(angles)
    return torch.stack([-angles.sin(), angles.cos(), level, level + 1], dim=-1)


def view_angles(views: int, device: torch.device | None = None) -> torch.Tensor:
    """Return the angles of the views of a panorama, `(views,)` in radians to the left."""
    return torch.arange(views, device=device) * (2 * math.pi / views)


def observe(
    rgb: torch.Tensor,
    depth: torch.Tensor,
    views: torch.Tensor,
    angles: torch.Tensor,
    distances: torch.Tensor,
    mask: torch.Tensor,
) -> Observation:
    """Put together what the planner sees: candidates, stopping, and the views that no candidate lies in.

    Args:
        rgb: of the panorama, `(b, v, rgb_size)`.
        depth: of the panorama, `(b, v, depth_size)`.
        views: the view that each candidate lies in, `(b, k)`.
        angles: of candidates, `(b, k)`, radians to the left.
        distances: of candidates, `(b, k)`, meters.
        mask: `(b, k)`, True for candidates and False for padding.

    Returns:
        With `n = k + 1 + v`.
    """
    batch, count = rgb.shape[:2]

    def rows(features: torch.Tensor) -> torch.Tensor:
        chosen = features.gather(1, views[..., None].expand(-1, -1, features.shape[-1]))
        return torch.cat([chosen, torch.zeros_like(features[:, :1]), features], dim=1)

    around = angle_features(view_angles(count, angles.device)).to(angles.dtype).expand(batch, -1, -1)
    of_candidates = angle_features(angles)
    nothing = torch.zeros_like(around[:, :1])
    far = (distances / MOST_DISTANCE)[..., None].expand(-1, -1, ANGLE_SIZE)
    taken = (torch.nn.functional.one_hot(views, count) * mask[..., None].long()).sum(dim=1) > 0
    kinds = torch.tensor([CANDIDATE, STOP, VIEW], device=rgb.device)
    sizes = torch.tensor([views.shape[1], 1, count], device=rgb.device)
    return Observation(
        rows(rgb),
        rows(depth),
        torch.cat([of_candidates, nothing, around], dim=1),
        torch.cat([far, nothing, torch.zeros_like(around)], dim=1),
        kinds.repeat_interleave(sizes, output_size=views.shape[1] + 1 + count),
        torch.cat([mask, torch.ones_like(taken[:, :1]), ~taken], dim=1),
    )


class VLNPlannerFeatures(nn.Module):
    """Features in the width of the tokens, normalized.

    Args:
        config: of the model.
        size: channels of the features.
    """

    def __init__(self, config: VLNPlannerConfig, size: int):
        super().__init__()
        self.linear = nn.Linear(size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layer_norm(self.linear(features.to(self.layer_norm.weight.dtype)))


class VLNPlannerTextEmbeddings(nn.Module):
    """Words with their positions, as in BERT, and the table of the types of tokens."""

    def __init__(self, config: VLNPlannerConfig):
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        words = self.word_embeddings(input_ids)
        types = self.token_type_embeddings(torch.zeros_like(positions)).to(words.device)
        return self.dropout(self.layer_norm(words + self.position_embeddings(positions).to(words.device) + types))


class VLNPlannerObservationEmbeddings(nn.Module):
    """What is seen now, as tokens."""

    def __init__(self, config: VLNPlannerConfig):
        super().__init__()
        self.rgb = VLNPlannerFeatures(config, config.rgb_size)
        self.depth = VLNPlannerFeatures(config, config.depth_size)
        self.angle = VLNPlannerFeatures(config, ANGLE_SIZE)
        self.distance = VLNPlannerFeatures(config, ANGLE_SIZE)
        self.nav_type_embeddings = nn.Embedding(3, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, observation: Observation, token_type: torch.Tensor) -> torch.Tensor:
        """Return `(b, n, c)` of an observation, of which `rgb` is projected, and the embedding of its token type."""
        tokens = self.rgb(observation.rgb)
        others = (
            self.depth(observation.depth),
            self.angle(observation.angles),
            self.distance(observation.distances),
            token_type,
            self.nav_type_embeddings(observation.types),
        )
        for other in others:
            tokens = tokens + other.to(tokens.device)
        return self.dropout(self.layer_norm(tokens))


class VLNPlannerHistoryEmbeddings(nn.Module):
    """The start, and past steps: what was straight ahead, where the agent went, and what was around."""

    def __init__(self, config: VLNPlannerConfig):
        super().__init__()
        width = config.hidden_size
        self.cls_embeddings = nn.Embedding(1, width)
        self.type_embeddings = nn.Embedding(1, width)
        self.position_embeddings = nn.Embedding(config.max_history_steps, width)
        self.rgb = VLNPlannerFeatures(config, config.rgb_size)
        self.angle = VLNPlannerFeatures(config, ANGLE_SIZE)
        self.panorama_rgb = VLNPlannerFeatures(config, config.rgb_size)
        self.panorama_angle = VLNPlannerFeatures(config, ANGLE_SIZE)
        self.panorama_layers = nn.ModuleList([PostNormLayer(config) for _ in range(config.num_panorama_layers)])
        self.layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, rgb: torch.Tensor, angles: torch.Tensor, first: int = 0) -> torch.Tensor:
        """Embed steps, and the start before the first of them.

        Args:
            rgb: of the panoramas, projected, `(b, t, v, rgb_size)`; `t` may be 0.
            angles: of where the agent went, `(b, t, 4)`.
            first: number of the first of these steps; the start is embedded with step 0 only.

        Returns:
            `(b, t, c)`, or `(b, 1 + t, c)` with the start.
        """
        batch, steps, views = rgb.shape[:3]
        kind = self.type_embeddings(torch.zeros(batch, 1, dtype=torch.long, device=rgb.device))
        tokens = []
        if first == 0:
            start = self.cls_embeddings(torch.zeros(batch, 1, dtype=torch.long, device=rgb.device))
            tokens.append(start + kind.to(start.device))
        if steps:
            places = first + torch.arange(steps, device=rgb.device)
            ahead = self.rgb(rgb[:, :, 0])
            around = self._panoramas(rearrange(rgb, "b t v c -> (b t) v c"), views)
            parts = (self.angle(angles), self.position_embeddings(places), kind)
            for part in (*parts, rearrange(around, "(b t) c -> b t c", b=batch)):
                ahead = ahead + part.to(ahead.device)
            tokens.append(ahead)
        together = torch.cat([part.to(tokens[0].device) for part in tokens], dim=1)
        return self.dropout(self.layer_norm(together))

    def _panoramas(self, rgb: torch.Tensor, views: int) -> torch.Tensor:
        tokens = self.panorama_rgb(rgb)
        angles = self.panorama_angle(angle_features(view_angles(views, tokens.device)))
        tokens = self.dropout(tokens + angles.to(tokens.device))
        for layer in self.panorama_layers:
            tokens = layer(tokens)
        return tokens.mean(dim=1)


class VLNPlannerCrossLayer(nn.Module):
    """Words and what is seen attend to each other by the same weights, and each to itself, as in LXMERT."""

    def __init__(self, config: VLNPlannerConfig):
        super().__init__()
        self.cross_attn = Attention(config, config.hidden_size, config.num_attention_heads)
        self.cross_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.text = PostNormLayer(config)
        self.visual = PostNormLayer(config)

    def forward(
        self,
        text: torch.Tensor,
        visual: torch.Tensor,
        text_mask: torch.Tensor,
        visual_mask: torch.Tensor,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        read = self.cross_attn(text, context=visual, attention_mask=visual_mask, **kwargs)[0]
        seen = self.cross_attn(visual, context=text, attention_mask=text_mask, **kwargs)[0]
        text = self.cross_layer_norm(text + self.dropout(read))
        visual = self.cross_layer_norm(visual + self.dropout(seen))
        return self.text(text, text_mask, **kwargs), self.visual(visual, visual_mask, **kwargs)


class VLNPlannerActionHead(nn.Module):
    """The score of each candidate."""

    def __init__(self, config: VLNPlannerConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.output = nn.Linear(config.hidden_size, 1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.layer_norm(self.dense(tokens).relu())
        return self.output(self.dropout(hidden))[..., 0]


class VLNPlannerCritic(nn.Module):
    """The estimated return of a state."""

    def __init__(self, config: VLNPlannerConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.critic_hidden_size)
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(config.critic_hidden_size, 1)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return self.output(self.dropout(self.dense(state).relu()))[..., 0]


class VLNPlannerForNavigation(VideoPreTrainedModel):
    """Scores the places that an agent can go to next, and stopping, by an instruction."""

    config: VLNPlannerConfig
    base_model_prefix = "vln_planner"
    main_input_name = "input_ids"
    input_modalities = ["text", "video"]
    accepts_loss_kwargs = False  # the loss is a mean over the samples that have a label
    # Masks are additive, which flash attention does not take, nor flex attention in this form.
    _supports_flash_attn = False
    _supports_flex_attn = False
    _no_split_modules = ["PostNormLayer", "VLNPlannerCrossLayer", "VLNPlannerHistoryEmbeddings"]
    _can_record_outputs = {
        "hidden_states": OutputRecorder(PostNormLayer, layer_name="text_layers"),
        "attentions": OutputRecorder(Attention, index=1, layer_name="text_layers"),
        "cross_attentions": OutputRecorder(Attention, index=1, layer_name="cross_attn"),
    }
    # The backbone is what the released training freezes: words, positions, their layers, and the history.
    layer_group_rules = {
        r"embeddings\.token_type_embeddings": "token_types",
        r"embeddings": "embeddings.text",
        r"history_embeddings": "embeddings.history",
        r"text_layers\.(\d+)": "layers.{}",
        r"view_fusion|rgb_projection": "views",
        r"observation_embeddings": "observations",
        r"cross_layers\.(\d+)": "cross_layers.{}",
        r"action_head|critic": "head",
    }
    _input_embed_layer = "word_embeddings"

    def __init__(self, config: VLNPlannerConfig):
        super().__init__(config)
        self.embeddings = VLNPlannerTextEmbeddings(config)
        self.text_layers = nn.ModuleList([PostNormLayer(config) for _ in range(config.num_hidden_layers)])
        self.view_fusion = nn.Linear(config.video_size + config.still_size, config.rgb_size)
        self.feature_dropout = nn.Dropout(config.feature_dropout)
        self.rgb_projection = nn.Linear(config.rgb_size, config.rgb_size)
        self.history_embeddings = VLNPlannerHistoryEmbeddings(config)
        self.observation_embeddings = VLNPlannerObservationEmbeddings(config)
        self.cross_layers = nn.ModuleList([VLNPlannerCrossLayer(config) for _ in range(config.num_cross_layers)])
        self.action_head = VLNPlannerActionHead(config)
        self.critic = VLNPlannerCritic(config) if config.use_critic else None
        self.post_init()

    def encode_text(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> torch.Tensor:
        """Encode instructions, once for all steps.

        Args:
            input_ids: `(batch, words)`.
            attention_mask: `(batch, words)`, 0 on padding; None for none.
            kwargs: for the attention kernel.

        Returns:
            `(batch, words, hidden_size)`.

        Raises:
            ValueError: if the shape does not fit the model.
        """
        if input_ids.ndim != 2 or not 1 <= input_ids.shape[1] <= self.config.max_position_embeddings:
            raise ValueError(
                f"input_ids has the shape {tuple(input_ids.shape)}, expected (batch, words) with 1 to "
                f"{self.config.max_position_embeddings} words. Cut the instruction."
            )
        tokens = self.embeddings(input_ids)
        mask = additive(_text_mask(attention_mask, tokens), tokens)
        for layer in self.text_layers:
            tokens = layer(tokens, mask.to(tokens.device), **kwargs)
        return tokens

    def fuse_views(self, video_features: torch.Tensor, still_features: torch.Tensor) -> torch.Tensor:
        """Join the features of the videos and stills of panoramas.

        Args:
            video_features: `(..., views, video_size)`.
            still_features: `(..., views, still_size)`.

        Returns:
            `(..., views, rgb_size)`.

        Raises:
            ValueError: if a shape does not fit the model.
        """
        config = self.config
        for name, features, size in (
            ("video_features", video_features, config.video_size),
            ("still_features", still_features, config.still_size),
        ):
            if features.ndim < 3 or tuple(features.shape[-2:]) != (config.num_views, size):
                raise ValueError(
                    f"{name} has the shape {tuple(features.shape)}, expected (batch, {config.num_views}, {size}): "
                    "a row for each view, in the order of the cameras."
                )
        if config.mirrored_video_views:
            mirrored = -torch.arange(config.num_views, device=video_features.device) % config.num_views
            video_features = video_features.index_select(-2, mirrored)
        together = torch.cat([video_features, still_features.to(video_features.device)], dim=-1)
        return self.view_fusion(together.to(self.dtype))

    def embed_history(
        self,
        video_features: torch.Tensor,
        still_features: torch.Tensor,
        angles: torch.Tensor,
        first: int = 0,
    ) -> torch.Tensor:
        """Embed the start and past steps.

        Args:
            video_features: of the panorama of each step, `(batch, steps, views, video_size)`; there may be no steps.
            still_features: `(batch, steps, views, still_size)`.
            angles: `angle_features` of the chosen candidates, `(batch, steps, 4)`; zeros for stopping.
            first: number of the first of these steps.

        Returns:
            `(batch, 1 + steps, hidden_size)`, or `(batch, steps, hidden_size)` where `first` is not 0.

        Raises:
            ValueError: if there are more steps than the model has positions for.
        """
        if first + video_features.shape[1] > self.config.max_history_steps:
            raise ValueError(
                f"There are {first + video_features.shape[1]} past steps, and the model has positions for "
                f"{self.config.max_history_steps}. Stop earlier."
            )
        rgb = self.fuse_views(video_features, still_features)
        return self.history_embeddings(self._project(rgb), angles, first)

    def _project(self, rgb: torch.Tensor) -> torch.Tensor:
        return self.rgb_projection(self.feature_dropout(rgb))

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        still_features: torch.Tensor | None = None,
        depth_features: torch.Tensor | None = None,
        candidate_views: torch.Tensor | None = None,
        candidate_angles: torch.Tensor | None = None,
        candidate_distances: torch.Tensor | None = None,
        candidate_mask: torch.Tensor | None = None,
        past_video_features: torch.Tensor | None = None,
        past_still_features: torch.Tensor | None = None,
        past_angle_features: torch.Tensor | None = None,
        past_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        text_embeds: torch.Tensor | None = None,
        history_embeds: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> VLNPlannerOutput:
        """Score the candidates of one step, and stopping.

        Args:
            input_ids: the instruction, `(batch, words)`.
            attention_mask: `(batch, words)`, 0 on padding; None for no padding.
            video_features: of the videos of the panorama, `(batch, views, video_size)`.
            still_features: of its stills, `(batch, views, still_size)`.
            depth_features: of its depth, `(batch, views, depth_size)`.
            candidate_views: the view that each candidate lies in, `(batch, candidates)`.
            candidate_angles: `(batch, candidates)`, radians to the left.
            candidate_distances: `(batch, candidates)`, meters.
            candidate_mask: `(batch, candidates)`, False on padding; None for no padding.
            past_video_features: of the panoramas of past steps, `(batch, steps, views, video_size)`; None for none.
            past_still_features: `(batch, steps, views, still_size)`.
            past_angle_features: `angle_features` of where the agent went, `(batch, steps, 4)`.
            past_mask: `(batch, steps)`, False on padding, which stands at the end; None for no padding.
            labels: the right choice, `(batch,)`: number of a candidate, or `candidates` for stopping; -100 is
                ignored.
            text_embeds: of `encode_text`, in place of `input_ids`.
            history_embeds: of `embed_history`, in place of past panoramas, `(batch, 1 + steps, hidden_size)`.
            kwargs: for the attention kernel.

        Raises:
            ValueError: if inputs are missing or do not fit each other.
        """
        if video_features is None or still_features is None or depth_features is None:
            raise ValueError("Give the features of the panorama: video_features, still_features and depth_features.")
        if candidate_views is None or candidate_angles is None or candidate_distances is None:
            raise ValueError("Give the candidates: candidate_views, candidate_angles and candidate_distances.")
        if (input_ids is None) == (text_embeds is None):
            raise ValueError("Give the instruction either as input_ids or as text_embeds.")
        past = (past_video_features, past_still_features, past_angle_features)
        if history_embeds is not None and any(part is not None for part in past):
            raise ValueError("Give past steps either as history_embeds or as their features.")
        rgb = self.fuse_views(video_features, still_features)
        self._check(rgb, depth_features, (candidate_views, candidate_angles, candidate_distances), candidate_mask)
        if candidate_mask is None:
            candidate_mask = torch.ones_like(candidate_views, dtype=torch.bool)
        places = (candidate_views, candidate_angles, candidate_distances, candidate_mask.bool())
        observation = observe(rgb, depth_features.to(rgb.device), *(part.to(rgb.device) for part in places))
        text = text_embeds
        if text is None:
            text = self.encode_text(known(input_ids), attention_mask, **kwargs)
        if history_embeds is None:
            history_embeds = self.embed_history(*self._past(past, video_features, still_features))
        words, history, seen = self._attend(text, attention_mask, history_embeds, past_mask, observation, kwargs)
        count = candidate_views.shape[1] + 1
        logits = self.action_head(seen[:, :count] * words[:, :1])
        logits = logits.masked_fill(~observation.mask[:, :count].to(logits.device), -torch.inf)
        state = words[:, 0] * history[:, 0]
        return VLNPlannerOutput(
            loss=None if labels is None else cross_entropy(logits.float(), labels.to(logits.device)),
            logits=logits,
            value=None if self.critic is None else self.critic(state),
            state=state,
            text_embeds=text,
        )

    def _attend(
        self,
        text: torch.Tensor,
        attention_mask: torch.Tensor | None,
        history: torch.Tensor,
        past_mask: torch.Tensor | None,
        observation: Observation,
        kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return words, history and what is seen behind the cross layers."""
        of_seen = torch.ones(1, dtype=torch.long, device=observation.types.device)
        # Stopping has zeros for features, and what the projection makes of them.
        observation = observation._replace(rgb=self._project(observation.rgb))
        seen = self.observation_embeddings(observation, self.embeddings.token_type_embeddings(of_seen))
        history = history.to(seen.device)
        steps = history.shape[1]
        text_mask = additive(_text_mask(attention_mask, text), text)
        real = torch.ones(history.shape[:2], dtype=torch.bool, device=seen.device)
        if past_mask is not None:
            real = torch.cat([real[:, :1], past_mask.bool().to(seen.device)], dim=1)
        visual = torch.cat([history, seen], dim=1)
        visual_mask = additive(torch.cat([real, observation.mask.to(seen.device)], dim=1), visual)
        for layer in self.cross_layers:
            text, visual = layer(text, visual, text_mask.to(text.device), visual_mask, **kwargs)
        return text, visual[:, :steps], visual[:, steps:]

    def _past(
        self, past: tuple[torch.Tensor | None, ...], video: torch.Tensor, still: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the features of past steps, of which there are none at the first."""
        if all(part is None for part in past):
            return video[:, None][:, :0], still[:, None][:, :0], video.new_zeros(video.shape[0], 0, ANGLE_SIZE)
        past_video, past_still, angles = past
        if past_video is None or past_still is None or angles is None:
            raise ValueError(
                "Give past_video_features, past_still_features and past_angle_features together, or none of them."
            )
        return past_video, past_still, angles

    def _check(
        self,
        rgb: torch.Tensor,
        depth: torch.Tensor,
        candidates: tuple[torch.Tensor, ...],
        mask: torch.Tensor | None,
    ) -> None:
        """Refuse depth or candidates of another shape than the panorama asks for."""
        batch, views = rgb.shape[:2]
        expected = (batch, views, self.config.depth_size)
        if tuple(depth.shape) != expected:
            raise ValueError(f"depth_features has the shape {tuple(depth.shape)}, expected {expected}.")
        shapes = [tuple(part.shape) for part in (*candidates, *(() if mask is None else (mask,)))]
        if len(shapes[0]) != 2 or shapes[0][0] != batch or any(shape != shapes[0] for shape in shapes):
            raise ValueError(
                f"Views, angles, distances and mask of candidates have the shapes {', '.join(map(str, shapes))}, "
                f"expected ({batch}, candidates) for each."
            )


def additive(mask: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return what attention adds to its scores, `(b, 1, 1, n)`.

    Args:
        mask: `(b, n)`, True for the tokens that are attended to.
        tokens: of the same type of numbers.
    """
    lowest = torch.finfo(tokens.dtype).min
    return torch.zeros_like(mask, dtype=tokens.dtype).masked_fill(~mask, lowest)[:, None, None]


def _text_mask(attention_mask: torch.Tensor | None, tokens: torch.Tensor) -> torch.Tensor:
    if attention_mask is None:
        return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    return attention_mask.bool().to(tokens.device)


__all__ = ["VLNPlannerConfig", "VLNPlannerForNavigation"]
