"""Files of videos by their ids, and lists of ids."""

import pytest

from internvideo_hf.data.finding import VideoTree, read_ids, without_suffix


def test_only_the_suffix_of_a_video_is_removed():
    assert without_suffix("a.b.mp4") == "a.b"
    assert without_suffix("clip.0012") == "clip.0012"


def test_a_video_is_found_by_its_name_in_any_folder_with_any_suffix(tmp_path):
    for name in ("a/v_1.webm", "b/c/v.2.mkv", "b/notes.txt", ".cache/v_1.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b/back").symlink_to(tmp_path, target_is_directory=True)
    tree = VideoTree(tmp_path)
    assert tree.find(["v_1.mp4"]) == "a/v_1.webm"
    assert tree.find(["none", "v.2"]) == "b/c/v.2.mkv"
    assert tree.find(["notes"]) is None


def test_two_files_of_one_id_are_an_error(tmp_path):
    for name in ("v.mp4", "v.webm"):
        (tmp_path / name).touch()
    with pytest.raises(LookupError, match="2 files have the name of v: v.mp4, v.webm"):
        VideoTree(tmp_path).find(["v"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ids.txt", "a\nb\na\n"),
        ("ids.json", '["a", "b", "a"]'),
        ("ids.csv", "key,video_id\n1,a\n2,b\n"),
    ],
)
def test_ids_are_read_once_each(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert read_ids(tmp_path / name) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("ids.txt", "", "not a list"), ("ids.json", "[1]", "not a list"), ("ids.json", "[", "not valid JSON")],
)
def test_other_files_are_refused(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=words):
        read_ids(tmp_path / name)
