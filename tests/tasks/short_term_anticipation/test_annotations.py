"""Files of short-term anticipation: both versions of Ego4D, detections, the challenge's answers; what is refused."""

import json

import numpy as np
import pytest

from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.short_term_anticipation.annotations import (
    Detection,
    Interaction,
    Moment,
    read_detections,
    read_interactions,
    read_predictions,
    write_predictions,
)
from internvideo_hf.tasks.short_term_anticipation.metrics import InteractionTable

OBJECT = {"box": [1, 2.5, 30, 40], "noun_category_id": 3, "verb_category_id": 0, "time_to_contact": 0.75}
MOMENT = {
    "uid": "a_0000030",
    "video_uid": "a",
    "frame": 30,
    "clip_id": 7,
    "clip_uid": "c",
    "clip_frame": 12,
    "objects": [OBJECT],
}
DOCUMENT = {
    "info": {"version": "2.0", "video_metadata": {"a": {"frame_width": 64, "frame_height": 48, "fps": 30.0}}},
    "noun_categories": [{"id": 3, "name": "cup"}],
    "verb_categories": [{"id": 0, "name": "take"}],
    "annotations": [MOMENT],
}


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def changed(**changes) -> dict:
    return {**DOCUMENT, "annotations": [{**MOMENT, **changes}]}


def test_a_moment_is_read_with_its_frame_in_the_video_and_in_the_clip(tmp_path):
    found = read_interactions(write(tmp_path / "x.json", DOCUMENT))
    touched = Interaction((1, 2.5, 30, 40), 3, 0, 0.75)
    assert list(found.moments) == [Moment("a_0000030", "a", 30, "c", 12, (48, 64), (touched,))]
    assert (found.nouns, found.verbs, found.is_annotated) == ({3: "cup"}, {0: "take"}, True)
    table = found.table()
    assert table.frames.tolist() == ["a_0000030"] and table.boxes.tolist() == [[1, 2.5, 30, 40]]
    assert (table.nouns.item(), table.verbs.item(), table.times.item()) == (3, 0, 0.75)


def test_version_1_names_the_video_otherwise_and_the_test_list_has_no_objects(tmp_path):
    old = {key: MOMENT[key] for key in ("uid", "frame", "clip_id")}
    document = {"info": DOCUMENT["info"], "annotations": [{**old, "video_id": "a"}]}
    found = read_interactions(write(tmp_path / "x.json", document))
    assert list(found.moments) == [Moment("a_0000030", "a", 30, None, None, (48, 64), None)]
    assert not found.is_annotated and not found.nouns and not len(found.table())
    assert read_interactions(write(tmp_path / "x.json", changed(objects=None))).moments[0].interactions is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"videos": []}, "no list 'annotations'"),
        ({**DOCUMENT, "annotations": []}, "it has no annotation"),
        ({**DOCUMENT, "annotations": [MOMENT, MOMENT]}, "uid a_0000030 is there 2 times"),
        ({**DOCUMENT, "info": {}}, "info.video_metadata is missing"),
        (changed(video_uid="b"), "annotation 1: info.video_metadata has no size of the video b"),
        (changed(frame=1.5), "frame is 1.5, expected the index"),
        (changed(uid=None), "no 'uid'"),
        (changed(objects=[{**OBJECT, "box": [1, 2, 3]}]), r"annotation 1, object 1: box is \[1, 2, 3\], expected 4"),
        (changed(objects=[{**OBJECT, "box": [1, 2, 3, None]}]), "expected 4 numbers"),
        (
            changed(objects=[{**OBJECT, "verb_category_id": -1}]),
            "verb_category_id is -1, expected the number of a class",
        ),
        (changed(objects=[{**OBJECT, "time_to_contact": "soon"}]), "time_to_contact is 'soon'"),
        ({**DOCUMENT, "info": {"video_metadata": {"a": {"frame_width": 0, "frame_height": 4}}}}, "is 0 pixels"),
        ({**DOCUMENT, "noun_categories": [{"id": 0}]}, "noun_categories 1: it has no 'name'"),
    ],
)
def test_what_is_not_as_documented_is_named(content, words, tmp_path):
    with pytest.raises(ManifestError, match=words):
        read_interactions(write(tmp_path / "x.json", content))


def test_detections_below_a_score_are_left_out(tmp_path):
    rows = [{"box": [0, 0, 5, 5], "score": score, "noun_category_id": 2} for score in (0.9, 0.2)]
    path = write(tmp_path / "d.json", {"a": rows, "b": []})
    assert read_detections(path, 0.5) == {"a": [Detection((0, 0, 5, 5), 0.9, 2)], "b": []}
    assert len(read_detections(path)["a"]) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "no object with the uids"),
        ({"a": {}}, "d.json, a: .* expected a list of objects.*object_detections.json"),
        ({"a": [{"box": [0, 0, 1, 1], "score": 1}]}, "a, object 1: it has no 'noun_category_id'"),
    ],
)
def test_detections_that_are_none_are_named(content, words, tmp_path):
    with pytest.raises(ManifestError, match=words):
        read_detections(write(tmp_path / "d.json", content))


def test_answers_are_written_as_the_challenge_takes_them_and_read_again(tmp_path):
    found = InteractionTable(["a", "a"], np.array([[0, 1, 2, 3.5]] * 2), [1, 2], [3, 4], [0.5, 1], [0.9, 1])
    write_predictions(tmp_path / "p.json", found, ["a", "b"])
    content = json.loads((tmp_path / "p.json").read_text())
    assert (content["version"], content["challenge"]) == ("1.0", "ego4d_short_term_object_interaction_anticipation")
    assert content["results"]["b"] == [] and content["results"]["a"][1] == {
        "box": [0.0, 1.0, 2.0, 3.5],
        "noun_category_id": 2,
        "verb_category_id": 4,
        "time_to_contact": 1.0,
        "score": 1.0,
    }
    # The server asks for these types.
    answer = content["results"]["a"][1]
    assert isinstance(answer["score"], float) and isinstance(answer["verb_category_id"], int)
    read = read_predictions(tmp_path / "p.json", ["b", "a"])
    for name in ("frames", "boxes", "nouns", "verbs", "times", "scores"):
        assert (getattr(read, name) == getattr(found, name)).all()
    with pytest.raises(ManifestError, match="1 of 2 moments are missing, such as c"):
        read_predictions(tmp_path / "p.json", ["a", "c"])
    with pytest.raises(ValueError, match="no scores"):
        write_predictions(tmp_path / "p.json", InteractionTable([], np.zeros((0, 4)), [], [], []), [])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": []}, "no object 'results'"),
        ({"results": {"a": 1}}, "expected a list"),
        ({"results": {"a": [{**OBJECT}]}}, "a, answer 1: it has no 'score'"),
    ],
)
def test_answers_that_are_none_are_named(content, words, tmp_path):
    with pytest.raises(ManifestError, match=words):
        read_predictions(write(tmp_path / "p.json", content), ["a"])
