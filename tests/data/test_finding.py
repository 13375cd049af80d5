"""Files of videos by their ids, and lists of ids."""

from collections import Counter

import av
import pytest

from internvideo_hf.data.finding import (
    VIDEO_SUFFIXES,
    VideoTree,
    distinct_ids,
    left_out_line,
    list_folder,
    read_ids,
    without_suffix,
)


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


def tree(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_links_are_followed_once_and_what_is_hidden_is_left_out(tmp_path):
    tree(tmp_path, "disk2/b.mp4", "disk2/deep/c.VOB", "lib/a.mp4", "lib/z/real.mts", "lib/notes.txt", "lib/none")
    tree(tmp_path, "lib/.Trash-1000/files/deleted.mp4", "lib/._a.mp4", "lib/anim.gif", "lib/flash.f4v")
    (tmp_path / "lib/disk2").symlink_to("../disk2")
    (tmp_path / "lib/back").symlink_to("..")
    (tmp_path / "lib/a-link-before-its-folder").symlink_to("z")
    (tmp_path / "lib/loop").symlink_to(".")
    listing = list_folder(tmp_path / "lib")
    found = ["a.mp4", "anim.gif", "disk2/b.mp4", "disk2/deep/c.VOB", "flash.f4v", "z/real.mts"]
    assert listing.videos == [str(tmp_path / "lib" / name) for name in found]
    assert listing.left_out == {"hidden": 2, ".txt": 1, "without suffix": 1}
    assert left_out_line(listing.left_out) == ("Left out 4 files and folders: 2 hidden, 1 .txt, 1 without suffix.")
    assert left_out_line(Counter()) == ""
    assert left_out_line(Counter({".txt": 1})) == "Left out 1 file or folder: 1 .txt."
    many = Counter({f".{n}": 10 - n for n in range(7)})
    assert left_out_line(many).endswith("6 .4, 2 other kinds.")


def test_endings_are_those_of_ffmpeg():
    formats = {ending for name in av.formats_available for ending in av.format.ContainerFormat(name).extensions}
    # Other names of MPEG, Matroska, AVI, QuickTime, RealMedia and MP4, which FFmpeg knows by content.
    named_otherwise = {".divx", ".mpe", ".ogm", ".qt", ".rmvb"}
    assert {suffix for suffix in VIDEO_SUFFIXES if suffix[1:] not in formats} <= named_otherwise
    assert {".gif", ".vob", ".f4v", ".mts", ".m2ts"} < set(VIDEO_SUFFIXES)


def test_an_animated_preview_is_not_taken_for_its_video(tmp_path):
    tree(tmp_path, "v.mp4", "v.gif", "w.gif")
    assert VideoTree(tmp_path).find(["v"]) == "v.mp4" and VideoTree(tmp_path).find(["w"]) == "w.gif"


def test_videos_of_one_id_are_told_apart_by_their_names():
    names = ["a/clip.mp4", "b/clip.mkv", "talk.mp4", "v_1.2"]
    assert distinct_ids(names) == ["a/clip.mp4", "b/clip.mkv", "talk", "v_1.2"]
