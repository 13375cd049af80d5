"""Files of answers go out and come in again; what does not fit the queries is refused."""

import json

import numpy as np
import pytest

from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.temporal_grounding.predictions import read_predictions, to_predictions
from internvideo_hf.tasks.temporal_grounding.queries import Query

OF_EGO4D = [Query("c1", "a", 0, 1, "u1", 0), Query("c1", "b", 0, 1, "u1", 2)]
OWN = [Query("one", "a", 0, 1), Query("two", "a", 0, 1)]
ANSWERS = [np.array([[1.0, 2.0, 0.5], [3.0, 4.25, 0.25]]), np.zeros((0, 3))]


def test_the_file_is_that_of_the_challenge():
    content = json.loads(to_predictions(OF_EGO4D, ANSWERS))
    first = {"clip_uid": "c1", "annotation_uid": "u1", "query_idx": 0, "predicted_times": [[1.0, 2.0], [3.0, 4.25]]}
    assert content["version"] == "1.0" and content["challenge"] == "ego4d_nlq_challenge"
    assert content["results"] == [first, {**first, "query_idx": 2, "predicted_times": []}]
    many = json.loads(to_predictions(OF_EGO4D[:1], [np.ones((9, 3))]))
    assert len(many["results"][0]["predicted_times"]) == 5


@pytest.mark.parametrize("queries", [OF_EGO4D, OWN], ids=["ego4d", "own"])
def test_what_is_written_is_read(queries, tmp_path):
    (tmp_path / "p.json").write_text(to_predictions(queries, ANSWERS))
    first, second = read_predictions(tmp_path / "p.json", queries)
    assert first[:, :2].tolist() == [[1, 2], [3, 4.25]] and np.isnan(first[:, 2]).all() and second.shape == (0, 3)
    found = read_predictions(tmp_path / "p.json", [*queries, Query("x", "y", 0, 1, *[queries[0].annotation], 9)])
    assert found[2] is None


KEYS = {"clip_uid": "c1", "annotation_uid": "u1", "query_idx": 0}
BAD = {
    "none": ([], "no list 'results'"),
    "other": (
        {"results": [{**KEYS, "query_idx": 1, "predicted_times": []}]},
        "result 1: .*has none with .*'query_idx': 1",
    ),
    "twice": ({"results": [{**KEYS, "predicted_times": []}] * 2}, "result 2: .*query 0 has an answer before"),
    "keys": ({"results": [{"clip_uid": "c1"}]}, "Expected an object with clip_uid, annotation_uid, query_idx"),
    "times": ({"results": [{**KEYS, "predicted_times": [["a", 1]]}]}, "result 1: predicted_times is"),
    "ids": ({"results": [{**KEYS, "query_idx": [0], "predicted_times": []}]}, "result 1: its ids are"),
}


@pytest.mark.parametrize("name", BAD)
def test_other_files_are_refused(name, tmp_path):
    content, message = BAD[name]
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(ManifestError, match=message):
        read_predictions(tmp_path / "p.json", OF_EGO4D)
