"""Configuration of InternVideo's masked video encoder (VideoMAE)."""

from typing import Any

from huggingface_hub.dataclasses import strict

from internvideo_hf.models.common.configuration import ClassifierConfig
from internvideo_hf.utils.names import lookup
from internvideo_hf.utils.pretrained import check_sizes

# Sizes by name. Encoder width, layers, heads; decoder width, layers, heads as the pretraining scripts set them.
SIZES: dict[str, dict[str, Any]] = {
    name: dict(
        zip(
            ("hidden_size", "num_hidden_layers", "num_attention_heads")
            + ("decoder_hidden_size", "decoder_num_hidden_layers", "decoder_num_attention_heads"),
            numbers,
            strict=True,
        )
    )
    for name, numbers in {
        "small": (384, 12, 6, 192, 4, 3),
        "base": (768, 12, 12, 384, 4, 6),
        "large": (1024, 24, 16, 512, 12, 8),
        "huge": (1280, 32, 16, 512, 8, 8),
        "giant": (1408, 40, 16, 512, 4, 8),
    }.items()
}
# The ratio of its MLPs is 48 to 11, in the decoder too.
SIZES["giant"] |= {"patch_size": 14, "intermediate_size": 6144, "decoder_intermediate_size": 2234}

DETECTION_HEADS = ("linear", "acar")


@strict
class InternVideoMAEConfig(ClassifierConfig):
    """Sizes of a VideoMAE encoder, its pretraining decoder, its classifier and its heads on boxes; by default ViT-B.

    Args:
        hidden_size: width of the encoder.
        num_hidden_layers: layers of the encoder.
        num_attention_heads: heads of the encoder; must divide `hidden_size`.
        intermediate_size: width inside the encoder's MLPs; four times `hidden_size` by default.
        image_size: height and width in pixels that the model is meant for.
        num_frames: frames that the model is meant for.
        position_image_size, position_num_frames: the clip that the position table is computed for; other clips
            re-sample it. By default the one the model is meant for; the released 384-pixel, 32-frame model keeps
            the table of 224 pixels and 16 frames.
        patch_size: height and width of a tubelet in pixels.
        tubelet_size: frames of a tubelet.
        num_channels: color channels.
        position_embedding_type: "sinusoidal" (fixed, in no file) or "learned".
        qkv_bias: biases on queries and values; the keys have none.
        layer_scale_init_value: start of the learned factors on both branches of a layer; 0 for none.
        hidden_act: activation of the MLPs.
        layer_norm_eps: epsilon of all layer norms.
        drop_path_rate: of the last layer, 0-1; it rises linearly from 0 at the first.
        attention_dropout: dropout of attention probabilities, 0-1, in training only.
        classifier_dropout: dropout before the classification head, 0-1, in training only.
        use_mean_pooling: pool the mean of the tokens; the first token otherwise.
        num_segments: rows of a training batch that belong to one video, whose logits are averaged.
        decoder_hidden_size, decoder_num_hidden_layers, decoder_num_attention_heads, decoder_intermediate_size:
            the decoder of pretraining.
        norm_pix_loss: reconstruct tubelets that are normalized each by itself; plain pixels (0-1) otherwise.
        image_mean, image_std: the processor's normalization of each channel, which the reconstruction undoes.
        initializer_range: standard deviation of freshly initialized weights.
        head_init_scale: factor on the freshly initialized classification head.
        detection_head: of an action detector: "linear", or "acar", which also compares what is around the people of a
            frame (arXiv 2006.07976).
        roi_size: cells of a box in height and in width, of which the detector keeps the maximum.
        roi_scale: cells of the feature map in a pixel; by default one cell for each patch. Released detectors have
            1/16 for patches of 14 pixels too.
        roi_aligned: place cells by their centers; released detectors do not, and are half a cell off.
        roi_sampling_ratio: points in height and width whose mean is a cell of a box; 0 for as many as the box's cell
            has cells of the map.
        attend_to_padding: let the detector look at the padding of smaller clips in a batch, as released ones do: what
            they answer then depends on the others. Otherwise it is hidden by the `pixel_mask`.
        verb_loss_weight, time_loss_weight: factors on the two losses of short-term anticipation, 0 or more.

    Raises:
        StrictDataclassClassValidationError: where two numbers do not fit each other.
    """

    model_type = "internvideo_mae"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int | None = None
    image_size: int = 224
    num_frames: int = 16
    position_image_size: int | None = None
    position_num_frames: int | None = None
    patch_size: int = 16
    tubelet_size: int = 2
    num_channels: int = 3
    position_embedding_type: str = "sinusoidal"
    qkv_bias: bool = True
    layer_scale_init_value: float | int = 0.0
    hidden_act: str = "gelu"
    layer_norm_eps: float | int = 1e-6
    drop_path_rate: float | int = 0.0
    attention_dropout: float | int = 0.0
    classifier_dropout: float | int = 0.0
    use_mean_pooling: bool = True
    num_segments: int = 1
    decoder_hidden_size: int = 384
    decoder_num_hidden_layers: int = 4
    decoder_num_attention_heads: int = 6
    decoder_intermediate_size: int | None = None
    norm_pix_loss: bool = True
    image_mean: list[float] | tuple[float, ...] = (0.485, 0.456, 0.406)
    image_std: list[float] | tuple[float, ...] = (0.229, 0.224, 0.225)
    initializer_range: float | int = 0.02
    head_init_scale: float | int = 0.001
    detection_head: str = "linear"
    roi_size: int = 7
    roi_scale: float | int | None = None
    roi_aligned: bool = False
    roi_sampling_ratio: int = 0
    attend_to_padding: bool = False
    verb_loss_weight: float | int = 1.0
    time_loss_weight: float | int = 15.0

    def __post_init__(self, **kwargs: Any) -> None:
        self.intermediate_size = self.intermediate_size or 4 * self.hidden_size
        self.decoder_intermediate_size = self.decoder_intermediate_size or 4 * self.decoder_hidden_size
        self.position_image_size = self.position_image_size or self.image_size
        self.position_num_frames = self.position_num_frames or self.num_frames
        super().__post_init__(**kwargs)

    @classmethod
    def from_size(cls, size: str, **overrides: Any) -> "InternVideoMAEConfig":
        """Make the configuration of a released size.

        Args:
            size: "small", "base", "large", "huge" or "giant".
            overrides: other fields.

        Raises:
            ValueError: if there is no such size.
        """
        return cls(**lookup(SIZES, size, "size") | overrides)

    def validate_architecture(self) -> None:
        super().validate_architecture()
        for width, heads in (
            ("hidden_size", "num_attention_heads"),
            ("decoder_hidden_size", "decoder_num_attention_heads"),
        ):
            if getattr(self, width) % getattr(self, heads):
                raise ValueError(f"{heads}={getattr(self, heads)} must divide {width}={getattr(self, width)}.")
        for size, part in (("image_size", "patch_size"), ("num_frames", "tubelet_size")):
            if getattr(self, size) % getattr(self, part):
                raise ValueError(f"{part}={getattr(self, part)} must divide {size}={getattr(self, size)}.")
        if self.position_embedding_type not in ("sinusoidal", "learned"):
            raise ValueError(
                f"position_embedding_type={self.position_embedding_type!r} must be 'sinusoidal' or 'learned'."
            )
        if self.detection_head not in DETECTION_HEADS:
            raise ValueError(f"detection_head={self.detection_head!r} must be 'linear' or 'acar'.")
        leasts = {"roi_size": 1, "roi_sampling_ratio": 0, "verb_loss_weight": 0, "time_loss_weight": 0}
        for name, least in leasts.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be {least} or more.")
        if self.roi_scale is not None and self.roi_scale <= 0:
            raise ValueError(f"roi_scale={self.roi_scale} must be above 0, or None.")
        check_sizes(vars(self))


__all__ = ["InternVideoMAEConfig"]
