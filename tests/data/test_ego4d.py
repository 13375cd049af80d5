"""Annotation files of Ego4D: the document, its fields, the footage."""

import json

import pytest

from internvideo_hf.data.ego4d import (
    field_of,
    find_footage,
    frame_of,
    list_of,
    number_of,
    read_annotations,
    text_of,
    version_of,
)
from internvideo_hf.data.records import ManifestError


def _write(folder, content):
    path = folder / "moments_train.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_the_list_and_the_document_are_returned(tmp_path):
    document = {"version": "1.0", "videos": [{"video_uid": "a"}, {"video_uid": "b"}]}
    assert read_annotations(_write(tmp_path, document), "videos") == (document["videos"], document)
    assert read_annotations(_write(tmp_path, "\ufeff" + json.dumps(document)), "videos")[1] == document


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"version": "1", "clips": []}, ["no list 'videos'", "'version', 'clips'", "fho_scod", "moments_train.json"]),
        ([1], ["a list", "expected an object", "moments_train.json"]),
        ({"videos": {}}, ["no list 'videos'"]),
        ({"videos": [{}, 3]}, ["videos 2", "an int"]),
        ("{", ["not valid JSON"]),
    ],
)
def test_another_file_is_refused_and_the_right_one_named(tmp_path, content, words):
    with pytest.raises(ManifestError) as caught:
        read_annotations(_write(tmp_path, content), "videos")
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("document", "version"),
    [
        ({"version": "v1"}, "v1"),
        ({"version": "1.0"}, "v1"),
        ({"version": "v2.1"}, "v2"),
        ({"version": 2}, "v2"),
        ({"info": {"version": "2.0"}}, "v2"),
        ({"info": {}}, None),
        ({"version": "12"}, None),
        ({}, None),
    ],
)
def test_version(document, version):
    assert version_of(document) == version


def test_fields_of_either_version():
    where = {"file": "f.json", "place": "clip 3"}
    assert field_of({"video_id": "a"}, "video_uid", "video_id", **where) == "a"
    assert field_of({"video_uid": "b", "video_id": "a"}, "video_uid", "video_id", **where) == "b"
    assert field_of({"video_uid": None, "video_id": 0}, "video_uid", "video_id", **where) == 0
    assert (text_of({"a": "x"}, "a", **where), number_of({"a": 2}, "a", **where)) == ("x", 2.0)
    assert (frame_of({"a": 3.0}, "a", **where), list_of({"a": [{}]}, "a", **where)) == (3, [{}])


@pytest.mark.parametrize(
    ("read", "entry", "words"),
    [
        (field_of, {"b": 1}, "no 'a' or 'c', but 'b'"),
        (text_of, {"a": 3}, "a is 3, expected text"),
        (text_of, {"a": " "}, "expected text"),
        (number_of, {"a": "3"}, "finite number"),
        (number_of, {"a": True}, "finite number"),
        (number_of, {"a": float("nan")}, "finite number"),
        (frame_of, {"a": -1}, "from 0"),
        (frame_of, {"a": 1.5}, "from 0"),
        (list_of, {"a": {}}, "list of objects"),
        (list_of, {"a": [1]}, "list of objects"),
    ],
)
def test_fields_of_another_kind_are_refused_with_their_place(read, entry, words):
    with pytest.raises(ManifestError, match=words) as caught:
        read(entry, "a", "c", file="f.json", place="clip 3")
    assert "f.json, clip 3" in str(caught.value)


def _touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    ("files", "found", "is_clip"),
    [
        (["clips/c.mp4", "full_scale/v.mp4"], "clips/c.mp4", True),
        (["full_scale/v.mp4", "video_540ss/v.mp4"], "full_scale/v.mp4", False),
        (["video_540ss/v.mp4"], "video_540ss/v.mp4", False),
        (["v1/clips/c.mp4", "v.mp4"], "v1/clips/c.mp4", True),
        (["v1/clips/c.mp4", "v2/clips/c.mp4"], "v2/clips/c.mp4", True),
        (["c.mp4"], "c.mp4", True),
        (["v.mp4", "c.mp4.part", "cc.mp4"], "v.mp4", False),
    ],
)
def test_footage(tmp_path, files, found, is_clip):
    _touch(tmp_path, *files)
    footage = find_footage(tmp_path, "c", "v", clip_start=12.5)
    assert (footage.path, footage.is_clip, footage.offset) == (tmp_path / found, is_clip, 0.0 if is_clip else 12.5)


def test_footage_that_is_missing_is_named(tmp_path):
    _touch(tmp_path, "clips/xc.mp4", "clips/c.mov")
    with pytest.raises(
        FileNotFoundError, match=r"clips/c\.mp4, c\.mp4, full_scale/v\.mp4, video_540ss/v\.mp4, v\.mp4"
    ):
        find_footage(tmp_path, "c", "v")
    with pytest.raises(ValueError, match="neither"):
        find_footage(tmp_path, None, None)


@pytest.mark.parametrize("uid", ["../c", "a/b", "a\\b", "", "..", 3, "a\0"])
def test_an_id_names_no_file_elsewhere(tmp_path, uid):
    _touch(tmp_path, "c.mp4")
    with pytest.raises(ValueError, match="id of Ego4D"):
        find_footage(tmp_path / "inner", uid, None)
