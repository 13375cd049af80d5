"""Processors of fused models: those of their two encoders."""

from internvideo_hf.models.internvideo.configuration_internvideo import InternVideoConfig
from internvideo_hf.models.internvideo_mae.configuration_internvideo_mae import InternVideoMAEConfig
from internvideo_hf.models.uniformerv2.configuration_uniformerv2 import UniFormerV2Config
from internvideo_hf.processing.fused_video_processing import InternVideoFusedVideoProcessor
from internvideo_hf.processing.presets import internvideo_mae, uniformerv2


def build_processor(config: InternVideoConfig) -> InternVideoFusedVideoProcessor:
    """Build the processor of a fused model."""
    mae: InternVideoMAEConfig = config.internvideo_mae_config  # type: ignore[assignment]  # a dict only before __init__
    other: UniFormerV2Config = config.uniformerv2_config  # type: ignore[assignment]
    return InternVideoFusedVideoProcessor(internvideo_mae.build_processor(mae), uniformerv2.build_processor(other))
