"""Captioning is known by its pipeline."""

from internvideo_hf.tasks import TASKS, get_task


def test_captioning_has_a_pipeline():
    assert get_task("captioning").name == "captioning" and TASKS["captioning"].name == "video-to-text"
