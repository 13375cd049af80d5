"""Configuration of ActionFormer, a head that localizes actions in the features of a video."""

import math
from itertools import pairwise
from typing import Any

from huggingface_hub.dataclasses import strict

from internvideo_hf.models.common.configuration import VideoConfig
from internvideo_hf.models.common.narrowing import known
from internvideo_hf.models.common.overrides import check_features
from internvideo_hf.utils.names import lookup
from internvideo_hf.utils.pretrained import check_sizes

# The decoding of the head for THUMOS-14, by the names of the task.
SELECTION: dict[str, Any] = {"min_score": 0.001, "max_candidates": 2000, "min_length": 0.05}
SUPPRESSION: dict[str, Any] = {
    "method": "gaussian",
    "class_wise": True,
    "sigma": 0.5,
    "iou_threshold": 0.1,
    "min_score": 0.001,
    "max_segments": 200,
    "voting_threshold": 0.7,
}


def _proposals(voting_threshold: float, min_length: float = 0.1, **sizes: Any) -> dict[str, Any]:
    """Return the settings of a head that proposes segments, which another model classifies."""
    return {
        "hidden_size": 256,
        "attention_windows": [25, 25, 25, 25, 25, -1],
        "use_absolute_positions": True,
        "num_labels": 1,
        "label_smoothing": 0.1,
        "init_loss_normalizer": 400,
        "selection": SELECTION | {"min_length": min_length},
        "suppression": SUPPRESSION
        | {"class_wise": False, "sigma": 0.75, "max_segments": 100, "voting_threshold": voting_threshold},
        **sizes,
    }


def _features(encoder: str | None, stride: int, fps: float | None, **spread: Any) -> dict[str, Any]:
    """Return what is known of the features of a head; of the encoder, no more than its width."""
    source = "InternVideo's configuration and read-me of temporal localization; the encoder by its width"
    return {"encoder": encoder, "window": 16, "stride": stride, "fps": fps, **spread, "source": source}


# The settings of InternVideo's heads, by data set, in place of the defaults. THUMOS-14 counts frames at each video's
# own rate. Of features of a fixed length, the read-me tells the windows. Two streams of 1280 channels have no encoder.
DATA_SETS: dict[str, dict[str, Any]] = {
    "thumos14": {
        "hidden_size": 512,
        "feature_size": 1408,
        "num_labels": 20,
        "features": _features("VideoMAE V2-g K710", 4, None),
    },
    "activitynet": _proposals(
        0.9, feature_size=1280, max_sequence_length=768, features=_features("VideoMAE-H K710", 16, 15)
    ),
    "hacs": _proposals(0.7, feature_size=2560, max_sequence_length=2304, features=_features(None, 16, 30)),
    "fineaction": _proposals(
        0.9,
        min_length=0.001,
        features=_features("VideoMAE V2-g K710", 16, None, fixed_length=192, window_rows=16),
        feature_size=1408,
        attention_windows=[7, 7, 7, 7, 7, -1],
        max_sequence_length=192,
        init_loss_normalizer=200,
        loss_weight=2.0,
    ),
}


@strict
class ActionFormerConfig(VideoConfig):
    """Sizes of an ActionFormer, its losses and its decoding; the defaults are InternVideo's head for THUMOS-14.

    A position is one feature of a video. Level `l` of the pyramid has every `2**l`-th position. A grid unit is the
    distance from one feature to the next.

    Args:
        feature_size: channels of the features.
        hidden_size: width of the transformer.
        num_attention_heads: must divide `hidden_size`.
        intermediate_size: width inside the MLPs; four times `hidden_size` by default.
        num_embedding_layers: convolutions before the first layer.
        embedding_kernel_size: of these convolutions; odd.
        use_embedding_norm: layer norms behind these convolutions, which have biases otherwise.
        num_stem_layers: transformer layers at full length, before the first that halves it.
        num_levels: levels of the pyramid; each but the first has one transformer layer.
        attention_windows: positions that a position attends to, itself in their middle, on each level; odd. 1 or less:
            all positions. One number stands for all levels.
        use_absolute_positions: add a sinusoidal position table.
        use_relative_positions: learn a bias for each distance and head in windows.
        max_sequence_length: positions that shorter sequences are padded to, and the most in training.
        neck_type: "identity", a layer norm for each level, or "fpn", which also adds coarse levels to finer ones.
        neck_hidden_size: width of the pyramid behind the neck; `hidden_size` by default, and with "identity" always.
        use_neck_norm: layer norms in the neck.
        head_hidden_size: width of the heads; that of the neck by default.
        num_head_layers: convolutions of each head, the last included.
        head_kernel_size: of these convolutions; odd.
        use_head_norm: layer norms in the heads.
        hidden_act: activation of the MLPs.
        layer_norm_eps: epsilon of all layer norms.
        hidden_dropout: dropout behind attention and inside and behind the MLPs, 0-1, in training only.
        attention_dropout: dropout of attention probabilities, 0-1, in training only.
        drop_path_rate: probability that a sample's branch of a layer is dropped in training, 0-1; the same in all.
        layer_scale_init_value: start of the learned factors on both branches of a layer; 0 for none, as the original
            has it where its drop path is 0.
        class_prior: probability of each class that the fresh classifier gives, 0-1.
        regression_ranges: the least and the most distance, in grid units, that each level learns; by default from 0,
            4, 8, 16, ... to the next, the last to 10,000.
        center_sampling_radius: distance from a segment's center, in positions of the level, up to which positions
            learn it; None for all positions inside.
        label_smoothing: of class targets, 0-1.
        loss_weight: of the loss of boundaries; 0 or less makes it as large as the loss of classes.
        init_loss_normalizer: start of the running number of positive positions, by which losses are divided.
        selection: which candidates of a level are decoded; the fields of the task's `Selection`, of which some may be
            missing.
        suppression: how candidates suppress each other; the fields of the task's `Suppression`, likewise.
        features: which features the head was trained on, so that a raw video gets the same: `encoder`, the Hub name of
            the model, or its folder, also one below the head's own; its `revision`; `window` and `stride`, in frames;
            `fps`, at which the frames were sampled, None for each video's own; `layer` and `pooling` of the encoder;
            `fixed_length`, rows to which all features were resized, if they were, and `window_rows`, those that a
            window was taken to cover; `source`, where this is read from, if not from the features themselves. The
            fields of `FeatureExtractor`; those that are missing have its defaults. None: unknown.

    Raises:
        StrictDataclassClassValidationError: where two numbers do not fit each other.
    """

    model_type = "actionformer"

    feature_size: int = 1408
    hidden_size: int = 512
    num_attention_heads: int = 4
    intermediate_size: int | None = None
    num_embedding_layers: int = 2
    embedding_kernel_size: int = 3
    use_embedding_norm: bool = True
    num_stem_layers: int = 2
    num_levels: int = 6
    attention_windows: int | list[int] | tuple[int, ...] = 19
    use_absolute_positions: bool = False
    use_relative_positions: bool = False
    max_sequence_length: int = 2304
    neck_type: str = "identity"
    neck_hidden_size: int | None = None
    use_neck_norm: bool = True
    head_hidden_size: int | None = None
    num_head_layers: int = 3
    head_kernel_size: int = 3
    use_head_norm: bool = True
    hidden_act: str = "gelu"
    layer_norm_eps: float | int = 1e-5
    hidden_dropout: float | int = 0.0
    attention_dropout: float | int = 0.0
    drop_path_rate: float | int = 0.1
    layer_scale_init_value: float | int = 1e-4
    class_prior: float = 0.01
    regression_ranges: list[list[int | float]] | None = None
    center_sampling_radius: float | int | None = 1.5
    label_smoothing: float | int = 0.0
    loss_weight: float | int = 1.0
    init_loss_normalizer: float | int = 100
    selection: dict[str, Any] | None = None
    suppression: dict[str, Any] | None = None
    features: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.intermediate_size = self.intermediate_size or 4 * self.hidden_size
        self.neck_hidden_size = self.neck_hidden_size or self.hidden_size
        self.head_hidden_size = self.head_hidden_size or self.neck_hidden_size
        if isinstance(self.attention_windows, int):
            self.attention_windows = [self.attention_windows] * self.num_levels
        if self.regression_ranges is None:
            bounds = [0, *(4 * 2**level for level in range(self.num_levels - 1)), 10_000]
            self.regression_ranges = [list(pair) for pair in pairwise(bounds)]
        self.selection = SELECTION | (self.selection or {})
        self.suppression = SUPPRESSION | (self.suppression or {})
        super().__post_init__(**kwargs)

    @classmethod
    def from_data_set(cls, name: str, **overrides: Any) -> "ActionFormerConfig":
        """Make the configuration of InternVideo's head for a data set.

        Args:
            name: "thumos14", "activitynet", "hacs" or "fineaction".
            overrides: other fields.

        Raises:
            ValueError: if there is no such data set.
        """
        return cls(**lookup(DATA_SETS, name, "name") | overrides)

    @property
    def num_hidden_layers(self) -> int:
        """Transformer layers."""
        return self.num_stem_layers + self.num_levels - 1

    @property
    def strides(self) -> list[int]:
        """Grid units from a position to the next, on each level."""
        return [2**level for level in range(self.num_levels)]

    @property
    def length_multiple(self) -> int:
        """Positions that the length of a sequence longer than `max_sequence_length` is padded to a multiple of."""
        windows: list[int] = self.attention_windows  # type: ignore[assignment]  # a number only before __init__
        pairs = zip(self.strides, windows, strict=True)
        largest = max(stride * 2 * (window // 2) if window > 1 else stride for stride, window in pairs)
        # The original takes `largest` alone, and fails at lengths that then cannot be halved.
        return math.lcm(largest, self.strides[-1])

    def padded_length(self, length: int) -> int:
        """Return the length that the model pads a sequence to.

        It is part of the answer: norms give padded positions values that leak into the last real ones. Videos of one
        batch should have the same.

        Args:
            length: positions of a video, 1 or more.
        """
        if length <= self.max_sequence_length:
            return self.max_sequence_length
        return -(-length // self.length_multiple) * self.length_multiple

    def validate_architecture(self) -> None:
        super().validate_architecture()
        for name in ("feature_size", "num_levels", "max_sequence_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"num_attention_heads={self.num_attention_heads} must divide {self.hidden_size=}.")
        if self.neck_type not in ("identity", "fpn"):
            raise ValueError(f"neck_type={self.neck_type!r} must be 'identity' or 'fpn'.")
        if self.neck_type == "identity" and self.neck_hidden_size != self.hidden_size:
            raise ValueError(f"neck_hidden_size={self.neck_hidden_size} must be hidden_size={self.hidden_size}.")
        windows, ranges = self.attention_windows, known(self.regression_ranges)
        for name, values in (("attention_windows", windows), ("regression_ranges", ranges)):
            if len(values) != self.num_levels:  # type: ignore[arg-type]
                raise ValueError(f"{name}={values} must have one entry for each of num_levels={self.num_levels}.")
        for name in ("embedding_kernel_size", "head_kernel_size"):
            if getattr(self, name) < 1 or getattr(self, name) % 2 == 0:
                raise ValueError(f"{name}={getattr(self, name)} must be odd and at least 1.")
        if any(window > 1 and window % 2 == 0 for window in windows):  # type: ignore[union-attr]
            raise ValueError(f"attention_windows={windows} must be odd, or 1 or less for all positions.")
        for least, most in ranges:
            if not 0 <= least < most:
                raise ValueError(f"regression_ranges={ranges} must hold pairs of distances, the smaller one first.")
        if not self.init_loss_normalizer > 0:
            raise ValueError(f"init_loss_normalizer={self.init_loss_normalizer} must be above 0: it divides losses.")
        check_features(self.features)
        if self.max_sequence_length % self.strides[-1]:
            raise ValueError(
                f"max_sequence_length={self.max_sequence_length} cannot be halved {self.num_levels - 1} times; make "
                f"it a multiple of {self.strides[-1]}."
            )
        for name in ("hidden_dropout", "attention_dropout", "drop_path_rate", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0 and less than 1.")
        if not 0 < self.class_prior < 1:
            raise ValueError(f"class_prior={self.class_prior} must be above 0 and less than 1.")
        check_sizes(vars(self))


__all__ = ["ActionFormerConfig"]
