"""The rows of released.json."""

from pathlib import Path

import pytest

from internvideo_hf.checkpoints.convert import FAMILIES
from internvideo_hf.checkpoints.released import published, released_rows, rows_of_file
from internvideo_hf.recipes.labels import LABEL_SETS

MANIFESTS = Path(__file__).parents[1] / "manifests"


def test_the_rows_of_released_json_are_complete():
    keys = {"name", "file", "address", "family", "config", "labels", "licence", "manifest", "note", "evaluation"}
    for row in released_rows():
        assert set(row) == keys, row["name"]
        assert row["family"] in FAMILIES, row["name"]
        assert (MANIFESTS / row["manifest"]).is_file(), row["name"]
        if row["address"] is None:
            assert "no address" in row["note"], row["name"]
        else:
            assert row["address"].startswith("https://"), row["name"]
        assert row["licence"] and row["name"] == row["name"].strip()
        assert isinstance(row["config"], dict), row["name"]
        # The action detector is published under the ending of a script, and the predictor of waypoints without one.
        endings = (".ckpt", ".pth", ".pyth", ".pt", ".bin", "k710_ft_ak_ft.sh", "bestdist_hfov90")
        assert row["file"].endswith(endings), row["name"]
        assert row["labels"] is None or row["labels"] in LABEL_SETS, row["name"]


def test_the_names_of_released_json_are_unique():
    names = [row["name"] for row in released_rows()]
    assert len(set(names)) == len(names)
    folders = [row["name"].lower().replace(" ", "-") for row in released_rows()]
    assert len(set(folders)) == len(folders)


def test_rows_are_found_by_the_name_of_their_file():
    assert [row["name"] for row in rows_of_file("InternVideo-MM-L-14.ckpt", "internvideo_mm")] == [
        "InternVideo-MM-L-14"
    ]
    assert len(rows_of_file("pytorch_model.bin", "internvideo_mm")) == 6
    assert len(rows_of_file("pytorch_model.bin", "internvideo_mae")) == 3
    assert len(rows_of_file("ViT-H.pth", "internvideo_mae")) == 4
    assert rows_of_file("InternVideo-MM-L-14.ckpt", "another") == []
    assert rows_of_file("mine.ckpt", "internvideo_mm") == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "top-1 88.8 on K400, 4 x 3 views of 8 frames at 224 pixels"),
        ({"top5": 98.1}, "top-1 88.8 and top-5 98.1 on K400, 4 x 3 views of 8 frames at 224 pixels"),
        ({"top1": None}, "no published score on K400, 4 x 3 views of 8 frames at 224 pixels"),
        ({"zoo": "another's"}, "top-1 88.8 on K400, 4 x 3 views of 8 frames at 224 pixels"),
        ({"num_clips": None, "num_crops": None}, "top-1 88.8 on K400, unstated views of 8 frames at 224 pixels"),
    ],
)
def test_a_published_test_is_one_phrase(changes, words):
    test = {"data_set": "K400", "num_frames": 8, "image_size": 224, "num_clips": 4, "num_crops": 3, "top1": 88.8}
    assert published({"evaluation": test | changes}) == words
    assert published({"evaluation": None}) is None


def test_tests_without_views_are_phrases_too():
    test = {"data_set": "MSVD-QA", "num_frames": 8, "image_size": 224, "top1": 55.54}
    assert published({"evaluation": test}) == "top-1 55.54 on MSVD-QA, 8 frames at 224 pixels"
    test = {"data_set": "MSVD", "protocol": "retrieval/msvd_finetuned"}
    assert published({"evaluation": test}) == "tested on MSVD, as in the protocol retrieval/msvd_finetuned"
