"""Real inputs of an export, and its frames and size."""

import pytest
import torch
from transformers import AutoProcessor, AutoVideoProcessor

from internvideo_hf.export.samples import SAMPLES, drawn_inputs, fix_size, read_clips


def test_clips_are_drawn_in_the_frames_and_size_of_the_export(mae_folder):
    processor = AutoVideoProcessor.from_pretrained(mae_folder)
    fix_size(processor, 4, 48)
    clips, texts = drawn_inputs(processor, None)
    assert texts is None and clips["pixel_values_videos"].shape == (SAMPLES, 4, 3, 48, 48)
    first, second, _ = clips["pixel_values_videos"]
    assert not torch.equal(first, second)


def test_captions_are_padded_to_one_length(small_folder):
    processor = AutoProcessor.from_pretrained(small_folder)
    clips, texts = drawn_inputs(processor.video_processor, processor)
    assert clips["pixel_values_videos"].shape == (SAMPLES, 2, 3, 64, 64)
    assert texts.shape[0] == SAMPLES and texts.dtype == torch.int64


def test_what_is_cropped_is_resized_in_proportion(mae_folder):
    processor = AutoVideoProcessor.from_pretrained(mae_folder)
    processor.configure(
        {"do_center_crop": True, "size": {"shortest_edge": 80}, "crop_size": {"height": 64, "width": 64}}
    )
    fix_size(processor, None, 32)
    assert dict(processor.size)["shortest_edge"] == 40
    assert dict(processor.crop_size) == {"height": 32, "width": 32}


def test_sizes_of_a_fused_model_stay():
    class Fused:
        branches = {"one": None, "other": None}

    with pytest.raises(ValueError, match="Leave out --frames and --size"):
        fix_size(Fused(), 8, None)


def test_unreadable_videos_are_passed_over_and_named(mae_folder, bikes, tmp_path):
    processor = AutoVideoProcessor.from_pretrained(mae_folder)
    (tmp_path / "noise.mp4").write_bytes(b"noise")
    rows = [{"video": str(tmp_path / "noise.mp4")}, {"video": str(bikes)}]
    told = []
    ((number, inputs),) = read_clips(processor, rows, "Reading", told.append)
    assert number == 1 and inputs["pixel_values_videos"].shape == (1, 16, 3, 64, 64)
    assert len(told) == 1 and "noise.mp4" in told[0]


def test_videos_of_which_none_can_be_read_are_refused(mae_folder, tmp_path):
    processor = AutoVideoProcessor.from_pretrained(mae_folder)
    (tmp_path / "noise.mp4").write_bytes(b"noise")
    for rows, word in (([{"video": str(tmp_path / "noise.mp4")}], r"None of 1 videos.*noise\.mp4"), ([], "none")):
        with pytest.raises(ValueError, match=word):
            list(read_clips(processor, rows, "Reading"))
