"""The video processor: frames, pixels and views from every kind of input, saved and loaded."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoVideoProcessor

from internvideo_hf import InternVideoVideoProcessor, VideoDecodeError, VideoReader
from internvideo_hf.auto import FAMILIES
from internvideo_hf.processing import presets
from internvideo_hf.processing.presets import build_processor
from internvideo_hf.processing.presets.viclip import PROCESSORS
from internvideo_hf.processing.video_processing import RawPixels, list_videos
from internvideo_hf.video import RESIZE_METHODS


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 60, 90, 3), dtype=np.uint8)


def small(**options) -> InternVideoVideoProcessor:
    return InternVideoVideoProcessor(
        **{"size": {"shortest_edge": 32}, "crop_size": {"height": 28, "width": 28}, "num_frames": 4} | options
    )


def pixels(processor: InternVideoVideoProcessor, videos, **options) -> torch.Tensor:
    return processor(videos, return_tensors="pt", **options)["pixel_values_videos"]


def test_one_video_gives_a_batch_of_one_and_a_list_a_batch_of_many(frames):
    assert pixels(small(), frames).shape == (1, 4, 3, 28, 28)
    assert pixels(small(), [frames, frames[:7]]).shape == (2, 4, 3, 28, 28)
    assert pixels(small(), np.stack([frames, frames])).shape == (2, 4, 3, 28, 28)


def test_all_kinds_of_input_give_the_same_pixels(frames, tmp_path):
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{index:03d}.png")
    expected = pixels(small(), frames)
    kinds = {
        "torch": torch.from_numpy(frames),
        "channels first": torch.from_numpy(frames).permute(0, 3, 1, 2),
        "images": [Image.fromarray(frame) for frame in frames],
        "arrays": list(frames),
        "folder": tmp_path,
        "folder by name": str(tmp_path),
    }
    for name, video in kinds.items():
        torch.testing.assert_close(pixels(small(), video), expected, atol=0, rtol=0, msg=name)


@pytest.mark.parametrize(
    ("inputs", "videos", "is_one"),
    [
        ("clip.mp4", 1, True),
        (b"bytes", 1, True),
        (io.BytesIO(b"bytes"), 1, True),
        (np.zeros((5, 8, 8, 3), np.uint8), 1, True),
        (torch.zeros((3, 8, 8), dtype=torch.uint8), 1, True),
        ([Image.new("RGB", (8, 8))] * 3, 1, True),
        ((Image.new("RGB", (8, 8)) for _ in range(3)), 1, True),
        ((np.zeros((8, 8, 3), np.uint8) for _ in range(3)), 1, True),
        ({"path": "clip.mp4", "bytes": None}, 1, True),
        (["clip.mp4"], 1, False),
        (iter(["clip.mp4", "b.mp4"]), 2, False),
        ([iter([]), [Image.new("RGB", (8, 8))], "clip.mp4"], 3, False),
        (np.zeros((1, 5, 8, 8, 3), np.uint8), 1, False),
        ([["a.mp4", "b.mp4"], ("c.mp4",)], 3, False),
        ([[[Image.new("RGB", (8, 8))] * 3], []], 2, False),  # the second has no frames, which its reader says
        (torch.utils.data.TensorDataset(torch.zeros(2, 5)), 2, False),
        ([], 0, False),
        (iter([]), 0, False),
    ],
)
def test_one_video_and_several_are_told_apart(inputs, videos, is_one):
    listed, alone = list_videos(inputs)
    assert (len(listed), alone) == (videos, is_one)


def test_streams_and_readers_of_arrays_have_the_order_and_the_rate_that_they_are_given(frames):
    by_seconds = {"sampler": "retrieval_fps", "sampler_kwargs": {"sample_fps": 2}}
    given = small()(
        [VideoReader(frames, fps=4), VideoReader(frames[..., ::-1], fps=8)], return_metadata=True, **by_seconds
    )
    assert [about.fps for about in given["video_metadata"]] == [4, 8]
    expected = pixels(small(), frames)
    reader = VideoReader(frames[..., ::-1])
    for video in ([reader], [iter(frames[..., ::-1])], iter(frames[..., ::-1]), reader):
        assert torch.equal(pixels(small(), video, input_channel_order="bgr"), expected)
    images = [Image.fromarray(frame) for frame in frames]
    assert torch.equal(pixels(small(), iter(images), input_channel_order="bgr"), expected)
    with pytest.raises(ValueError, match=r"VideoReader\(frames, fps=25\)"):
        pixels(small(), frames, fps=25)


def test_a_file_gives_the_frames_that_its_rule_names(bikes: Path):
    out = small()(bikes, return_metadata=True, do_rescale=False, do_normalize=False, do_resize=False)
    facts = out["video_metadata"][0]
    with VideoReader(bikes) as reader:
        chosen = np.linspace(0, reader.num_frames - 1, 4).astype(int)
        top, left = round((reader.height - 28) / 2), round((reader.width - 28) / 2)
        expected = reader.read(chosen)[:, top : top + 28, left : left + 28]
        assert (facts.total_num_frames, facts.fps) == (reader.num_frames, reader.fps)
    assert facts.frames_indices.tolist() == chosen.tolist()
    assert torch.equal(out["pixel_values_videos"][0], torch.from_numpy(expected).permute(0, 3, 1, 2))


def test_bytes_and_open_files_are_read_too(bikes: Path):
    expected = pixels(small(), bikes)
    assert torch.equal(pixels(small(), bikes.read_bytes()), expected)
    with bikes.open("rb") as file:
        assert torch.equal(pixels(small(), file), expected)


def test_views_come_clip_by_clip_and_crop_by_crop(frames):
    processor = small(num_clips=2, num_crops=3, do_rescale=False, do_normalize=False, do_resize=False)
    views = pixels(processor, frames)
    assert views.shape == (6, 4, 3, 28, 28)
    first_clip, second_clip = frames[:10], frames[10:]
    for view, (clip, left) in enumerate((clip, left) for clip in (first_clip, second_clip) for left in (0, 31, 62)):
        chosen = clip[np.linspace(0, 9, 4).astype(int)][:, 16:44, left : left + 28]
        assert torch.equal(views[view], torch.from_numpy(chosen).permute(0, 3, 1, 2)), view


def test_bgr_models_get_the_channels_reversed(frames):
    plain = {"do_rescale": False, "do_normalize": False}
    rgb, bgr = pixels(small(**plain), frames), pixels(small(channel_order="bgr", **plain), frames)
    assert torch.equal(bgr, rgb.flip(2)) and not torch.equal(bgr, rgb)


def test_exact_size_ignores_the_shape_of_the_picture(frames):
    squashed = small(size={"height": 24, "width": 40}, do_center_crop=False, resize_method="torchvision_bicubic")
    assert pixels(squashed, frames).shape == (1, 4, 3, 24, 40)


def test_blank_frames_are_zero_behind_the_normalisation(frames):
    processor = small(sampler="retrieval_fps")
    out = processor(frames, video_metadata=[{"fps": 10.0, "total_num_frames": 20}], return_tensors="pt")
    clip = out["pixel_values_videos"][0]
    assert clip[:2].abs().sum(dim=(1, 2, 3)).all()  # one frame a second of 20 frames at 10 a second
    assert not clip[2:].any()


def test_a_rule_that_counts_seconds_says_what_it_lacks(frames):
    with pytest.raises(ValueError, match="fps"):
        small(sampler="retrieval_fps")(frames)


def test_without_sampling_all_frames_are_kept(frames):
    assert pixels(small(), frames, do_sample_frames=False).shape == (1, 20, 3, 28, 28)


def test_options_of_a_call_go_before_the_configured_ones(frames):
    assert pixels(small(), frames, num_frames=6, num_clips=2).shape == (2, 6, 3, 28, 28)
    middles = small()(frames, sampler="internvideo_mm_intervals", return_metadata=True)
    assert middles["video_metadata"][0].frames_indices.tolist() == [2, 7, 12, 17]


def test_every_decision_survives_saving(tmp_path, frames):
    processor = small(
        sampler="videomae_dense",
        sampler_kwargs={"sampling_rate": 2},
        num_clips=2,
        num_crops=3,
        resize_method="cv2_linear",
        resize_rounding="floor",
        crop_rounding="ceil",
        channel_order="bgr",
        image_mean=[0.1, 0.2, 0.3],
        decoder="pyav",
    )
    processor.save_pretrained(tmp_path)
    loaded = InternVideoVideoProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    assert torch.equal(pixels(loaded, frames), pixels(processor, frames))


def test_auto_class_loads_it_from_a_converted_folder(mm_folder):
    processor = AutoVideoProcessor.from_pretrained(mm_folder)
    assert type(processor) is InternVideoVideoProcessor
    assert (processor.num_frames, processor.crop_size["height"]) == (8, 224)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "nonsense"}, "internvideo_mm"),
        ({"resize_method": "nonsense"}, "pil_bilinear"),
        ({"resize_rounding": "nonsense"}, "truncate"),
        ({"crop_rounding": "nonsense"}, "round"),
        ({"channel_order": "nonsense"}, "bgr"),
        ({"decoder": "nonsense"}, "pyav"),
        ({"num_clips": 0}, "num_clips"),
        ({"fps": 2.0}, "sampler"),
        ({"crop_size": {"height": 400, "width": 400}}, "crop"),
    ],
)
def test_a_meaningless_option_is_refused_with_the_ones_that_have_a_meaning(frames, options, message):
    with pytest.raises(ValueError, match=message):
        small()(frames, **options)


def test_an_unknown_option_is_refused(frames):
    with pytest.raises((TypeError, ValueError), match="num_frame"):
        small()(frames, num_frame=3)


def test_a_damaged_video_is_an_error_and_never_other_frames(tmp_path, frames):
    damaged = tmp_path / "damaged.mp4"
    damaged.write_text("no video")
    with pytest.raises(VideoDecodeError, match="damaged.mp4"):
        small()([frames, damaged])


def test_as_many_metadata_as_videos(frames):
    with pytest.raises(ValueError, match="got 1, expected one for each"):
        small()([frames, frames], video_metadata=[{"fps": 10.0, "total_num_frames": 20}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_crops": 0}, "num_crops: got 0, expected an integer"),
        ({"num_clips": 1.5}, "num_clips: got 1.5, expected an integer"),
        ({"num_frames": 0}, "num_frames: got 0"),
        ({"sampler": "uniformerv2_train"}, "samples at random"),
        ({"image_mean": [0.5]}, "image_mean: got .*, expected 3 numbers"),
        ({"size": {"longest_edge": 32}}, "shortest_edge"),
        ({"do_sample_frames": False, "num_clips": 3}, "num_clips: got 3, expected a divisor of 20 frames"),
    ],
)
def test_options_without_a_meaning_are_refused(frames, options, message):
    with pytest.raises(ValueError, match=message):
        pixels(small(), frames, **options)


def test_nothing_at_all_is_refused():
    with pytest.raises(ValueError, match="videos is empty"):
        small()([])


def test_float_methods_resize_what_the_released_code_normalises_first(frames):
    processor = small(
        resize_method="torch_bilinear", resize_rounding="floor", image_mean=[0.45] * 3, image_std=[0.225] * 3
    )
    video = (torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 - 0.45) / 0.225
    video = torch.nn.functional.interpolate(video, size=(32, 48), mode="bilinear", align_corners=False)
    chosen = np.linspace(0, 19, 4).astype(int)
    expected = video[chosen][None, :, :, 2:30, 10:38]
    torch.testing.assert_close(pixels(processor, frames), expected, atol=1e-5, rtol=1e-5)


def test_another_sampler_keeps_no_options_of_the_former_one():
    processor = InternVideoVideoProcessor(num_frames=4, sampler="videomae_dense", sampler_kwargs={"sampling_rate": 4})
    frames = torch.zeros(20, 3, 30, 40, dtype=torch.uint8)
    called = processor(frames, sampler="videomae_sparse", return_metadata=True, return_tensors="pt")
    assert called["video_metadata"][0].frames_indices.tolist() == [0, 5, 10, 15]
    processor.configure({"sampler": "videomae_sparse"})
    assert processor.sampler_kwargs == {}
    processor.configure({"sampler": "videomae_dense", "sampler_kwargs": {"sampling_rate": 2}})
    assert processor.sampler_kwargs == {"sampling_rate": 2}
    processor.configure({"num_frames": 5})
    assert processor.sampler_kwargs == {"sampling_rate": 2}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"resize_method": "cv2_linear", "size": {"height": 20, "width": 31}, "channel_order": "bgr"},
        {"resize_method": "torch_bilinear", "size": {"shortest_edge": 24}},
        {"do_resize": False, "do_normalize": False},
        {"do_rescale": False, "image_mean": 100.0, "image_std": 50.0},
    ],
)
def test_whole_frames_have_the_pixels_of_a_call_without_crops(frames, options, tmp_path):
    InternVideoVideoProcessor(**options).save_pretrained(tmp_path)
    for processor in (InternVideoVideoProcessor(**options), AutoVideoProcessor.from_pretrained(tmp_path)):
        called = processor([frames], do_sample_frames=False, do_center_crop=False, return_tensors="pt")
        assert torch.equal(processor.process_whole(np.asarray(frames)), called["pixel_values_videos"][0])


RAW_OPTIONS = [
    {"num_clips": 2, "num_crops": 3},
    {"do_normalize": False},
    {"do_rescale": False, "image_mean": [100.0, 90.0, 80.0], "image_std": 50.0},
    {"do_resize": False, "channel_order": "bgr"},
    {"size": {"height": 24, "width": 40}, "do_center_crop": False},
    {"sampler": "retrieval_fps", "video_metadata": [{"fps": 10.0, "total_num_frames": 20}], "num_clips": 1},
]


@pytest.mark.parametrize("options", RAW_OPTIONS)
@pytest.mark.parametrize("method", RESIZE_METHODS)
def test_raw_pixels_normalize_to_the_bits_of_a_call(frames, method, options):
    processor = small(resize_method=method)
    expected = pixels(processor, frames, **options)
    (raw,) = pickle.loads(pickle.dumps(processor.raw_inputs(frames, **options))).values()
    if method.startswith("torch_") and options.get("do_resize", True):
        assert torch.equal(raw, expected) and raw.dtype == torch.float32
        return
    assert raw.pixels.dtype == np.uint8 and raw.pixels.shape == expected.shape
    raw.pixels.flags.writeable = False  # as in the memory that a cluster shares
    made = raw.normalized()
    assert made.dtype == expected.dtype and torch.equal(made, expected)
    assert torch.equal(raw.normalized("cpu"), expected)  # again: nothing has been written


def with_pixels() -> list[tuple[str, str | None]]:
    """Return the families with processors of their own, each with the names of these."""
    named = {"viclip": [None, *PROCESSORS]}
    return [(family, name) for family in presets._presets() for name in named.get(family, [None])]


@pytest.mark.parametrize(("family", "name"), with_pixels())
def test_decoders_send_bytes_for_every_family_but_uniformerv2(frames, family, name):
    processor = build_processor(FAMILIES[family].config(), name)
    videos = getattr(processor, "video_processor", processor)
    expected = videos(frames, return_tensors="pt")
    raw = videos.raw_inputs(frames)
    assert list(raw) == list(videos.branches)
    for key, made in raw.items():
        is_raw = isinstance(made, RawPixels)
        assert is_raw == (videos.branches[key].resize_method != "torch_bilinear")
        assert torch.equal(made.normalized() if is_raw else made, expected[key])
        if is_raw:
            assert made.pixels.nbytes * 4 == expected[key].nbytes
