"""Processors of transformers behind our interface: frames and pixels are those that they make by themselves."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stock_models import JEPA, MAE, SIDE, prism_processor, videomae_processor
from transformers import BertConfig, VideoPrismVisionConfig, VJEPA2VideoProcessor
from transformers.video_utils import VideoMetadata
from video.clips import moving_picture, write_video

from internvideo_hf import VideoReader
from internvideo_hf.processing.stock import StockVideoProcessor

PRISM = VideoPrismVisionConfig(image_size=SIDE, num_frames=4)


def sampled(processor: StockVideoProcessor, total: int, fps: float | None = None) -> list[int]:
    return processor.sample_frames(VideoMetadata(total_num_frames=total, fps=fps)).tolist()


def test_a_number_of_frames_is_the_processors_own():
    processor = StockVideoProcessor(VJEPA2VideoProcessor(crop_size=SIDE, num_frames=4), JEPA, "jepa")
    assert (processor.num_frames, processor.remark, processor.samples_by_time) == (4, "", False)
    assert sampled(processor, 10) == VJEPA2VideoProcessor().sample_frames(VideoMetadata(10), num_frames=4).tolist()


def test_a_processor_that_says_no_number_takes_that_of_the_model():
    processor = StockVideoProcessor(videomae_processor(), MAE, "mae")
    assert sampled(processor, 9) == [0, 2, 4, 6]
    assert processor.remark.startswith("The processor of mae does not say which frames it takes: clips have 4")
    with pytest.raises(ValueError, match="nothing does not say how many frames it takes"):
        StockVideoProcessor(VJEPA2VideoProcessor(), BertConfig(), "nothing")


def test_a_model_with_positions_for_some_frames_gets_as_many():
    assert sampled(StockVideoProcessor(prism_processor(num_frames=8), PRISM, "prism"), 16) == [0, 4, 8, 12]
    by_time = StockVideoProcessor(prism_processor(fps=2), PRISM, "prism")
    # Two a second are frames 0, 5, 10, ..., 35, of which there are eight.
    assert sampled(by_time, 40, 10.0) == [0, 10, 20, 30]
    assert sampled(by_time, 2, 10.0) == [0, 0, 0, 0]


def test_a_rule_of_the_processors_class_counts():
    class Last(VJEPA2VideoProcessor):
        def sample_frames(self, metadata, num_frames=None, **kwargs):
            return np.arange(metadata.total_num_frames)[-num_frames:]

    processor = StockVideoProcessor(Last(num_frames=4), JEPA, "jepa")
    assert sampled(processor, 10) == [6, 7, 8, 9]
    assert (processor.num_frames, processor.is_variable) == (4, False)
    assert StockVideoProcessor(Last(fps=2), JEPA, "jepa").is_variable


def test_frames_by_the_second_are_those_of_a_call(tmp_path: Path):
    video = write_video(tmp_path / "clip.mp4", 40)
    stock = VJEPA2VideoProcessor(crop_size=SIDE, fps=4, do_sample_frames=True)
    processor = StockVideoProcessor(stock, JEPA, "jepa")
    with VideoReader(video) as reader:
        frames = reader.read(np.arange(40))
    made = stock(videos=[frames], video_metadata=[{"total_num_frames": 40, "fps": 30}], return_tensors="pt")
    expected = made["pixel_values_videos"]
    assert expected.shape[1] == 5  # int(40 / 30 * 4); the last once more, for whole tubelets
    expected = torch.cat([expected, expected[:, -1:]], dim=1)
    torch.testing.assert_close(processor(videos=[video])["pixel_values_videos"], expected)
    with pytest.raises(ValueError, match=r"no frame rate, by which the processor samples \(fps=4\)"):
        processor(videos=[moving_picture(40)])


def test_what_it_cannot_do_is_refused():
    processor = StockVideoProcessor(VJEPA2VideoProcessor(crop_size=SIDE, num_frames=4), JEPA, "jepa")
    with pytest.raises(ValueError, match=r"num_crops=3: jepa has .*one view"):
        processor.configure({"num_crops": 3})
    with pytest.raises(ValueError, match="sampler=x: jepa has a processor of transformers"):
        processor.configure({"sampler": "x"})
    with pytest.raises(ValueError, match="num_frames=3 must be a multiple of 2"):
        processor.configure({"num_frames": 3})
    processor.configure({"num_frames": 6, "num_clips": 1})
    assert sampled(processor, 12) == [0, 2, 4, 6, 8, 10]
