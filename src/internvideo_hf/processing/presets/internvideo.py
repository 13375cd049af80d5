"""Processors of fused models, of which none was released: those of their two encoders."""

from internvideo_hf.models.internvideo.configuration_internvideo import InternVideoConfig
from internvideo_hf.processing.fused_video_processing import InternVideoFusedVideoProcessor
from internvideo_hf.processing.presets import internvideo_mae, uniformerv2


def build_processor(config: InternVideoConfig) -> InternVideoFusedVideoProcessor:
    """Build the processor of a fused model.

    Args:
        config: of the model.
    """
    return InternVideoFusedVideoProcessor(
        internvideo_mae.build_processor(config.internvideo_mae_config),
        uniformerv2.build_processor(config.uniformerv2_config),
    )
