"""Samples around key frames: boxes that follow their pixels, batches, draws by seed, and unreadable videos."""

import pickle

import numpy as np
import pytest
import torch
from tasks.action_detection.drawn import CLASSES, PROCESSOR, write_videos

from internvideo_hf import InternVideoVideoProcessor
from internvideo_hf.data.failures import FailureLog, TooManyFailuresError
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.action_detection.data import (
    ClipRule,
    KeyFrameDataset,
    collate,
    read_key_frames,
    with_sources,
)
from internvideo_hf.tasks.action_detection.lists import read_training_rows
from internvideo_hf.tasks.action_detection.videos import VideoFolder
from internvideo_hf.tasks.protocol import BoxData
from internvideo_hf.video.errors import VideoDecodeError

SETTINGS = BoxData(crop_size=24, color=[0, 0, 0], jitter=None, extension=[0, 0])


def rule(data: BoxData = SETTINGS, **processor) -> ClipRule:
    return ClipRule.of(InternVideoVideoProcessor(**PROCESSOR | processor), data, len(CLASSES))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn")
    write_videos(root)
    return root


@pytest.fixture(scope="module")
def rows(root):
    return read_training_rows(root / "train.csv", root, boxes=SETTINGS)[0]


@pytest.fixture(scope="module")
def videos(root):
    return VideoFolder(root / "videos")


def shown_in(pixels: torch.Tensor, box: list[float]) -> list[float]:
    """Return the mean red, green and blue inside a box, away from its border."""
    left, top, right, bottom = (round(edge) for edge in box)
    return pixels[0, :, top + 1 : bottom, left + 1 : right].mean((1, 2)).tolist()


def test_numbers_of_frames_and_statistics_are_the_processors():
    found = rule(image_mean=[0.4, 0.4, 0.4])
    assert (found.num_frames, found.stride, found.pixels.short_side) == (4, 2, 32)
    assert (found.pixels.mean, found.pixels.crop_size, found.pixels.flip) == ((0.4, 0.4, 0.4), 24, 0.5)


def test_evaluation_pixels_are_the_processors(videos, rows):
    processor = InternVideoVideoProcessor(**PROCESSOR | {"size": {"shortest_edge": 24}})
    sample = KeyFrameDataset(rows, videos, rule(size={"shortest_edge": 24}), training=False)[1]
    frames = videos.find(rows[1]["video"], 1).read(1, 4, 2)
    options = {"do_sample_frames": False, "num_clips": 1, "num_crops": 1, "return_tensors": "pt"}
    expected = processor(frames, **options)["pixel_values_videos"][0]
    torch.testing.assert_close(sample["pixel_values_videos"], expected)


@pytest.mark.parametrize(("training", "size"), [(True, 32), (True, 50), (False, 32), (False, 50)])
def test_boxes_hold_the_people_of_their_labels(videos, rows, training, size):
    plain = rule(size={"shortest_edge": size}, image_mean=[0, 0, 0], image_std=[1, 1, 1])
    samples, seen = KeyFrameDataset(rows, videos, plain, training=training, seed=1), set()
    for index in range(len(rows)):
        sample = samples[index]
        for box, labels in zip(sample["boxes"].tolist(), sample["labels"].tolist(), strict=True):
            if min(box[2] - box[0], box[3] - box[1]) < 5:
                continue  # the border of the crop
            color = CLASSES[labels.index(1)]
            red, green, _ = shown_in(sample["pixel_values_videos"], box)
            assert (green, red)[CLASSES.index(color)] > 0.8 > 0.3 > (red, green)[CLASSES.index(color)]
            seen.add(color)
    assert seen == set(CLASSES)


def test_people_outside_the_crop_are_left_out_but_as_published(videos, rows):
    for as_published in (False, True):
        data = BoxData(crop_size=16, jitter=None, as_published=as_published)
        samples = KeyFrameDataset(rows, videos, rule(data), training=True)
        counts = [len(samples[index]["boxes"]) for index in range(len(rows))]
        assert all(len(samples[index]["labels"]) == count for index, count in enumerate(counts))
        assert (set(counts) == {2}) == as_published


def test_no_more_than_a_hundred_people_are_trained_on_with_their_labels():
    many = {"boxes": [[n / 300, 0, n / 300 + 0.1, 1] for n in range(200)], "labels": [[n % 2] for n in range(200)]}
    whole = rule(BoxData(crop_size=None, jitter=None, flip=0))
    sample = whole.training_sample(many, np.zeros((4, 32, 48, 3), np.uint8), 0)
    assert sample["boxes"].shape == (100, 4) and sample["labels"].sum(1).tolist() == [1] * 100
    parity = (sample["boxes"][:, 0] / 48 * 300).round() % 2
    assert torch.equal(sample["labels"].argmax(1), parity.long())


def test_samples_depend_on_seed_epoch_and_index(videos, rows):
    jittered = rule(BoxData(crop_size=24))
    first, second = (KeyFrameDataset(rows, videos, jittered, training=True, seed=seed) for seed in (3, 3))
    assert torch.equal(first[2]["boxes"], second[2]["boxes"])
    assert torch.equal(first[2]["pixel_values_videos"], second[2]["pixel_values_videos"])
    second.set_epoch(1)
    assert not torch.equal(first[2]["boxes"], second[2]["boxes"])


def test_boxes_of_an_evaluation_are_extended(videos, rows):
    plain, larger = (
        KeyFrameDataset(rows, videos, rule(BoxData(extension=amount)), training=False)[0]["boxes"]
        for amount in ([0, 0], [0.1, 0.05])
    )
    size = plain[:, 2:] - plain[:, :2] + 1
    gain = (larger[:, 2:] - larger[:, :2] + 1) - size
    assert (gain <= size * torch.tensor([0.1, 0.05]) + 1e-4).all() and (gain > 0).all()


def test_batches_have_masks_of_boxes_and_pixels():
    def sample(boxes: int, height: int) -> dict:
        return {
            "pixel_values_videos": torch.ones(4, 3, height, 24),
            "boxes": torch.ones(boxes, 4),
            "labels": torch.ones(boxes, 2),
            "video": f"v{boxes}",
        }

    batch = collate([sample(1, 24), sample(3, 17), sample(0, 24)], multiple=8)
    assert batch["pixel_values_videos"].shape == (3, 4, 3, 24, 24) and batch["boxes"].shape == (3, 3, 4)
    assert batch["box_mask"].tolist() == [[True, False, False], [True] * 3, [False] * 3]
    assert batch["labels"][..., 0].tolist() == [[1, -100, -100], [1, 1, 1], [-100] * 3]
    assert batch["pixel_mask"].sum((1, 2)).tolist() == [576, 408, 576] and batch["videos"] == ["v1", "v3", "v0"]
    assert "pixel_mask" not in collate([sample(1, 24)], multiple=8)


def test_unreadable_videos_are_logged_and_left_out_or_blank(root, rows, tmp_path):
    (tmp_path / "video0.mp4").write_bytes(b"nothing")
    broken = VideoFolder(tmp_path)
    log = FailureLog(tmp_path / "failures.jsonl", max_share=0.9)
    samples = KeyFrameDataset(rows, broken, rule(), training=True, failures=log)
    assert set(samples[0]) == {"failure"} and "no file of its name" in samples[len(rows) - 1]["failure"]
    assert "FFmpeg" in samples[1]["failure"] and log.read().keys() == {"video0", "video3"}
    with pytest.raises(VideoDecodeError):
        KeyFrameDataset(rows, broken, rule(), training=True)[0]
    good = KeyFrameDataset(rows, VideoFolder(root / "videos"), rule(), training=True)[0]
    assert len(collate([good, samples[0]])["boxes"]) == 1
    filled = collate([good, samples[0]], fill_gaps=True)
    assert filled["box_mask"].sum(1).tolist() == [len(good["boxes"]), 0]
    assert filled["pixel_values_videos"][1].abs().max() == 0 and (filled["labels"][1] == -100).all()
    with pytest.raises(TooManyFailuresError, match="None of the 1 key frames"):
        collate([samples[0]])


def by_file(rows, videos) -> list[list[dict]]:
    found = with_sources(list(rows), videos)
    return [[row for row in found if row["file"] == file] for file in dict.fromkeys(row["file"] for row in found)]


def test_clips_of_an_evaluation_are_those_of_the_data_set(videos, rows):
    samples = KeyFrameDataset(rows, videos, rule(), training=False)
    found = [one for group in by_file(rows, videos) for one in read_key_frames(group, rule())]
    assert len(found) == len(rows)  # which are in the order of files
    for index, sample in enumerate(found):
        for name in ("pixel_values_videos", "boxes"):
            torch.testing.assert_close(sample[name], samples[index][name])


def test_samples_are_the_same_in_a_process_that_is_spawned(videos, rows):
    samples = KeyFrameDataset(rows, videos, rule(), training=True)
    copied = pickle.loads(pickle.dumps(samples))
    assert torch.equal(copied[3]["pixel_values_videos"], samples[3]["pixel_values_videos"])
    group = by_file(rows, videos)[0]
    first, second = (read_key_frames(own, rule()) for own in (group, pickle.loads(pickle.dumps(group))))
    assert torch.equal(first[0]["pixel_values_videos"], second[0]["pixel_values_videos"])


def test_videos_that_cannot_be_read_have_causes(rows, root, tmp_path):
    (tmp_path / "video0.mp4").write_bytes(b"nothing")
    (tmp_path / "video1.mp4").symlink_to(root / "videos/video1.mp4")
    groups = by_file(rows, VideoFolder(tmp_path))
    causes = {group[0]["video"]: read_key_frames(group, rule())[0] for group in groups}
    assert "no file of its name" in str(causes["video3"]) and "no file of its name" in str(causes["video2"])
    assert "FFmpeg" in str(causes["video0"]) and isinstance(causes["video1"], dict)


@pytest.mark.parametrize(
    ("data", "processor", "message"),
    [
        (BoxData(), {"do_center_crop": True}, "set do_center_crop=false"),
        (BoxData(), {"size": {"height": 32, "width": 32}}, "with a short side"),
        (BoxData(color=[1, 2]), {}, r"data.boxes.color is \[1, 2\], expected 3 numbers"),
        (BoxData(jitter=[0.1, 0.1, 0.1, -1]), {}, "data.boxes.jitter"),
    ],
)
def test_wrong_settings_are_refused(data, processor, message):
    with pytest.raises(RecipeError, match=message):
        rule(data, **processor)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_size": 33}, "data.boxes.crop_size is 33, expected 1 to 32"),
        ({"crop_size": 0}, "data.boxes.crop_size is 0"),
        ({"crop_size": -5}, "data.boxes.crop_size is -5"),
        ({"flip": 3.0}, "data.boxes.flip is 3.0, expected a probability"),
        ({"flip": float("nan")}, "data.boxes.flip is nan"),
    ],
)
def test_draws_of_training_out_of_range_are_refused_before_a_video_is_read(changes, message):
    data = BoxData(**{"crop_size": None} | changes)
    found = rule(data, size={"shortest_edge": 32})  # evaluation draws nothing
    with pytest.raises(RecipeError, match=message):
        found.check_training()
