"""Configuration of the predictor of waypoints."""

from huggingface_hub.dataclasses import strict

from internvideo_hf.models.common.configuration import VideoConfig
from internvideo_hf.utils.pretrained import check_sizes


@strict
class VLNWaypointsConfig(VideoConfig):
    """Sizes of the predictor of waypoints; the defaults are those of the public one.

    Args:
        depth_size: numbers of a view's features of depth, all places of its grid together.
        hidden_size: width of the views.
        intermediate_size: width inside the MLPs.
        num_hidden_layers: layers over the views.
        num_attention_heads: must divide `hidden_size`.
        hidden_act: activation of the MLPs.
        layer_norm_eps: epsilon of all layer norms.
        hidden_dropout: dropout behind attention and MLPs, 0-1, in training only.
        attention_dropout: dropout of attention probabilities, 0-1, in training only.
        num_views: views of a panorama, at equal angles.
        num_angles: rows of the heatmap, at equal angles; a multiple of twice `num_views`.
        num_distances: columns of the heatmap.
        distance_step: from one column to the next, meters; the first is one step away.
        max_candidates: the most places that a heatmap gives.
        suppressed_angles: rows around a place that it suppresses, on either side.
        suppressed_distances: columns around a place that it suppresses, on either side.
        initializer_range: standard deviation of new weights.

    Raises:
        StrictDataclassClassValidationError: where two numbers do not fit each other.
    """

    model_type = "vln_waypoints"

    depth_size: int = 2048
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 2
    num_attention_heads: int = 12
    hidden_act: str = "gelu"
    layer_norm_eps: float | int = 1e-12
    hidden_dropout: float | int = 0.3
    attention_dropout: float | int = 0.1
    num_views: int = 12
    num_angles: int = 120
    num_distances: int = 12
    distance_step: float | int = 0.25
    max_candidates: int = 5
    suppressed_angles: int = 5
    suppressed_distances: int = 7
    initializer_range: float | int = 0.02

    def validate_architecture(self) -> None:
        super().validate_architecture()
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads} must divide hidden_size={self.hidden_size}."
            )
        for name in ("depth_size", "num_views", "num_angles", "num_distances", "max_candidates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.num_angles % (2 * self.num_views):
            raise ValueError(
                f"num_angles={self.num_angles} must be a multiple of {2 * self.num_views}, twice num_views."
            )
        if not self.distance_step > 0:
            raise ValueError(f"distance_step={self.distance_step} must be above 0.")
        for name in ("hidden_dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0 and less than 1.")
        check_sizes(vars(self))


__all__ = ["VLNWaypointsConfig"]
