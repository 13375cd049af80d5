"""Checkpoint files: converting released ones, starting from CLIP, fusing, averaging, exporting."""

from internvideo_hf.checkpoints.clip import initialize_from_clip
from internvideo_hf.checkpoints.convert import ConversionReport, convert_checkpoint
from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.fusing import fuse_encoders
from internvideo_hf.checkpoints.merging import merge_checkpoints

__all__ = [
    "CheckpointError",
    "ConversionReport",
    "convert_checkpoint",
    "fuse_encoders",
    "initialize_from_clip",
    "merge_checkpoints",
]
