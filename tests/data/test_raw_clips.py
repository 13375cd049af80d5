"""Clips as bytes: what is left to the device gives the bits of normalized clips."""

from functools import partial

import pytest
import torch
from data.settings import PIXELS, batches, settings

from internvideo_hf.data.collation import VideoCollator, finish_batch
from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.raw_clips import RawClips
from internvideo_hf.data.samples import make_sample
from internvideo_hf.data.shards import ShardDataset, write_shards
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor

FAST = {"view": "finetuning", "view_options": PIXELS | {"augmentation_backend": "tensor", "erasing_probability": 1}}
VIEWS = {
    "finetuning": FAST,
    "two views": FAST | {"num_views": 2},
    "pretraining": {"view": "pretraining", "num_views": 2},
    "contrastive": {"view": "contrastive"},
    "cropped": {"view": "cropped"},
    "corners": {"view": "corners"},
    # One frame a second of videos of one or two seconds: the others are blank.
    "blank": {"view": "contrastive", "sampler": "retrieval_fps", "sampler_options": {}, "num_views": 2},
}


def assert_same(raw: list[dict], expected: list[dict]) -> None:
    for batch, whole in zip(raw, expected, strict=True):
        clips = batch["pixel_values_videos"]
        assert isinstance(clips, RawClips) and clips.pixels.dtype == torch.uint8
        finished = finish_batch(batch)
        assert finished.keys() == whole.keys()
        assert all(torch.equal(finished[name], whole[name]) for name in whole)


@pytest.mark.parametrize("view", VIEWS)
def test_bytes_that_are_normalized_and_mixed_later_give_the_same_bits(rows, view):
    dataset = partial(VideoDataset, rows, settings(**VIEWS[view]), seed=7)
    expected = batches(dataset(), mix=True)
    if view == "blank":
        assert not batches(dataset())[0]["pixel_values_videos"][0, -1].any()
    for workers in (0, 2):
        assert_same(batches(dataset(raw=True), workers, mix=True), expected)


def test_shards_give_bytes_as_lists_do(rows, tmp_path):
    write_shards(rows, tmp_path, samples_per_shard=3)
    assert_same(
        batches(ShardDataset(tmp_path, settings(**FAST), raw=True), 2),
        batches(ShardDataset(tmp_path, settings(**FAST)), 2),
    )


def test_what_is_normalized_before_its_last_step_stays_so(rows):
    expected, sample = (VideoDataset(rows, settings(), raw=raw)[0]["pixel_values_videos"] for raw in (False, True))
    assert torch.equal(sample, expected)


def test_views_of_a_processor_stay_normalized(rows):
    side = {"height": 16, "width": 16}
    processor = InternVideoVideoProcessor(size=side, crop_size=side, resize_method="pil_bilinear")
    how = settings(view="processor", view_options={"processor": processor})
    raw, expected = (batches(VideoDataset(rows[:2], how, raw=raw), 0) for raw in (True, False))
    assert raw[0]["pixel_values_videos"].dtype == torch.float32
    assert torch.equal(raw[0]["pixel_values_videos"], expected[0]["pixel_values_videos"])


def test_an_unreadable_video_of_an_evaluation_is_blank(rows):
    sample = make_sample(rows[0], settings(view="contrastive"), 0, raw=True)
    batch = VideoCollator(fill_gaps=True)([sample, {"failure": "a.mp4: it is empty."}])
    pixels = finish_batch(batch)["pixel_values_videos"]
    assert pixels[0].any() and not pixels[1].any() and batch["labels"].tolist() == [0, -100]


def test_clips_move_as_tensors_do(rows):
    clips = VideoCollator()([make_sample(rows[0], settings(view="contrastive"), 0, raw=True)])["pixel_values_videos"]
    moved = clips.to("meta", non_blocking=True)
    assert (moved.pixels.device.type, moved.blank.device.type) == ("meta", "meta")
    assert moved.normalized().shape == (1, 4, 3, 16, 16) and clips.numel() == 4 * 3 * 16 * 16
