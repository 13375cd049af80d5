"""The fused model's processor: pixels for each encoder from one decoding."""

import numpy as np
import pytest
import torch
from transformers import AutoVideoProcessor
from video.clips import write_video

from internvideo_hf import InternVideoFusedVideoProcessor, InternVideoVideoProcessor, VideoReader
from internvideo_hf.video import reader as reading


def branch(**options) -> InternVideoVideoProcessor:
    return InternVideoVideoProcessor(
        **{"size": {"shortest_edge": 32}, "crop_size": {"height": 28, "width": 28}, "num_frames": 4} | options
    )


def fused(**options) -> InternVideoFusedVideoProcessor:
    """Two that differ in frames, rule, size, statistics and color order."""
    mae = branch(sampler="videomae_dense", sampler_kwargs={"sampling_rate": 2}, **options)
    other = {"crop_size": {"height": 24, "width": 32}, "image_mean": [0.45] * 3, "image_std": [0.225] * 3}
    uniformerv2 = branch(num_frames=3, sampler="uniformerv2", channel_order="bgr", **other, **options)
    return InternVideoFusedVideoProcessor(mae, uniformerv2)


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    return str(write_video(tmp_path_factory.mktemp("video") / "clip.mp4", num_frames=30))


def test_both_inputs_are_those_of_the_encoders_own_processors(video):
    processor = fused()
    views = {"num_clips": 2, "num_crops": 3, "return_tensors": "pt"}
    made = processor([video, video], **views)
    assert list(made) == ["pixel_values_videos", "uniformerv2_pixel_values_videos"]
    assert made["pixel_values_videos"].shape == (12, 4, 3, 28, 28)
    assert made["uniformerv2_pixel_values_videos"].shape == (12, 3, 3, 24, 32)
    for name, own in processor.branches.items():
        assert torch.equal(made[name], own([video, video], **views)["pixel_values_videos"]), name


def test_raw_inputs_normalize_to_those_of_a_call(video):
    processor = fused()
    processor.uniformerv2.resize_method = "torch_bilinear"
    options = {"num_clips": 2, "num_crops": 3, "uniformerv2": {"num_frames": 5}}
    expected, raw = processor(video, return_tensors="pt", **options), processor.raw_inputs(video, **options)
    assert torch.equal(raw["pixel_values_videos"].normalized(), expected["pixel_values_videos"])
    assert torch.equal(raw["uniformerv2_pixel_values_videos"], expected["uniformerv2_pixel_values_videos"])
    with pytest.raises(ValueError, match="per-encoder option"):
        processor.raw_inputs(video, size=3)


def test_a_video_is_decoded_once_for_both(video, monkeypatch):
    opened, asked = [], []

    class Counting(VideoReader):
        def __init__(self, *args, **kwargs):
            opened.append(args)
            super().__init__(*args, **kwargs)

        def read_clips(self, clips):
            asked.append({index for clip in clips for index in clip.tolist()})
            return super().read_clips(clips)

    monkeypatch.setattr("internvideo_hf.processing.video_processing.VideoReader", Counting)
    processor = fused()
    processor(video)
    wanted = [VideoReader(video).num_frames]
    assert len(opened) == len(asked) == len(wanted)
    facts = processor(video, return_metadata=True)
    assert set(facts["video_metadata"][0].frames_indices) < asked[0], "the other encoder's frames were read as well"


def test_options_of_one_encoder_leave_the_other_alone(video):
    made = fused()(video, return_tensors="pt", uniformerv2={"num_frames": 5})
    assert made["pixel_values_videos"].shape[1] == 4
    assert made["uniformerv2_pixel_values_videos"].shape[1] == 5
    assert fused()(video, return_tensors="pt", num_frames=5)["pixel_values_videos"].shape[1] == 5
    with pytest.raises(ValueError, match="sampler is a per-encoder option"):
        fused()(video, sampler="uniformerv2")


def test_a_saved_processor_is_found_and_makes_the_same(video, tmp_path):
    processor = fused(num_clips=2)
    processor.save_pretrained(tmp_path)
    loaded = AutoVideoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is InternVideoFusedVideoProcessor
    assert loaded.to_dict() == processor.to_dict()
    expected, actual = (one(video, return_tensors="pt") for one in (processor, loaded))
    assert expected["pixel_values_videos"].shape[0] == 2
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_views_are_set_for_both_at_once(video, tmp_path):
    assert fused(num_clips=1)(video, num_clips=3)["uniformerv2_pixel_values_videos"][0].shape == (3, 3, 24, 32)
    fused().save_pretrained(tmp_path)
    made = AutoVideoProcessor.from_pretrained(tmp_path, num_clips=2, num_crops=3)(video, return_tensors="pt")
    assert [len(pixels) for pixels in made.values()] == [6, 6]
    with pytest.raises(ValueError, match="nmu_clips is a per-encoder option"):
        InternVideoFusedVideoProcessor(branch(), branch(), nmu_clips=3)


def test_what_must_be_alike_is_checked_in_a_call_too(video):
    with pytest.raises(ValueError, match="num_clips: got 1 for internvideo_mae and 2 for uniformerv2"):
        fused()(video, uniformerv2={"num_clips": 2})
    with pytest.raises(ValueError, match="input_channel_order: got 'rgb'"):
        InternVideoFusedVideoProcessor(branch(), branch(input_channel_order="bgr"))
    with pytest.raises(ValueError, match="Unknown option num_framse. Did you mean num_frames"):
        fused()(video, uniformerv2={"num_framse": 2})


def test_different_numbers_of_views_and_missing_halves_are_refused():
    with pytest.raises(ValueError, match="num_clips: got 2 for internvideo_mae and 1 for uniformerv2"):
        InternVideoFusedVideoProcessor(branch(num_clips=2), branch())
    with pytest.raises(ValueError, match="two processors"):
        InternVideoFusedVideoProcessor(branch())


def test_arrays_are_taken_by_both():
    frames = np.random.default_rng(0).integers(0, 256, (20, 60, 90, 3), dtype=np.uint8)
    processor = fused()
    made = processor([frames, frames[:9]], return_tensors="pt")
    for name, own in processor.branches.items():
        assert torch.equal(made[name], own([frames, frames[:9]], return_tensors="pt")["pixel_values_videos"])


def test_clips_of_one_pass_are_those_read_one_by_one(video):
    with reading.VideoReader(video) as reader:
        clips = [np.array([3, 1, 1]), np.array([29, 0]), np.array([-1, 5])]
        together = reader.read_clips(clips)
        assert [len(frames) for frames in together] == [3, 2, 2]
        for indices, frames in zip(clips[:2], together[:2], strict=True):
            assert np.array_equal(frames, reader.read(indices))
        assert np.array_equal(together[2][1], reader.read([5])[0])
