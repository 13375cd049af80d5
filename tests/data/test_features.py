"""Files of features: formats, ids, times of their rows."""

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from internvideo_hf.data.features import FeatureFolder, FeatureGrid, FeatureSettings, read_features, resize_rows
from internvideo_hf.data.records import ManifestError

ROWS = np.arange(20, dtype=np.float64).reshape(10, 2)


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


def test_channels_of_several_folders_stand_side_by_side(tmp_path):
    for name, channels, rows in (("verb", 2, 3), ("noun", 1, 3), ("short", 1, 2)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "v_one.npy", np.full((rows, channels), len(name), np.float32))
    np.save(tmp_path / "verb/v_two.npy", np.zeros((3, 2), np.float32))
    found = FeatureFolder(tmp_path / "verb", "v_", [tmp_path / "noun"])
    assert "one" in found and "two" not in found and found.path_of("one") == tmp_path / "verb/v_one.npy"
    np.save(tmp_path / "noun/v_one.npy", np.full((3, 1), 7, np.float32))
    assert found.read("one").tolist() == [[4, 4, 7]] * 3
    with pytest.raises(ManifestError, match=r"short/v_one.npy: it has 2 rows, and .*verb/v_one.npy 3"):
        FeatureFolder(tmp_path / "verb", "v_", [tmp_path / "short"]).read("one")


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride": 0}, "stride=0"),
        ({"stride": None, "fps": -1}, "fps=-1"),
        ({"stride": 4, "fixed_length": 100}, "exclude each other"),
    ],
)
def test_settings_without_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        FeatureSettings(**settings)


def test_a_folder_without_features_names_the_prefix_where_there_is_one(tmp_path):
    with pytest.raises(ManifestError, match=r"\.pth\)\. Check the folder"):
        FeatureFolder(tmp_path)
    with pytest.raises(ManifestError, match="whose names begin with 'v_'"):
        FeatureFolder(tmp_path, "v_")
