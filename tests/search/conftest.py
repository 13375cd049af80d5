"""A model small enough to index with repeatedly."""

import shutil
from pathlib import Path

import pytest
from transformers import AutoProcessor


@pytest.fixture(scope="session")
def small_folder(mm_folder: Path) -> Path:
    """Return the small InternVideo-MM with a processor of 2 frames of 64 x 64."""
    folder = mm_folder.with_name("internvideo-mm-2-frames")
    shutil.copytree(mm_folder, folder)
    processor = AutoProcessor.from_pretrained(folder)
    processor.video_processor.num_frames = 2
    processor.video_processor.size = {"shortest_edge": 64}
    processor.video_processor.crop_size = {"height": 64, "width": 64}
    processor.save_pretrained(folder)
    return folder
