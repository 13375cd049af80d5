"""Videos found in files, folders, URLs and manifests."""

import json

import pytest
from object_stores import new_memory, write
from PIL import Image

from internvideo_hf.data.folders import find_videos, name_videos, read_metadata, unique_videos
from internvideo_hf.data.records import ManifestError


def test_videos_of_lists_folders_and_files_come_once(tmp_path):
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "frames").mkdir()
    for name in ("deep/b.webm", "deep/er/a.MP4", "deep/notes.md"):
        (tmp_path / name).touch()
    Image.new("RGB", (8, 8)).save(tmp_path / "frames/1.png")
    (tmp_path / "list.csv").write_text("deep/b.webm,some text\nmissing.mp4,2\n")
    sources = [str(tmp_path / name) for name in ("list.csv", "deep", "frames", "none.avi")] + ["https://x.org/y.mp4"]
    names = ["deep/b.webm", "missing.mp4", "deep/er/a.MP4", "frames", "none.avi"]
    assert find_videos(sources) == [*(str(tmp_path / name) for name in names), "https://x.org/y.mp4"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no videos"):
        find_videos([str(tmp_path / "empty")])


def test_videos_are_named_below_their_source(tmp_path):
    for name in ("clips/run/1.mp4", "clips/walk/1.mp4", "lists/deep/2.mp4", "3.mp4", "empty/notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "lists/a.csv").write_text("deep/2.mp4;walk\n../3.mp4;run\n")
    sources = [f"{tmp_path}/clips", f"{tmp_path}/lists/a.csv", f"{tmp_path}/empty", "https://x.org/a/b.mp4"]
    found = name_videos(sources, keep_empty=True)
    assert dict(found) == {
        f"{tmp_path}/clips/run/1.mp4": "run/1.mp4",
        f"{tmp_path}/clips/walk/1.mp4": "walk/1.mp4",
        f"{tmp_path}/lists/deep/2.mp4": "deep/2.mp4",
        f"{tmp_path}/lists/../3.mp4": "3.mp4",
        f"{tmp_path}/empty": "empty",
        "https://x.org/a/b.mp4": "b.mp4",
    }
    with pytest.raises(ValueError, match="empty holds no videos"):
        name_videos(sources)


def test_what_is_left_out_is_counted_in_one_line(tmp_path):
    for name in ("a.mp4", "b.txt", "._a.mp4"):
        (tmp_path / name).touch()
    lines = []
    assert find_videos([str(tmp_path)], on_left_out=lines.append) == [str(tmp_path / "a.mp4")]
    assert lines == ["Left out 2 files and folders: 1 .txt, 1 hidden."]
    assert find_videos([str(tmp_path / "a.mp4")], on_left_out=lines.append) and len(lines) == 1


def test_files_of_metadata_that_are_read_are_not_left_out(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.mp4").touch()
        (tmp_path / split / "metadata.csv").write_text("file_name,score\na.mp4,3\n")
    lines, metadata = [], {}
    assert len(find_videos([str(tmp_path)], on_left_out=lines.append, metadata=metadata)) == 2
    assert lines == [] and len(metadata) == 2
    (tmp_path / "other.csv").touch()
    (tmp_path / "test/metadata.csv").write_text("what,ever\n1,2\n")
    find_videos([str(tmp_path)], on_left_out=lines.append, metadata={})
    assert lines[-1] == "Left out 2 files and folders: 2 .csv."
    find_videos([str(tmp_path)], on_left_out=lines.append)  # nobody reads the metadata
    assert lines[-1] == "Left out 3 files and folders: 3 .csv."


def test_videos_of_one_name_get_names_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.mp4", "b/x.mp4", "b/y.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.csv").write_text("b/y.mp4;1\nb/y.mp4;2\n")
    named = name_videos(["a", "b/x.mp4", "list.csv", str(tmp_path / "b"), "http://x.org/x.mp4"])
    assert unique_videos(named) == [
        ("a/x.mp4", "a/x.mp4"),
        ("b/x.mp4", "b/x.mp4"),
        ("./b/y.mp4", "b/y.mp4"),
        ("http://x.org/x.mp4", "x.org/x.mp4"),
    ]
    assert unique_videos([]) == []


def test_the_other_columns_of_a_list_are_metadata(tmp_path):
    (tmp_path / "list.csv").write_text(
        "video,label,Camera Name,floor,night,start,end,note\n"
        "a.mp4,run,door,1,true,0,5,\nb.mp4,run,yard,-2.5e1,False,0,5,7\na.mp4,sit,other,3,true,5,9,x\n"
    )
    metadata = {}
    found = find_videos([str(tmp_path / "list.csv")], metadata=metadata)
    assert found == [str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")]
    assert metadata == {
        found[0]: {"label": "run", "camera_name": "door", "floor": 1.0, "night": True},
        found[1]: {"label": "run", "camera_name": "yard", "floor": -25.0, "night": False, "note": 7.0},
    }
    with pytest.raises(ManifestError, match="no column"):
        find_videos([str(tmp_path / "list.csv")])
    rows = [{"video": "a.mp4", "floor": 3, "tags": ["x"], "night": False}, {"video": "b.mp4", "floor": "2nd"}]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    assert read_metadata(str(tmp_path / "list.json")) == {
        found[0]: {"floor": "3.0", "night": False},
        found[1]: {"floor": "2nd"},
    }


def test_folders_and_lists_may_be_in_a_store(tmp_path):
    root = new_memory()
    for name in ("clips/run/1.mp4", "clips/walk/1.MOV", "clips/.trash/2.mp4", "clips/notes.md", "3.mp4"):
        write(f"{root}/{name}", b"x")
    write(f"{root}/lists/a.csv", b"video,camera\n../3.mp4,door\nrun/1.mp4,\n")
    lines = []
    found = name_videos([f"{root}/clips/", f"{root}/3.mp4"], on_left_out=lines.append)
    assert dict(found) == {
        f"{root}/clips/run/1.mp4": "run/1.mp4",
        f"{root}/clips/walk/1.MOV": "walk/1.MOV",
        f"{root}/3.mp4": "3.mp4",
    }
    assert lines == ["Left out 2 files and folders: 1 .md, 1 hidden."]
    metadata = {}
    data_root = f"{root}/clips"
    assert find_videos([f"{root}/lists/a.csv"], data_root, metadata=metadata) == [
        f"{root}/3.mp4",
        f"{data_root}/run/1.mp4",
    ]
    assert metadata[f"{root}/3.mp4"] == {"camera": "door"}
    # A name never leads out of the folder of outputs.
    assert dict(name_videos([f"{root}/lists/a.csv"], data_root, extra_columns=True)) == {
        f"{root}/3.mp4": "3.mp4",
        f"{data_root}/run/1.mp4": "run/1.mp4",
    }
    (tmp_path / "local.csv").write_text(f"{root}/3.mp4\n{tmp_path}/own.mp4\n")
    assert find_videos([str(tmp_path / "local.csv")], data_root) == [f"{root}/3.mp4", f"{tmp_path}/own.mp4"]
    with pytest.raises(ValueError, match="lists holds no videos"):
        find_videos([f"{root}/lists"])
    with pytest.raises(ManifestError, match=r"none.csv: it cannot be opened \(there is no such object\)"):
        find_videos([f"{root}/none.csv"])


@pytest.mark.parametrize("address", ["ftp://x.org/a.mp4", "file:///etc/passwd", "github://o:r@/a.mp4"])
def test_addresses_that_nothing_reads_are_refused(address):
    with pytest.raises(ValueError, match=f"{address.partition(':')[0]} addresses are not read. Expected http"):
        find_videos([address])
