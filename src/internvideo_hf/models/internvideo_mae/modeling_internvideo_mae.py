"""VideoMAE (arXiv 2203.12602) as InternVideo trains it: a video ViT that learns by filling in hidden tubelets.

A clip is cut into tubelets of 2 frames x 16 x 16 pixels, which all attend to each other, in space and time alike.
Differences from a plain ViT: no class token; a fixed sine table counts the tubelets one after the other; no bias on
the keys. In pretraining 90 % of the tubelets are hidden; the encoder sees the rest, a narrow decoder fills them in.

Released: B 768 x 12, L 1024 x 24, H 1280 x 32 layers, decoders 384 x 4, 512 x 12, 512 x 8.
"""

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import nn
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from internvideo_hf.models.common.base import VideoPreTrainedModel, torch_default_
from internvideo_hf.models.common.classification import VideoClassifier
from internvideo_hf.models.common.deprecation import warn_deprecated
from internvideo_hf.models.common.hand_prediction import HandPredictionHead
from internvideo_hf.models.common.kernels import linear, project
from internvideo_hf.models.common.layers import (
    MLP,
    Attention,
    DropPath,
    LayerScale,
    as_clips,
    check_mask,
    drop_path_rates,
    select_tokens,
    sine_table,
    visible_mask,
)
from internvideo_hf.models.common.narrowing import known
from internvideo_hf.models.common.open_set import OpenSetHead
from internvideo_hf.models.internvideo_mae.configuration_internvideo_mae import InternVideoMAEConfig

TUBELETS = (
    "b (t pt) c (h ph) (w pw) -> b (t h w) (pt ph pw c)"  # the order of pixels inside a tubelet that targets have
)


@dataclass
class InternVideoMAEForPreTrainingOutput(ModelOutput):
    """The result of masked pretraining.

    Attributes:
        loss: mean squared error over the reconstructed hidden tubelets.
        logits: the reconstruction, `(batch, hidden tubelets, tubelet * patch * patch * channels)`, in the tubelets'
            order; inside a tubelet frame by frame, row by row, the channel fastest.
        hidden_states, attentions: of the encoder, over the visible tubelets.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class InternVideoMAEPositions(nn.Module):
    """Positions of all tubelets of a clip: a fixed sine table, or a learned one.

    The table is made for one grid. Other grids re-sample it as the released loader does: bicubic in space, then
    linear in time.
    """

    def __init__(self, config: InternVideoMAEConfig, width: int):
        super().__init__()
        side = known(config.position_image_size) // config.patch_size
        self.grid = (known(config.position_num_frames) // config.tubelet_size, side, side)
        self.width = width
        self.learned = config.position_embedding_type == "learned"
        if self.learned:
            self.table = nn.Parameter(torch.zeros(self.grid[0] * side * side, width))
        else:
            self.register_buffer("table", sine_table(self.grid[0] * side * side, width), persistent=False)

    def forward(self, grid: tuple[int, int, int]) -> torch.Tensor:
        """Return the positions `(t * h * w, width)` of a grid of tubelets."""
        if grid == self.grid:
            return self.table
        frames, height, width = self.grid
        table = rearrange(self.table.float(), "(t h w) c -> t c h w", t=frames, h=height)
        if grid[1:] != self.grid[1:]:
            table = nn.functional.interpolate(table, size=grid[1:], mode="bicubic", align_corners=False)
        if grid[0] != frames:
            rows = rearrange(table, "t c h w -> (h w) c t")
            rows = nn.functional.interpolate(rows, size=grid[0], mode="linear", align_corners=False)
            table = rearrange(rows, "(h w) c t -> t c h w", h=grid[1])
        return rearrange(table, "t c h w -> (t h w) c").to(self.table.dtype)

    def of_clips(self, grid: tuple[int, int, int], cells: torch.Tensor) -> torch.Tensor:
        """Return the positions `(batch, t * h * w, width)` of clips that end in padding, which has none.

        Args:
            grid: of the padded clips, `(t, h, w)`.
            cells: rows and columns of each clip itself, `(batch, 2)`.
        """
        places = self.table.new_zeros(len(cells), *grid, self.width)
        for clip, (height, width) in enumerate(cells.tolist()):
            own = (grid[0], height, width)
            places[clip, :, :height, :width] = self(own).unflatten(0, own)
        return places.flatten(1, 3)


class InternVideoMAETubeletEmbedding(nn.Module):
    """A linear map of every tubelet's pixels; its weight has the released shape of a 3-D convolution."""

    def __init__(self, config: InternVideoMAEConfig):
        super().__init__()
        self.tubelet = (config.tubelet_size, config.patch_size, config.patch_size)
        self.weight = nn.Parameter(torch.empty(config.hidden_size, config.num_channels, *self.tubelet))
        self.bias = nn.Parameter(torch.empty(config.hidden_size))

    def cut(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """Cut clips into tubelets, `(batch, tubelets, pixels)`; time is slowest, then row, then column."""
        frames, height, width = self.tubelet
        return rearrange(pixel_values_videos, TUBELETS, pt=frames, ph=height, pw=width)

    def forward(self, tubelets: torch.Tensor) -> torch.Tensor:
        # A matrix product, since a convolution could not leave hidden tubelets out.
        weight = rearrange(self.weight, "d c pt ph pw -> d (pt ph pw c)")
        return linear(tubelets.to(weight.dtype), weight, self.bias)


class InternVideoMAELayer(GradientCheckpointingLayer):
    """The pre-norm transformer layer, with drop path and, in some models, layer scale on both branches."""

    def __init__(self, config: InternVideoMAEConfig, width: int, heads: int, inner_width: int, drop_path: float):
        super().__init__()
        scale = config.layer_scale_init_value
        self.layer_norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.self_attn = Attention(config, width, heads, biases="qv" if config.qkv_bias else "")
        self.layer_scale1 = LayerScale(width, scale) if scale else nn.Identity()
        self.layer_norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = MLP(width, inner_width, config.hidden_act)
        self.layer_scale2 = LayerScale(width, scale) if scale else nn.Identity()
        self.drop_path = DropPath(drop_path)

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        attended = self.self_attn(self.layer_norm1(hidden_states), **kwargs)[0]
        hidden_states = hidden_states + self.drop_path(self.layer_scale1(attended))
        return hidden_states + self.drop_path(self.layer_scale2(self.mlp(self.layer_norm2(hidden_states))))


class InternVideoMAEPreTrainedModel(VideoPreTrainedModel):
    config: InternVideoMAEConfig
    base_model_prefix = "internvideo_mae"
    _no_split_modules = ["InternVideoMAELayer"]
    _input_embed_layer = "embeddings"
    layer_group_rules = {
        r"embeddings|positions": "embeddings",
        r"layers\.(\d+)": "layers.{}",
        r"encoder_to_decoder|decoder": "decoder",
        r"layernorm|pooler_layernorm|classifier|regressor": "head",
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize weights; rebuild the sine tables, which no file holds."""
        super()._init_weights(module)
        std = self.config.initializer_range
        if isinstance(module, InternVideoMAEPositions):
            if module.learned:
                init.trunc_normal_(module.table, std=std)
            else:
                init.copy_(module.table, sine_table(module.table.shape[0], module.width))
        elif isinstance(module, InternVideoMAETubeletEmbedding):
            torch_default_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, LayerScale):
            init.constant_(module.factor, module.start)
        elif isinstance(module, InternVideoMAEDecoder):
            init.trunc_normal_(module.mask_token, std=std)


class InternVideoMAEModel(InternVideoMAEPreTrainedModel):
    """The video encoder without a head."""

    export_kind = "encoder"
    _can_record_outputs = {
        "hidden_states": InternVideoMAELayer,
        "attentions": OutputRecorder(Attention, index=1, layer_name="self_attn"),
    }

    def __init__(self, config: InternVideoMAEConfig):
        super().__init__(config)
        self.embeddings = InternVideoMAETubeletEmbedding(config)
        self.positions = InternVideoMAEPositions(config, config.hidden_size)
        sizes = (config.hidden_size, config.num_attention_heads, known(config.intermediate_size))
        rates = drop_path_rates(config.drop_path_rate, config.num_hidden_layers)
        self.layers = nn.ModuleList([InternVideoMAELayer(config, *sizes, rate) for rate in rates])
        # A model pools its tokens and then normalizes, or the other way round; no released one does both.
        norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layernorm = nn.Identity() if config.use_mean_pooling else norm
        self.pooler_layernorm = norm if config.use_mean_pooling else nn.Identity()
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        bool_masked_pos: torch.Tensor | None = None,
        pixel_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Encode clips.

        Args:
            pixel_values_videos: normalized frames, `(batch, frames, channels, height, width)`.
            bool_masked_pos: `(batch, tubelets)`, True on hidden tubelets, which cost nothing; the same number in each
                row.
            pixel_mask: `(batch, height, width)`, True on pixels of the clip, False on padding at its right and bottom.
                No token attends to tubelets of padding alone, and the others have the positions of the clip by itself.
                Not together with `bool_masked_pos`. Pooled are all tokens.
            kwargs: for the layers.

        Returns:
            `last_hidden_state`: `(batch, visible tubelets, hidden_size)`, time slowest, then row, then column.
            `pooler_output`: their mean, `(batch, hidden_size)`.
            `hidden_states`, where asked for: of the embedding and every layer; with `output_hidden_states=[3, -1]` of
            the third layer and the last alone, None for the others.

        Raises:
            ValueError: if the shapes do not fit the model or each other.
        """
        hidden_states = self.embed(pixel_values_videos, bool_masked_pos, pixel_mask)
        if pixel_mask is not None:
            kwargs["attention_mask"] = self._attention_mask(hidden_states, pixel_mask)  # type: ignore[typeddict-unknown-key]
        for layer in self.layers:
            hidden_states = layer(hidden_states, **kwargs)
        return self.pool(hidden_states)

    def embed(
        self,
        pixel_values_videos: torch.Tensor,
        bool_masked_pos: torch.Tensor | None = None,
        pixel_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the input of the first layer, `(batch, visible tubelets, hidden_size)`.

        Args:
            pixel_values_videos: as of `forward`.
            bool_masked_pos: as of `forward`.
            pixel_mask: as of `forward`.
        """
        tubelets, grid = cut_into_tubelets(self, pixel_values_videos)
        if pixel_mask is None:
            positions = self.positions(grid).expand(tubelets.shape[0], -1, -1)
        elif bool_masked_pos is None:
            batch, _, _, height, width = pixel_values_videos.shape
            extents = measure_clips(pixel_mask, (batch, height, width))
            positions = self.positions.of_clips(grid, -(-extents // self.config.patch_size))
        else:
            raise ValueError("Got both bool_masked_pos and pixel_mask: tubelets can be hidden, or clips padded.")
        # The sine table is in no file, and stays in float32 where the weights of a file are halved.
        positions = positions.to(tubelets.device, self.dtype)
        if bool_masked_pos is not None:
            visible = visible_mask(bool_masked_pos, tubelets.shape[:2])
            tubelets, positions = select_tokens(tubelets, visible), select_tokens(positions, visible)
        embedded = self.embeddings(tubelets)
        return embedded + positions.to(embedded.device)

    def pool(self, hidden_states: torch.Tensor) -> BaseModelOutputWithPooling:
        """Compute the model's result from the output of the last layer.

        Args:
            hidden_states: `(batch, visible tubelets, hidden_size)`.
        """
        hidden_states = self.layernorm(hidden_states)
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden_states, pooler_output=self.pooler_layernorm(hidden_states.mean(dim=1))
        )

    def _attention_mask(self, hidden_states: torch.Tensor, pixel_mask: torch.Tensor) -> torch.Tensor | None:
        """Hide tubelets of padding alone, in the form that the attention kernel takes."""
        patch = self.config.patch_size
        is_real = nn.functional.max_pool2d(pixel_mask.float(), patch).flatten(1) > 0
        is_real = is_real.repeat(1, hidden_states.shape[1] // is_real.shape[1])  # of each time step
        mask: torch.Tensor | None = create_bidirectional_mask(self.config, hidden_states, is_real)
        return mask


class InternVideoMAEDecoder(nn.Module):
    """Reconstructs hidden tubelets from the encoder's output for the others."""

    def __init__(self, config: InternVideoMAEConfig):
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(config.decoder_hidden_size))
        self.positions = InternVideoMAEPositions(config, config.decoder_hidden_size)
        inner = known(config.decoder_intermediate_size)
        sizes = (config.decoder_hidden_size, config.decoder_num_attention_heads, inner)
        rates = drop_path_rates(config.drop_path_rate, config.decoder_num_hidden_layers)
        self.layers = nn.ModuleList([InternVideoMAELayer(config, *sizes, rate) for rate in rates])
        self.layernorm = nn.LayerNorm(config.decoder_hidden_size, eps=config.layer_norm_eps)
        pixels = config.tubelet_size * config.patch_size**2 * config.num_channels
        self.head = nn.Linear(config.decoder_hidden_size, pixels)

    def forward(
        self,
        visible: torch.Tensor,
        is_visible: torch.Tensor,
        decode_mask: torch.Tensor,
        grid: tuple[int, int, int],
        **kwargs: Any,
    ) -> torch.Tensor:
        """Reconstruct tubelets.

        Args:
            visible: `(b, visible tubelets, width)`.
            is_visible: `(b, tubelets)`, True on the tubelets of `visible`.
            decode_mask: `(b, tubelets)`, True on the tubelets to reconstruct.
            grid: `(t, h, w)`.
            kwargs: for the layers.

        Returns:
            `(b, reconstructed tubelets, pixels)`.
        """
        mask_token = self.mask_token.to(visible.device)
        positions = self.positions(grid).to(mask_token).expand(len(visible), -1, -1)
        visible = visible + select_tokens(positions, is_visible)
        hidden = mask_token + select_tokens(positions, decode_mask)
        hidden_states = torch.cat([visible, hidden], dim=1)
        for layer in self.layers:
            hidden_states = layer(hidden_states, **kwargs)
        return project(self.head, self.layernorm(hidden_states[:, visible.shape[1] :]))


class InternVideoMAEForPreTraining(InternVideoMAEPreTrainedModel):
    """The encoder with the decoder that reconstructs hidden tubelets."""

    accepts_loss_kwargs = False  # the loss is a plain mean
    _can_compile_fullgraph = False  # the number of hidden tubelets is in the mask's values, not in its shape

    def __init__(self, config: InternVideoMAEConfig):
        super().__init__(config)
        if config.use_mean_pooling:
            raise ValueError(
                "Pretraining needs an encoder that normalizes its tokens: pass use_mean_pooling=False. With the "
                "pooling of a classifier the final layer norm would silently be missing."
            )
        self.internvideo_mae = InternVideoMAEModel(config)
        self.encoder_to_decoder = nn.Linear(config.hidden_size, config.decoder_hidden_size, bias=False)
        self.decoder = InternVideoMAEDecoder(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        bool_masked_pos: torch.Tensor,
        *,
        decode_mask: torch.Tensor | None = None,
        bool_unwanted_pos: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | InternVideoMAEForPreTrainingOutput:
        """Reconstruct hidden tubelets, and compare them with the true ones.

        Args:
            pixel_values_videos: normalized frames, `(batch, frames, channels, height, width)`.
            bool_masked_pos: `(batch, tubelets)`, True on tubelets hidden from the encoder; the same number in each
                row.
            decode_mask: `(batch, tubelets)`, True on tubelets that the decoder reconstructs (the dual masking of
                VideoMAE V2, arXiv 2303.16727); the same number in each row. None reconstructs all hidden ones. Visible
                tubelets are reconstructed where it says so, but do not count in the loss.
            bool_unwanted_pos: deprecated; the opposite of `decode_mask`.
            kwargs: for the layers.
        """
        outputs = self.internvideo_mae(pixel_values_videos, bool_masked_pos, return_dict=True, **kwargs)
        tubelets, grid = cut_into_tubelets(self.internvideo_mae, pixel_values_videos)
        if bool_unwanted_pos is not None:
            warn_deprecated("bool_unwanted_pos is deprecated: pass decode_mask=~bool_unwanted_pos.")
            decode_mask = ~bool_unwanted_pos
        decode_mask = bool_masked_pos if decode_mask is None else decode_mask
        check_mask(decode_mask, tubelets.shape[:2])
        if not (bool_masked_pos & decode_mask).any():
            raise ValueError(
                "No hidden tubelet is left to reconstruct: decode_mask must choose some of those of bool_masked_pos."
            )
        predictions = self.decoder(
            project(self.encoder_to_decoder, outputs.last_hidden_state), ~bool_masked_pos, decode_mask, grid, **kwargs
        )
        targets = self.targets(select_tokens(tubelets, decode_mask)).to(predictions.device)
        errors = (predictions.float() - targets).square().mean(dim=-1)
        counts = select_tokens(bool_masked_pos[..., None], decode_mask)[..., 0].to(errors.device)
        return InternVideoMAEForPreTrainingOutput(
            loss=(errors * counts).sum() / counts.sum(),
            logits=predictions,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def targets(self, tubelets: torch.Tensor | None = None, *, cubes: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the targets of the reconstruction, in float32.

        Args:
            tubelets: normalized, `(b, n, pixels)`.
            cubes: deprecated name of `tubelets`.
        """
        if cubes is not None:
            warn_deprecated("cubes is deprecated: pass tubelets.")
            tubelets = cubes
        pixels = self._denormalize(known(tubelets))
        if not self.config.norm_pix_loss:
            return rearrange(pixels, "b n p c -> b n (p c)")
        mean, std = self._statistics(pixels)
        return rearrange((pixels - mean) / std, "b n p c -> b n (p c)")

    @torch.no_grad()
    def reconstruct(self, pixel_values_videos: torch.Tensor, bool_masked_pos: torch.Tensor) -> dict[str, torch.Tensor]:
        """Render a reconstruction.

        Args:
            pixel_values_videos: as of `forward`.
            bool_masked_pos: as of `forward`.

        Returns:
            `original`, `masked` (hidden tubelets gray) and `reconstructed` (visible tubelets as they are), each 0-1,
            `(batch, frames, channels, height, width)`. Brightness and contrast of a reconstructed tubelet are the true
            ones where the model predicts normalized tubelets.
        """
        tubelets, grid = cut_into_tubelets(self.internvideo_mae, pixel_values_videos)
        pixels = self._denormalize(tubelets)
        predicted = self(pixel_values_videos, bool_masked_pos).logits.float()
        predicted = rearrange(predicted, "b n (p c) -> b n p c", c=self.config.num_channels)
        if self.config.norm_pix_loss:
            mean, std = self._statistics(select_tokens(pixels, bool_masked_pos))
            predicted = predicted * std + mean
        hidden = bool_masked_pos[..., None, None].expand_as(pixels)
        masked = pixels.masked_fill(hidden, 0.5)
        reconstructed = pixels.masked_scatter(hidden, predicted)
        t, h, w = grid
        size = {"pt": self.config.tubelet_size, "ph": self.config.patch_size, "pw": self.config.patch_size}
        back = "b (t h w) (pt ph pw) c -> b (t pt) c (h ph) (w pw)"
        pictures = {"original": pixels, "masked": masked, "reconstructed": reconstructed}
        return {
            name: rearrange(picture, back, t=t, h=h, w=w, **size).clamp(0, 1) for name, picture in pictures.items()
        }

    def _denormalize(self, tubelets: torch.Tensor) -> torch.Tensor:
        """Undo the processor's normalization: `(b, n, pixels * channels)` to 0-1, `(b, n, pixels, channels)`."""
        pixels = rearrange(tubelets.float(), "b n (p c) -> b n p c", c=self.config.num_channels)
        return pixels * pixels.new_tensor(self.config.image_std) + pixels.new_tensor(self.config.image_mean)

    @staticmethod
    def _statistics(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return pixels.mean(dim=2, keepdim=True), pixels.var(dim=2, keepdim=True).sqrt() + 1e-6


class InternVideoMAEForVideoClassification(VideoClassifier, InternVideoMAEPreTrainedModel):
    """The encoder with a linear classifier on its pooled tokens.

    To fine-tune a pretrained encoder, pool the mean as all released classifiers do:
    `from_pretrained(folder, num_labels=12, use_mean_pooling=True)`; pretraining itself needs `use_mean_pooling=False`.
    In training with `num_segments` above 1, there is one label for each group of that many consecutive clips.
    """

    encoder_name = "internvideo_mae"

    def __init__(self, config: InternVideoMAEConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.internvideo_mae = InternVideoMAEModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, known(config.num_labels))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize weights, those of the head smaller."""
        super()._init_weights(module)
        if module is self.classifier:  # transformers passes over modules without own parameters
            init.normal_(module.weight, std=self.config.initializer_range * self.config.head_init_scale)

    def classify(self, outputs: BaseModelOutputWithPooling) -> torch.Tensor:
        pooled = outputs.pooler_output if self.config.use_mean_pooling else known(outputs.last_hidden_state)[:, 0]
        logits = self.classifier(self.dropout(pooled))
        if not self.training or self.config.num_segments == 1:
            return logits
        segments = self.config.num_segments
        if len(logits) % segments:
            raise ValueError(
                f"A training batch of {len(logits)} clips is not a multiple of num_segments={segments}, the "
                "clips of one video that are averaged. Give all clips of every video."
            )
        return rearrange(logits, "(b s) k -> b s k", s=segments).mean(dim=1)


class InternVideoMAEForOpenSetClassification(OpenSetHead, InternVideoMAEForVideoClassification):
    """The classifier with evidential loss and uncertainty; its tensors have the same names.

    The released ones take 32 frames, whose position table is computed for them and not re-sampled from 16.
    """


class InternVideoMAEForHandPrediction(HandPredictionHead, InternVideoMAEForVideoClassification):
    """The encoder with a linear head that predicts points in pixels; its tensors have the classifier's names."""


def cut_into_tubelets(
    model: InternVideoMAEModel, pixel_values_videos: torch.Tensor
) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """Check clips, and cut them into tubelets.

    Args:
        model: knows their sizes.
        pixel_values_videos: `(batch, frames, channels, height, width)`.

    Returns:
        `(batch, tubelets, pixels)`, and the grid `(t, h, w)`.
    """
    config = model.config
    clips = as_clips(pixel_values_videos, config.num_channels, config.patch_size, config.tubelet_size)
    grid = (
        clips.shape[1] // config.tubelet_size,
        clips.shape[3] // config.patch_size,
        clips.shape[4] // config.patch_size,
    )
    return model.embeddings.cut(clips), grid


def measure_clips(pixel_mask: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return the height and width of each clip without its padding, `(batch, 2)`, int64.

    Args:
        pixel_mask: `(batch, height, width)`, True on pixels of the clip.
        shape: the expected one.

    Raises:
        ValueError: if it has another shape, or the clip is not one rectangle in the upper left corner.
    """
    if tuple(pixel_mask.shape) != shape:
        raise ValueError(f"pixel_mask has the shape {tuple(pixel_mask.shape)}, expected {shape}.")
    pixel_mask = pixel_mask.bool()
    is_row, is_column = pixel_mask.any(dim=2), pixel_mask.any(dim=1)
    extent = torch.stack([is_row.sum(dim=1), is_column.sum(dim=1)], dim=1)
    if not torch.compiler.is_compiling():
        rows, columns = (torch.arange(side, device=extent.device) for side in shape[1:])
        corner = (rows[:, None] < extent[:, :1, None]) & (columns < extent[:, 1:, None])
        if not (corner == pixel_mask).all() or not extent.all():
            raise ValueError(
                "pixel_mask: expected one rectangle of True in the upper left corner of each clip, and padding at its "
                "right and bottom alone."
            )
    return extent


__all__ = [
    "InternVideoMAEForHandPrediction",
    "InternVideoMAEForOpenSetClassification",
    "InternVideoMAEForPreTraining",
    "InternVideoMAEForVideoClassification",
    "InternVideoMAEModel",
    "InternVideoMAEPreTrainedModel",
]
