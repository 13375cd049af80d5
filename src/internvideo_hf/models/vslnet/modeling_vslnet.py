"""VSLNet (arXiv 2004.13931): the stretch of a video that a sentence asks for, from features of both.

An encoder of convolutions and attention reads the rows of the video, and the same encoder the words. Each row attends
to the words (context-query attention), and is scaled by how likely it is to lie in the answer or close to it
(query-guided highlighting). A second encoder reads the result for the first row of the answer, and once more, from
there, for its last row.

For Ego4D's natural-language queries InternVideo released features of its VideoMAE-L, but neither code nor weights of
the head; VSLNet is the baseline of that task. So this is our reading of VSLNet's paper, with its sizes, and with words
from a text tower in place of GloVe vectors and characters. Where we had a choice, or chose otherwise:

- The predictor of start and end is a transformer, which the paper's code has beside the paper's two LSTMs.
- Losses are those of the paper's code, the sum of both cross-entropies plus five times that of highlighting, in which
  highlighted rows count double; but each video weighs the same, however long it is.
- Attention has a projection of its output, as usual, and the feed-forward layer behind it is linear.
- Padding is not read, so that the answer does not depend on it. The paper's code lets it leak through convolutions.
- Videos longer than the table of positions re-sample the table. The paper's code averages neighboring features
  instead, until they fit.
- New weights are those of the paper's code (Xavier), but for positions, which start close to 0.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import relu
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from internvideo_hf.models.common.base import VideoPreTrainedModel
from internvideo_hf.models.common.layers import Attention
from internvideo_hf.models.vslnet.configuration_vslnet import VSLNetConfig
from internvideo_hf.models.vslnet.losses_vslnet import check_labels, highlight_loss, highlight_targets, span_loss


@dataclass
class VSLNetForTemporalGroundingOutput(ModelOutput):
    """Where the answer begins and ends.

    Attributes:
        loss: `span_loss` plus the weighted `highlight_loss`, where labels were given.
        span_loss: of first and last rows.
        highlight_loss: of highlighted rows.
        start_logits: score of each row to be the first of the answer, `(batch, rows)`; -inf on padding.
        end_logits: to be the last one, likewise.
        highlight_scores: probability of each row to lie in the answer or close to it, `(batch, rows)`; 0 on padding.
        attentions: of the shared encoder: to rows, `(batch, heads, rows, rows)`, and to words, `(batch, heads, words,
            words)`.
    """

    loss: torch.Tensor | None = None
    span_loss: torch.Tensor | None = None
    highlight_loss: torch.Tensor | None = None
    start_logits: torch.Tensor | None = None
    end_logits: torch.Tensor | None = None
    highlight_scores: torch.Tensor | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


def masked(hidden_states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Set padding to 0, whatever it holds.

    Args:
        hidden_states: `(b, n, c)`.
        mask: `(b, n)`, True on what is real.
    """
    return hidden_states.masked_fill(~mask.to(hidden_states.device)[..., None], 0.0)


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor, dim: int) -> torch.Tensor:
    """Compute a softmax over what is real, in float32.

    Args:
        scores: of any shape.
        mask: broadcastable to it, True on what is real.
        dim: over which probabilities sum to 1.
    """
    hidden = torch.finfo(torch.float32).min  # not -inf, which gives NaN where nothing is real
    return scores.float().masked_fill(~mask, hidden).softmax(dim=dim).to(scores.dtype)


class VSLNetPositions(nn.Embedding):
    """Learned positions.

    A sequence that is longer than the table re-samples it linearly, by its own length: padding changes nothing.
    """

    def forward(self, mask: torch.Tensor) -> torch.Tensor:
        """Return the positions of sequences, `(b, n, c)`.

        Args:
            mask: `(b, n)`, True on what is real, which comes first.
        """
        table = self.num_embeddings
        lengths = mask.sum(dim=1, keepdim=True).clamp(min=1)
        # Half-pixel centers; one step of a sequence that fits is one row of the table, without rounding.
        steps = lengths.clamp(max=table) / lengths
        places = ((torch.arange(mask.shape[1], device=mask.device) + 0.5) * steps - 0.5).clamp(0, table - 1)
        lower = places.long()
        weights = (places - lower)[..., None].to(self.weight.dtype)
        between: torch.Tensor = super().forward((lower + 1).clamp(max=table - 1)) * weights
        return super().forward(lower) * (1 - weights) + between


class VSLNetConvLayer(GradientCheckpointingLayer):
    """A depth-wise separable convolution, added to its input."""

    def __init__(self, config: VSLNetConfig):
        super().__init__()
        width, kernel = config.hidden_size, config.kernel_size
        self.layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        self.pointwise = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        normalized = masked(self.layer_norm(hidden_states), mask)
        convolved = self.depthwise(normalized.transpose(1, 2)).transpose(1, 2)
        branch: torch.Tensor = self.dropout(relu(self.pointwise(convolved)))
        return hidden_states + branch


class VSLNetTransformerLayer(GradientCheckpointingLayer):
    """Self-attention and a linear layer, each added to its input."""

    def __init__(self, config: VSLNetConfig):
        super().__init__()
        width = config.hidden_size
        self.layer_norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.self_attn = Attention(config, width, config.num_attention_heads)
        self.layer_norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.feed_forward = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        lowest = torch.finfo(hidden_states.dtype).min
        bias = torch.zeros_like(mask, dtype=hidden_states.dtype).masked_fill(~mask, lowest)[:, None, None]
        attended = self.self_attn(self.layer_norm1(hidden_states), attention_mask=bias, **kwargs)[0]
        hidden_states = hidden_states + self.dropout(attended)
        branch: torch.Tensor = self.dropout(self.feed_forward(self.layer_norm2(hidden_states)))
        return hidden_states + branch


class VSLNetEncoder(nn.Module):
    """Positions, convolutions, and a layer of attention."""

    def __init__(self, config: VSLNetConfig):
        super().__init__()
        self.positions = VSLNetPositions(config.max_positions, config.hidden_size)
        self.convs = nn.ModuleList([VSLNetConvLayer(config) for _ in range(config.num_conv_layers)])
        self.layer = VSLNetTransformerLayer(config)

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Encode sequences.

        Args:
            hidden_states: `(b, n, c)`.
            mask: `(b, n)`, True on what is real.
            kwargs: for the attention kernel.
        """
        hidden_states = hidden_states + self.positions(mask)
        for conv in self.convs:
            hidden_states = conv(hidden_states, mask)
        return masked(self.layer(hidden_states, mask, **kwargs), mask)


class VSLNetFusion(nn.Module):
    """Context-query attention: what the words say about each row, and a summary of all words beside it."""

    def __init__(self, config: VSLNetConfig):
        super().__init__()
        width = config.hidden_size
        self.video_score = nn.Linear(width, 1, bias=False)
        self.text_score = nn.Linear(width, 1, bias=False)
        self.joint_score = nn.Parameter(torch.empty(width))
        self.attended = nn.Linear(4 * width, width)
        self.word_score = nn.Linear(width, 1, bias=False)
        self.output = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(
        self, video: torch.Tensor, text: torch.Tensor, mask: torch.Tensor, text_mask: torch.Tensor
    ) -> torch.Tensor:
        """Return rows that have seen the words, `(b, n, c)`.

        Args:
            video: rows, `(b, n, c)`.
            text: words, `(b, m, c)`.
            mask: `(b, n)`, True on real rows.
            text_mask: `(b, m)`, True on real words.
        """
        rows, words = self.dropout(video), self.dropout(text)
        scores = self.video_score(rows) + self.text_score(words).mT + (rows * self.joint_score) @ words.mT
        to_words = masked_softmax(scores, text_mask[:, None], dim=2)
        to_rows = masked_softmax(scores, mask[..., None], dim=1)
        from_words, from_rows = to_words @ text, to_words @ (to_rows.mT @ video)
        aware = self.attended(torch.cat([video, from_words, video * from_words, video * from_rows], dim=2))
        summary = masked_softmax(self.word_score(text), text_mask[..., None], dim=1).mT @ text
        return masked(self.output(torch.cat([aware, summary.expand_as(aware)], dim=2)), mask)


class VSLNetPredictor(nn.Module):
    """Scores of first and last rows, the latter conditioned on the former."""

    def __init__(self, config: VSLNetConfig):
        super().__init__()
        width = config.hidden_size
        self.encoder = VSLNetEncoder(config)
        for name in ("start", "end"):
            self.add_module(f"{name}_norm", nn.LayerNorm(width, eps=config.layer_norm_eps))
            self.add_module(f"{name}_hidden", nn.Linear(2 * width, width))
            self.add_module(f"{name}_output", nn.Linear(width, 1))

    def forward(self, rows: torch.Tensor, mask: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scores of first and last rows, `(b, n)` each; of padding, -inf.

        Args:
            rows: `(b, n, c)`.
            mask: `(b, n)`, True on real rows.
            kwargs: for the attention kernel.
        """
        starts = self.encoder(rows, mask, **kwargs)
        ends = self.encoder(starts, mask, **kwargs)
        return self._score("start", starts, rows, mask), self._score("end", ends, rows, mask)

    def _score(self, name: str, encoded: torch.Tensor, rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        both = torch.cat([self.get_submodule(f"{name}_norm")(encoded), rows], dim=2)
        scores = self.get_submodule(f"{name}_output")(relu(self.get_submodule(f"{name}_hidden")(both)))
        return scores[..., 0].masked_fill(~mask, -torch.inf)


class VSLNetPreTrainedModel(VideoPreTrainedModel):
    config: VSLNetConfig
    base_model_prefix = "vslnet"
    main_input_name = "features"
    input_modalities = ["time", "text"]
    # Padding needs masks that flash attention does not take, nor flex attention in this form.
    _supports_flash_attn = False
    _supports_flex_attn = False
    _no_split_modules = ["VSLNetEncoder", "VSLNetFusion", "VSLNetPredictor"]
    _can_record_outputs = {"attentions": OutputRecorder(Attention, index=1, layer_name="self_attn")}
    _input_embed_layer = "video_projection"
    layer_group_rules = {
        r"video_projection|text_projection": "embeddings",
        r"encoder": "layers.0",
        r"fusion": "fusion",
        r"highlighter|predictor": "head",
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize weights as the paper's code does."""
        if isinstance(module, nn.Linear | nn.Conv1d):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, VSLNetFusion):
            bound = (3 / self.config.hidden_size) ** 0.5
            init.uniform_(module.joint_score, -bound, bound)
        else:
            super()._init_weights(module)


class VSLNetModel(VSLNetPreTrainedModel):
    """Rows of a video that have seen a sentence, without highlighting and predictor."""

    def __init__(self, config: VSLNetConfig):
        super().__init__(config)
        self.video_projection = nn.Linear(config.video_size, config.hidden_size)
        self.text_projection = nn.Linear(config.text_size, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.encoder = VSLNetEncoder(config)
        self.fusion = VSLNetFusion(config)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        features: torch.Tensor,
        feature_mask: torch.Tensor | None = None,
        text_features: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        """Read videos and sentences.

        Args:
            features: of each video, `(batch, rows, video_size)`.
            feature_mask: `(batch, rows)`, True or 1 on real rows, which come first; None if all are.
            text_features: of the words of each sentence, `(batch, words, text_size)`.
            text_mask: `(batch, words)`, True or 1 on real words, likewise.
            kwargs: for the attention kernel.

        Raises:
            ValueError: if the shapes do not fit the model or each other.
        """
        if text_features is None:
            raise ValueError("Give text_features, the features of the words of each sentence.")
        config = self.config
        mask = check_input("feature", features, feature_mask, config.video_size)
        words_mask = check_input("text", text_features, text_mask, config.text_size)
        # Not by `len`, which would bind an exported graph to one number.
        if features.shape[0] != text_features.shape[0]:
            raise ValueError(
                f"There are {features.shape[0]} videos and {text_features.shape[0]} sentences. Give one sentence for "
                "each video; repeat the video for several."
            )
        # Padding may hold anything, which a product would not make 0. Extractors write float16 or float32.
        video = self.video_projection(self.dropout(masked(features, mask).to(self.dtype)))
        text = self.text_projection(self.dropout(masked(text_features, words_mask).to(self.dtype)))
        video = self.encoder(video, mask.to(video.device), **kwargs)
        text = self.encoder(text.to(video.device), words_mask.to(video.device), **kwargs)
        masks = mask.to(video.device), words_mask.to(video.device)
        return BaseModelOutput(last_hidden_state=self.fusion(video, text, *masks))


def check_input(kind: str, features: torch.Tensor, mask: torch.Tensor | None, size: int) -> torch.Tensor:
    """Refuse features or a mask of another shape, and return the mask, `(batch, length)`, True on what is real."""
    name, rows = ("features", "rows") if kind == "feature" else ("text_features", "words")
    shape = tuple(features.shape)
    if features.ndim != 3 or shape[2] != size or shape[1] < 1:
        raise ValueError(
            f"{name} has the shape {shape}, expected (batch, {rows}, {size}): of the encoder that the model was "
            "trained with."
        )
    if mask is None:
        return torch.ones(shape[:2], dtype=torch.bool, device=features.device)
    if tuple(mask.shape) != shape[:2]:
        raise ValueError(f"{kind}_mask has the shape {tuple(mask.shape)}, expected {shape[:2]}.")
    return mask.to(features.device).bool()


class VSLNetForTemporalGrounding(VSLNetPreTrainedModel):
    """Finds the stretch of a video that a sentence asks for: scores of its first and its last row.

    `spans_vslnet.best_spans` makes spans of them.
    """

    accepts_loss_kwargs = False  # the loss is a mean over videos

    def __init__(self, config: VSLNetConfig):
        super().__init__(config)
        self.vslnet = VSLNetModel(config)
        self.highlighter = nn.Linear(config.hidden_size, 1)
        self.predictor = VSLNetPredictor(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        features: torch.Tensor,
        feature_mask: torch.Tensor | None = None,
        text_features: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> VSLNetForTemporalGroundingOutput:
        """Find answers.

        Args:
            features: of each video, `(batch, rows, video_size)`.
            feature_mask: `(batch, rows)`, True or 1 on real rows, which come first; None if all are.
            text_features: of the words of each sentence, `(batch, words, text_size)`.
            text_mask: `(batch, words)`, True or 1 on real words, likewise.
            labels: the first and the last row of each answer, `(batch, 2)`, int64.
            kwargs: for the attention kernel.

        Raises:
            ValueError: if the shapes do not fit the model or each other, or an answer does not lie in its video.
        """
        outputs = self.vslnet(features, feature_mask, text_features, text_mask, return_dict=True, **kwargs)
        rows, config = outputs.last_hidden_state, self.config
        mask = check_input("feature", features, feature_mask, config.video_size).to(rows.device)
        highlights = self.highlighter(rows)[..., 0].to(rows.device)
        scores = highlights.float().sigmoid().to(rows.dtype).masked_fill(~mask, 0.0)
        start_logits, end_logits = self.predictor(rows * scores[..., None], mask, **kwargs)
        result = VSLNetForTemporalGroundingOutput(
            start_logits=start_logits,
            end_logits=end_logits,
            highlight_scores=scores,
            attentions=outputs.attentions,
        )
        if labels is not None:
            check_labels(labels, mask)
            labels, mask = (part.to(start_logits.device) for part in (labels, mask))
            targets = highlight_targets(labels, mask, config.highlight_extension)
            result.span_loss = span_loss(start_logits, end_logits, labels)
            result.highlight_loss = highlight_loss(highlights.to(start_logits.device), targets, mask)
            result.loss = result.span_loss + config.highlight_loss_weight * result.highlight_loss
        return result


__all__ = ["VSLNetForTemporalGrounding", "VSLNetModel"]
