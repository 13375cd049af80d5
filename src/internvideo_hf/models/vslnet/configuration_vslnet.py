"""Configuration of VSLNet, a head that finds the stretch of a video that a sentence asks for."""

from typing import Any

from huggingface_hub.dataclasses import strict

from internvideo_hf.models.common.configuration import VideoConfig
from internvideo_hf.models.common.overrides import check_features
from internvideo_hf.utils.pretrained import check_sizes


@strict
class VSLNetConfig(VideoConfig):
    """Sizes of a VSLNet and its losses; the defaults are those of the paper and its code.

    A row is one feature of a video. The widths are of VideoMAE-L's features and of CLIP's text tower beside ViT-B.

    Args:
        video_size: channels of the features of videos.
        text_size: channels of the features of words.
        hidden_size: width of the model.
        num_attention_heads: must divide `hidden_size`.
        num_conv_layers: convolutions of an encoder, before its layer of attention.
        kernel_size: rows, or words, that such a convolution sees; odd.
        max_positions: rows of the tables of learned positions. Longer videos re-sample them; see `VSLNetPositions`.
        layer_norm_eps: epsilon of all layer norms.
        hidden_dropout: dropout of features and behind each layer, 0-1, in training only.
        attention_dropout: dropout of attention probabilities, 0-1, in training only.
        highlight_extension: part of its length by which an answer is extended on both sides to be highlighted, 0 or
            more.
        highlight_loss_weight: of the loss of highlighting, beside the loss of start and end; 0 or more.
        initializer_range: standard deviation of new positions.
        features: which features of videos the head was trained on; see `ActionFormerConfig.features`. None: unknown.
        text_encoder: Hub name or folder of the model whose text tower gave the features of words: the last hidden
            state of each token, start and end included. None: unknown.
        text_revision: its revision, of the kind that `features` has of the encoder. None: unknown.

    Raises:
        StrictDataclassClassValidationError: where two numbers do not fit each other.
    """

    model_type = "vslnet"

    video_size: int = 1024
    text_size: int = 512
    hidden_size: int = 128
    num_attention_heads: int = 8
    num_conv_layers: int = 4
    kernel_size: int = 7
    max_positions: int = 128
    layer_norm_eps: float | int = 1e-6
    hidden_dropout: float | int = 0.2
    attention_dropout: float | int = 0.2
    highlight_extension: float | int = 0.1
    highlight_loss_weight: float | int = 5.0
    initializer_range: float | int = 0.02
    features: dict[str, Any] | None = None
    text_encoder: str | None = None
    text_revision: str | None = None

    @property
    def num_hidden_layers(self) -> int:
        """Layers of an encoder."""
        return self.num_conv_layers + 1

    def validate_architecture(self) -> None:
        super().validate_architecture()
        for name in ("video_size", "text_size", "max_positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads} must divide hidden_size={self.hidden_size}."
            )
        if self.num_conv_layers < 0:
            raise ValueError(f"num_conv_layers={self.num_conv_layers} must be at least 0.")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={self.kernel_size} must be odd and at least 1.")
        for name in ("hidden_dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0 and less than 1.")
        for name in ("highlight_extension", "highlight_loss_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0.")
        check_features(self.features)
        check_sizes(vars(self))


__all__ = ["VSLNetConfig"]
