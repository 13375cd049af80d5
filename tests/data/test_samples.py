"""Samples: what they hold, and which settings are refused."""

import pickle

import numpy as np
import pytest
import torch
from data.settings import IMAGENET, PIXELS, settings
from PIL import Image
from video.clips import decode_in_order, write_video

from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.samples import SampleSettings, make_sample
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor, RawPixels
from internvideo_hf.video import VideoDecodeError
from internvideo_hf.video.augment import normalize

WHOLE = {"sampler": "internvideo_mm", "sampler_options": {}}


def test_a_sample_has_frames_first_and_its_label(rows):
    sample = VideoDataset(rows, settings())[2]
    assert sample["pixel_values_videos"].shape == (4, 3, 16, 16)
    assert sample["pixel_values_videos"].dtype == torch.float32
    assert sample["labels"].dtype == torch.int64 and int(sample["labels"]) == 2
    assert "captions" not in sample and "bool_masked_pos" not in sample


def test_views_share_their_frames_and_draw_their_own_crops_and_masks(rows):
    mask = {"mask": "tube", "mask_ratio": 0.5, "patch_size": 4, "tubelet_size": 2}
    sample = make_sample(rows[0], settings(view="pretraining", num_views=3, mask=mask), 5)
    assert sample["pixel_values_videos"].shape == (3, 4, 3, 16, 16)
    assert sample["bool_masked_pos"].shape == (3, 2 * 4 * 4)
    assert sample["bool_masked_pos"].sum(1).tolist() == [16] * 3
    assert not torch.equal(*sample["pixel_values_videos"][:2])
    batch = VideoCollator()([sample, make_sample(rows[1], settings(view="pretraining", num_views=3, mask=mask), 6)])
    assert batch["labels"].tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(batch["bool_masked_pos"][:3], sample["bool_masked_pos"])


def test_evaluation_has_the_processors_pixels(rows):
    processor = InternVideoVideoProcessor(
        num_frames=4, size={"shortest_edge": 20}, crop_size={"height": 16, "width": 16}
    )
    row = rows[3]
    sample = make_sample(row, settings(**WHOLE, view="processor", view_options={"processor": processor}), 0)
    expected = processor(row["video"], return_tensors="pt")["pixel_values_videos"][0]
    assert torch.equal(sample["pixel_values_videos"], expected)


@pytest.mark.parametrize("method", ["pil_bilinear", "torch_bilinear"])
def test_raw_samples_of_a_processor_normalize_to_the_same_bits(rows, method):
    processor = InternVideoVideoProcessor(
        size={"shortest_edge": 20}, crop_size={"height": 16, "width": 16}, resize_method=method, channel_order="bgr"
    )
    # One frame a second of videos of one or two seconds: the others are blank.
    chosen = {"sampler": "retrieval_fps", "sampler_options": {}, "num_frames": 4}
    how = settings(**chosen, view="processor", view_options={"processor": processor})
    row = rows[-1]
    expected, raw = make_sample(row, how, 0), make_sample(row, how, 0, raw_processor=True)
    pixels = raw["pixel_values_videos"]
    assert expected["pixel_values_videos"][0].any() and not expected["pixel_values_videos"][-1].any()
    assert isinstance(pixels, RawPixels) == (method == "pil_bilinear") and raw.keys() == expected.keys()
    made = pixels.normalized() if isinstance(pixels, RawPixels) else pixels
    assert torch.equal(made, expected["pixel_values_videos"])
    drawn = (make_sample(row, settings(), 0, raw_processor=raw)["pixel_values_videos"] for raw in (False, True))
    assert torch.equal(*drawn)  # views for training are as they were


def test_a_span_of_seconds_keeps_to_its_frames(tmp_path):
    path = write_video(tmp_path / "v.mp4", 60, size=(16, 16))
    frames = torch.from_numpy(decode_in_order(path)).permute(0, 3, 1, 2)
    whole = settings(
        num_frames=15, **WHOLE, view="contrastive", view_options=PIXELS | {"area": (1.0, 1.0), "flip_probability": 0}
    )
    row = {"video": str(path), "start": 0.5, "end": 1.0, "caption": "a wave"}
    sample = make_sample(row, whole, 0)
    assert torch.equal(sample["pixel_values_videos"], normalize(frames[15:30], **IMAGENET))
    assert sample["captions"] == "a wave"
    late = make_sample(row | {"start": 1.9, "end": 99.0}, settings(num_frames=3, **WHOLE, view="contrastive"), 0)
    assert len(late["pixel_values_videos"]) == 3
    with pytest.raises(VideoDecodeError, match="starts at 2 s, the last frame is at 1.96667 s"):
        make_sample(row | {"start": 2.0, "end": 3.0}, whole, 0)


def test_frame_folders_are_counted_against_the_list(tmp_path):
    for number in range(1, 9):
        Image.fromarray(np.full((20, 24, 3), number, np.uint8)).save(tmp_path / f"img_{number:05}.jpg")
    row = {"video": str(tmp_path), "num_frames": 8, "label": 1}
    assert make_sample(row, settings(sampler="videomae_ssv2_train", sampler_options={}), 0)["labels"] == 1
    with pytest.raises(VideoDecodeError, match="the list says 9 frames, 8 can be read"):
        make_sample(row | {"num_frames": 9}, settings(), 0)
    for wrong in ({"start": 0.0, "end": 1.0}, {}):
        with pytest.raises(VideoDecodeError, match="no frame rate"):
            make_sample(row | wrong, settings(sampler="retrieval_fps", sampler_options={}), 0)


def test_blank_frames_are_zero_and_bgr_is_the_other_way_round(rows):
    one = {"view_options": PIXELS | {"flip_probability": 0, "area": (1.0, 1.0), "mean": (0.5,) * 3, "std": (0.5,) * 3}}
    blank = make_sample(rows[0], settings(sampler="retrieval_fps", sampler_options={}, view="contrastive", **one), 0)
    assert [bool(frame.any()) for frame in blank["pixel_values_videos"]] == [True, False, False, False]
    rgb, bgr = (make_sample(rows[0], settings(view="contrastive", channel_order=o, **one), 0) for o in ("rgb", "bgr"))
    assert torch.equal(rgb["pixel_values_videos"].flip(1), bgr["pixel_values_videos"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampler": "uniform"}, "sampler: got 'uniform'"),
        ({"view": "random"}, "view: got 'random'"),
        ({"sampler_options": {"rate": 2}}, r"unknown are \['rate'\]"),
        ({"view_options": {"size": 16}}, r"missing are \['mean', 'std'\]"),
        ({"num_views": 0}, "num_views: got 0"),
        ({"mask": {"mask": "tube"}}, "mask_ratio"),
        ({"channel_order": "grb"}, "channel_order"),
    ],
)
def test_settings_refuse_what_they_do_not_know(changes, words):
    with pytest.raises(ValueError, match=words):
        settings(**changes)


def test_settings_are_plain_data():
    assert pickle.loads(pickle.dumps(settings())) == settings()
    with pytest.raises(TypeError):
        SampleSettings(sampler="internvideo_mm", view="finetuning")
