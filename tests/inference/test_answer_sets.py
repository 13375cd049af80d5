"""Answers as a data set: `load_dataset` reads rows and features, the card is the Hub's, nothing is half there."""

from datetime import UTC, datetime
from pathlib import Path

import datasets
import pytest
from huggingface_hub import DatasetCard
from transformers import AutoModelForVideoClassification

import internvideo_hf
from internvideo_hf.inference.answer_sets import AnswerSet, check_answer_folder
from internvideo_hf.models.common.loading import revision

MODEL = str(internvideo_hf.demo_path("demo-classifier"))
ANSWERS = [
    {"video": "a.mp4", "results": [{"label": "zebra", "score": 0.75}, {"label": "ant", "score": 0.25}]},
    {"video": "b|c.mp4", "error": "b|c.mp4: no such file. Check the path."},
    {"video": "d.mp4", "results": [{"label": "ant", "score": 1.0}]},
]


def answer_set(folder: Path, **changes) -> AnswerSet:
    given = {"folder": folder, "model": MODEL, "classes": ["zebra", "ant"], "settings": {"top_k": 2}}
    return AnswerSet(**given | changes)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_datasets_reads_what_was_written(tmp_path):
    assert answer_set(tmp_path / "out").write(iter(ANSWERS)) == 3
    found = datasets.load_dataset(str(tmp_path / "out"))
    assert list(found) == ["predictions"]
    label = datasets.ClassLabel(names=["zebra", "ant"])
    number, text = datasets.Value("float64"), datasets.Value("string")
    answers = datasets.List({"label": label, "score": number})
    expected = {"video": text, "label": label, "score": number, "answers": answers, "error": text}
    assert found["predictions"].features == datasets.Features(expected)
    assert found["predictions"].to_list() == [
        {
            "video": "a.mp4",
            "label": 0,
            "score": 0.75,
            "answers": [{"label": 0, "score": 0.75}, {"label": 1, "score": 0.25}],
            "error": None,
        },
        {"video": "b|c.mp4", "label": None, "score": None, "answers": [], "error": ANSWERS[1]["error"]},
        {"video": "d.mp4", "label": 1, "score": 1.0, "answers": [{"label": 1, "score": 1.0}], "error": None},
    ]


def test_texts_have_a_column_of_their_own(tmp_path):
    answers = [{"video": "a.mp4", "results": [{"generated_text": "a cat"}]}, {"video": "b.mp4", "error": "bad"}]
    answer_set(tmp_path / "out", classes=None).write(answers)
    assert datasets.load_dataset(str(tmp_path / "out"), split="predictions").to_list() == [
        {"video": "a.mp4", "caption": "a cat", "error": None},
        {"video": "b.mp4", "caption": None, "error": "bad"},
    ]


def test_numbers_beside_the_score_are_columns(tmp_path):
    answers = [{"video": "a.mp4", "results": [{"label": "unknown", "score": 0.1, "uncertainty": 2.0}]}]
    answer_set(tmp_path / "out", classes=["zebra", "unknown"], numbers=("uncertainty",)).write(answers)
    (row,) = datasets.load_dataset(str(tmp_path / "out"), split="predictions")
    assert row["answers"] == [{"label": 1, "score": 0.1, "uncertainty": 2.0}]


def test_the_card_is_one_of_the_hub_and_says_whose_answers_these_are(tmp_path):
    answer_set(tmp_path / "out", settings={"top_k": 2, "merge": "prob"}).write(ANSWERS)
    card = DatasetCard.load(tmp_path / "out/README.md")
    assert card.data.license == "unknown" and set(card.data.tags) == {"internvideo_hf", "video", "predictions"}
    info = card.data.to_dict()["dataset_info"]
    assert info["splits"][0]["num_examples"] == 3
    assert [feature["name"] for feature in info["features"]] == ["video", "label", "score", "answers", "error"]
    mark = revision(MODEL, AutoModelForVideoClassification.from_pretrained(MODEL))
    said = [f"`{mark}`", "`demo-classifier`", "3, of which 1 have an error", datetime.now(UTC).date().isoformat()[:7]]
    assert all(words in card.text for words in [*said, '"merge": "prob"'])
    assert MODEL not in card.content


def test_an_earlier_set_is_replaced_whole_or_not_at_all(tmp_path):
    answer_set(tmp_path / "out").write(ANSWERS)
    before = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}

    def failing():
        yield ANSWERS[0]
        raise OSError("the list ends")

    with pytest.raises(OSError, match="the list ends"):
        answer_set(tmp_path / "out").write(failing())
    assert {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()} == before
    with pytest.raises(OSError, match="the list ends"):
        answer_set(tmp_path / "new").write(failing())
    assert not (tmp_path / "new").exists()
    assert answer_set(tmp_path / "out").write(ANSWERS[:1]) == 1
    assert datasets.load_dataset(str(tmp_path / "out"), split="predictions").num_rows == 1


@pytest.mark.parametrize("kind", ["file", "other files", "another card", "store"])
def test_folders_of_others_are_refused(tmp_path, kind):
    folder = tmp_path / "out"
    if kind == "file":
        folder.touch()
    elif kind == "store":
        folder = Path("s3://bucket/out")
    else:
        folder.mkdir()
        (folder / ("README.md" if kind == "another card" else "a.mp4")).write_text("---\ntags: [video]\n---\n")
    words = {"file": "is a file", "store": "is in a store"}.get(kind, "holds something else than answers")
    with pytest.raises((ValueError, OSError), match=words):
        check_answer_folder(folder)
