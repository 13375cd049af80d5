"""COCO's scores on cases whose answer is computed by hand."""

import sys

import numpy as np
import pytest

from internvideo_hf.tasks.object_detection.annotations import Frame
from internvideo_hf.tasks.object_detection.metrics import coco_document, coco_results, coco_scores, require_coco

FRAMES = [
    Frame(3, "v", boxes=((0, 0, 40, 40),), width=100, height=100),
    Frame(5, "v", boxes=((10, 10, 40, 40),), width=100, height=100),
    Frame(8, "v", width=100, height=100),
]


@pytest.fixture
def coco():
    pytest.importorskip("pycocotools", reason="the extra [detection] is not installed")


def rows(*boxes):
    return np.array(boxes, dtype=np.float64).reshape(-1, 5)


@pytest.mark.usefixtures("coco")
def test_the_truth_itself_is_found():
    found = {3: rows([0, 0, 40, 40, 0.9]), 5: rows([10, 10, 40, 40, 0.4])}
    scores = coco_scores(FRAMES, found)
    # Objects of 40 x 40 pixels are medium: above 32 x 32, below 96 x 96.
    assert scores == pytest.approx({"AP": 100, "AP50": 100, "AP75": 100, "APm": 100, "AR@100": 100})


@pytest.mark.usefixtures("coco")
def test_overlap_decides_at_how_many_thresholds_a_box_counts():
    # 29 of 40 columns: an overlap of 0.725, which passes five of the ten thresholds from 0.5 to 0.95.
    scores = coco_scores(FRAMES[:1], {3: rows([0, 0, 29, 40, 0.9])})
    assert (scores["AP"], scores["AP50"], scores["AP75"]) == pytest.approx((50, 100, 0))


@pytest.mark.usefixtures("coco")
def test_boxes_in_frames_without_annotations_count_for_nothing_and_in_others_as_mistakes():
    truth = {3: rows([0, 0, 40, 40, 0.9])}
    assert coco_scores(FRAMES[:1], truth | {8: rows([0, 0, 9, 9, 0.99])})["AP"] == pytest.approx(100)
    # A mistake with a better score halves the precision at every recall.
    empty = Frame(9, "v", boxes=(), width=100, height=100)
    assert coco_scores([*FRAMES[:1], empty], truth | {9: rows([0, 0, 9, 9, 0.99])})["AP"] == pytest.approx(50)
    assert coco_scores(FRAMES, {})["AP"] == 0
    assert coco_scores(FRAMES[2:], truth) == {}


def test_documents_have_no_annotation_of_the_number_zero():
    document = coco_document(FRAMES, "object_of_change")
    assert [entry["id"] for entry in document["images"]] == [3, 5]
    assert [(entry["id"], entry["image_id"], entry["area"]) for entry in document["annotations"]] == [
        (1, 3, 1600),
        (2, 5, 1600),
    ]
    assert document["categories"] == [{"id": 1, "name": "object_of_change"}]
    assert coco_results({3: rows([1, 2, 3, 4, 0.5])}) == [
        {"image_id": 3, "category_id": 1, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}
    ]


def test_what_is_missing_is_named_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(ImportError, match=r"pip install 'internvideo-hf\[detection\]'"):
        require_coco()
