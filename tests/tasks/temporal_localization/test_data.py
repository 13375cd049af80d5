"""Features on disk as samples: formats, lengths, times, windows."""

import pickle
import random

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.temporal_localization.annotations import VideoAnnotation
from internvideo_hf.tasks.temporal_localization.data import (
    Cropping,
    FeatureDataset,
    FeatureFolder,
    FeatureGrid,
    FeatureSettings,
    Sample,
    crop,
    read_features,
    resize_rows,
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


WRITERS = {
    "a.npy": lambda path: np.save(path, ROWS),
    "a.npz": lambda path: np.savez(path, features=ROWS, times=ROWS[:, 0]),
    "one.npz": lambda path: np.savez(path, ROWS),
    "a.safetensors": lambda path: save_file({"features": torch.from_numpy(ROWS)}, path),
    "a.pt": lambda path: torch.save(torch.from_numpy(ROWS), path),
    "a.pth": lambda path: torch.save({"feats": torch.from_numpy(ROWS), "fps": 3}, path),
    "a.csv": lambda path: np.savetxt(path, ROWS, delimiter=","),
    "named.csv": lambda path: np.savetxt(path, ROWS, delimiter=",", header="f0,f1", comments=""),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_features(name, tmp_path):
    WRITERS[name](tmp_path / name)
    found = read_features(tmp_path / name)
    assert found.dtype == torch.float32 and found.tolist() == ROWS.tolist()


BAD = {
    "flat.npy": (lambda path: np.save(path, ROWS[0]), r"shape \(2,\)"),
    "empty.npy": (lambda path: np.save(path, ROWS[:0]), r"shape \(0, 2\)"),
    "nan.npy": (lambda path: np.save(path, ROWS * np.nan), "not all finite"),
    "text.npy": (lambda path: np.save(path, np.array([["a"]])), "no numbers"),
    "two.npz": (lambda path: np.savez(path, a=ROWS, b=ROWS), "it holds a, b"),
    "damaged.npy": (lambda path: path.write_bytes(b"\x93NUMPY"), "cannot be read"),
    "damaged.safetensors": (lambda path: path.write_bytes(b"xx"), "cannot be read"),
    "features.txt": (lambda path: path.write_text("1,2"), "its name ends in '.txt'"),
    "uneven.csv": (lambda path: path.write_text("1,2\n3\n"), "cannot be read"),
    "words.csv": (lambda path: path.write_text("a,b\n1,c\n"), "cannot be read"),
    "empty.csv": (lambda path: path.write_text(""), "cannot be read"),
    "a.pkl": (lambda path: path.write_bytes(b""), r"it is a pickle, .* numpy.save\(NAME.npy"),
    "gone.npy": (lambda path: None, "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_hold_no_features_are_refused_by_name(name, tmp_path):
    write, message = BAD[name]
    write(tmp_path / name)
    with pytest.raises(ManifestError, match=f"{name}: .*{message}"):
        read_features(tmp_path / name)


class Evil:
    def __reduce__(self):
        return (open, ("was_here", "w"))


def test_code_in_a_file_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    np.savez("a.npz", np.array([Evil()], dtype=object))
    torch.save(Evil(), "a.pt")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Evil(), protocol=2))
    for name in ("a.npy", "a.npz", "a.pt", "b.pth"):
        with pytest.raises(ManifestError, match="cannot be read"):
            read_features(name)
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ManifestError, match="may run any code"):
        read_features("c.pkl")
    assert not (tmp_path / "was_here").exists()


def test_videos_are_found_by_their_id(folder):
    (folder / "sub").mkdir()
    np.save(folder / "sub/v_clip.mp4.npy", ROWS)
    (folder / "v_one.json").write_text("{}")
    found = FeatureFolder(folder, "v_")
    assert "one" in found and "clip" in found and "v_one" not in found and "three" not in found
    assert found.read("two").shape == (4, 2)
    with pytest.raises(ManifestError, match="begin with 'x_'"):
        FeatureFolder(folder, "x_")


def test_seconds_and_the_grid_are_each_others_inverse():
    grid = FeatureGrid(stride=4, num_frames=16, fps=30)
    segments = torch.tensor([[0.0, 2.0]])
    assert grid.from_seconds(segments).tolist() == [[-2, 13]]
    assert grid.to_seconds(grid.from_seconds(segments)).tolist() == [[0, 2]]
    assert grid.to_seconds(torch.tensor([[-5.0, 99.0]]), duration=3.5).tolist() == [[0, 3.5]]


def test_rows_are_resized_linearly_between_their_centers():
    rows = torch.tensor([[0.0], [4.0]])
    assert resize_rows(rows, 4).flatten().tolist() == [0, 1, 3, 4]
    assert resize_rows(rows, 2) is rows


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
    ("kind", "settings", "message"),
    [
        (FeatureSettings, {"stride": 0}, "stride=0"),
        (FeatureSettings, {"stride": None, "fps": -1}, "fps=-1"),
        (FeatureSettings, {"stride": 4, "fixed_length": 100}, "exclude each other"),
        (Cropping, {"max_length": 0}, "max_length=0"),
        (Cropping, {"max_length": 9, "min_kept": 2}, "min_kept=2"),
        (Cropping, {"max_length": 9, "ratio": (1, 0.5)}, "ratio"),
    ],
)
def test_settings_without_meaning_are_refused(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)
