"""Features on disk as samples: lengths, times, windows."""

import random

import numpy as np
import pytest
import torch

from internvideo_hf.data.features import FeatureFolder, FeatureGrid, FeatureSettings
from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.temporal_localization.annotations import VideoAnnotation
from internvideo_hf.tasks.temporal_localization.data import (
    Cropping,
    FeatureDataset,
    Sample,
    crop,
)

ROWS = np.arange(20, dtype=np.float64).reshape(10, 2)


def annotation(*segments: tuple[float, float], **facts) -> VideoAnnotation:
    rows = np.array(segments, dtype=np.float32).reshape(-1, 2)
    return VideoAnnotation("training", rows, np.arange(1, 1 + len(rows)), **facts)


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "v_one.npy", ROWS)
    np.savez(tmp_path / "v_two.npz", ROWS[:4])
    return tmp_path


def test_a_video_has_its_own_length_or_that_of_a_reference(folder, tmp_path):
    videos = {"one": annotation((0, 1), fps=30.0), "two": annotation(fps=30.0), "three": annotation()}
    features, settings = FeatureFolder(folder, "v_"), FeatureSettings(stride=4)
    own = FeatureDataset(videos, features, settings)
    assert own.videos == ["one", "two"] and own.missing == ["three"] and len(own) == 2
    assert own[0].features.shape == (10, 2) and own[0].labels.tolist() == [1]
    assert own[0].segments.tolist() == [[-2, 5.5]] and own[1].segments.shape == (0, 2)
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other/one.npy", np.zeros((5, 7)))
    resized = FeatureDataset(videos, features, settings, reference=FeatureFolder(tmp_path / "other"))
    assert resized.videos == ["one"] and resized[0].segments.tolist() == [[-2, 5.5]]
    assert resized[0].features.tolist() == ((ROWS[::2] + ROWS[1::2]) / 2).tolist()


def test_features_of_a_fixed_length_are_spread_over_the_video(folder):
    videos = {"one": annotation((1, 2), fps=25.0, duration=20.0)}
    settings = FeatureSettings(stride=None, num_frames=2, fps=10, fixed_length=40, prefix="v_")
    (sample,) = FeatureDataset(videos, FeatureFolder(folder, "v_"), settings, cropping=Cropping(5))
    assert sample.features.shape == (40, 2)  # windows are for features of any length
    assert sample.grid == FeatureGrid(stride=5, num_frames=10, fps=10)
    assert sample.segments.tolist() == [[1, 3]]


def test_unknown_times_are_refused(folder):
    features = FeatureFolder(folder, "v_")
    with pytest.raises(ManifestError, match="one: .*frames a second; set fps"):
        FeatureDataset({"one": annotation()}, features, FeatureSettings(4))[0]
    with pytest.raises(ManifestError, match="one: .*no duration"):
        FeatureDataset({"one": annotation(fps=3.0)}, features, FeatureSettings(None))[0]
    with pytest.raises(ManifestError, match="none of its files .* such as nine"):
        FeatureDataset({"nine": annotation()}, features, FeatureSettings(4))


def test_training_of_activitynet_drops_what_lies_behind_the_features(folder):
    # Rows 0 to 10, a row a second from 0 on.
    settings = FeatureSettings(stride=1, num_frames=0, fps=1)
    segments = [(2, 4), (2, 4), (8, 15), (10, 12), (11, 12)]
    videos = {"one": VideoAnnotation("x", np.array(segments, np.float32), np.array([3, 3, 3, 3, 3]))}
    options = {"tidy": True, "class_agnostic": True}
    (sample,) = FeatureDataset(videos, FeatureFolder(folder, "v_"), settings, **options)
    assert sample.segments.tolist() == [[2, 4], [8, 10]] and sample.labels.tolist() == [0, 0]
    (sample,) = FeatureDataset(videos, FeatureFolder(folder, "v_"), settings)
    assert sample.segments.tolist() == [list(segment) for segment in segments]


def sample_of(length: int, *segments: tuple[float, float]) -> Sample:
    rows = torch.arange(length, dtype=torch.float32)[:, None]
    table = torch.tensor(segments).reshape(-1, 2)
    return Sample("v", rows, table, torch.arange(len(table)), FeatureGrid(1, 0, 1))


def test_a_window_keeps_the_segments_of_which_enough_lies_in_it():
    sample, rule = sample_of(100, (0.0, 10.0), (45.0, 55.0), (90.0, 99.0)), Cropping(20, 0.5)
    found = [crop(sample, rule, random.Random(seed)) for seed in range(60)]
    assert {len(one.features) for one in found} == {20}
    assert {label for one in found for label in one.labels.tolist()} == {0, 1, 2}
    for one in found:
        start = one.features[0, 0].item()
        for segment, label in zip(one.segments, one.labels, strict=True):
            low, high = sample.segments[label].tolist()
            assert segment.tolist() == [max(low - start, 0), min(high - start, 20)]
            assert segment[1] - segment[0] >= 0.5 * (high - low)


def test_a_window_without_a_segment_comes_only_when_none_can_be_found():
    rule = Cropping(4, 1.0)
    assert len(crop(sample_of(50, (0.0, 40.0)), rule, random.Random(0)).labels) == 0
    assert len(crop(sample_of(50), rule, random.Random(0)).features) == 4


def test_short_features_lose_at_most_a_tenth():
    sample = sample_of(30, (0.0, 30.0))
    lengths = {len(crop(sample, Cropping(64), random.Random(seed)).features) for seed in range(40)}
    assert lengths == {27, 28, 29, 30}
    assert crop(sample, Cropping(64, ratio=None), random.Random(0)) is sample


def test_windows_depend_on_the_seed_the_epoch_and_the_place(folder):
    videos = {"one": annotation((0, 0.3), fps=30.0), "two": annotation((0, 0.3), fps=30.0)}

    def starts(seed: int, epoch: int) -> list[float]:
        data = FeatureDataset(
            videos, FeatureFolder(folder, "v_"), FeatureSettings(4), cropping=Cropping(3, 0.0), seed=seed
        )
        data.set_epoch(epoch)
        return [data[0].features[0, 0].item() for _ in range(2)]

    found = [starts(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert all(first == again for first, again in found) and len({first for first, _ in found}) > 1
    assert starts(0, 0) == found[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 0}, "max_length=0"),
        ({"max_length": 9, "min_kept": 2}, "min_kept=2"),
        ({"max_length": 9, "ratio": (1, 0.5)}, "ratio"),
    ],
)
def test_settings_without_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Cropping(**settings)
