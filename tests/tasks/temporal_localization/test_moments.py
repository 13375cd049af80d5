"""Ego4D's moment queries: reading, training on two kinds of features, scoring, the file of the challenge."""

import json

import numpy as np
import pytest
from tasks.temporal_localization.drawn import FPS, STRIDE, TINY, WINDOW, write_features
from tasks.temporal_localization.moments import clip, label, write_moments

from internvideo_hf.data.records import ManifestError
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.evaluation.report import table
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.temporal_localization.annotations import read_annotations
from internvideo_hf.tasks.temporal_localization.moments import to_submission
from internvideo_hf.training.recipes import load_recipe
from internvideo_hf.training.run import train


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_clip_has_the_primary_labels_of_all_annotators(tmp_path, version):
    rows = [[label(1, 2.5, "wash_hands"), label(3, 4, "use_phone", primary=False)], [label(1, 2.5, "wash_hands")]]
    clips = {
        "v1": [clip("a", rows, start=-0.5, seconds=30.5), clip("b", [[label(0, 1, "cut_dough", primary=False)]])],
        "v2": [clip("c", [[], [label(5, 6, "cut_dough")]], start=100.0, seconds=20.0)],
    }
    found = read_annotations(write_moments(tmp_path / "moments_train.json", "train", clips, version))
    assert found.classes == {0: "cut_dough", 1: "wash_hands"}
    assert list(found.videos) == ["a", "c"]  # b has no primary label
    one, other = found.of_subset("train").values()
    assert one.segments.tolist() == [[1, 2.5], [1, 2.5]] and one.labels.tolist() == [1, 1]
    assert one.duration == 30.0 and one.fps == pytest.approx(30.5, abs=1e-6)  # frames from -15 to 900 in 30 s
    assert (other.segments.tolist(), other.duration, other.fps) == ([[5, 6]], 20.0, 30.0)
    assert len(found.ground_truth("train").labels) == 2  # each segment once
    assert len(found.ground_truth("train", count_repeats=True).labels) == 3


def test_clips_of_the_test_file_have_no_segments_and_stay(tmp_path):
    clips = {"v": [clip("a", None), clip("b", []), clip("c", [[]])]}
    path = write_moments(tmp_path / "moments_test_unannotated.json", "test", clips)
    found = read_annotations(path, ["cut_dough"])
    assert list(found.of_subset("test")) == ["a", "b", "c"] and len(found.ground_truth("test").labels) == 0


def test_a_clip_in_two_entries_is_one(tmp_path):
    clips = {"v": [clip("a", [[label(0, 1, "x")]]), clip("a", [[label(2, 3, "x")]])]}
    found = read_annotations(write_moments(tmp_path / "moments_val.json", "val", clips))
    assert found.videos["a"].segments.tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"clip_uid": None}, "videos 1: it has no 'clip_uid'"),
        ({"video_end_sec": -1}, "clip a: it ends at -1 s"),
        ({"video_start_sec": "0"}, "clip a: video_start_sec is '0'"),
        ({"annotations": [{"labels": [{"start_time": 0, "end_time": 1, "primary": True}]}]}, "it has no 'label'"),
        ({"annotations": [{"labels": [{"label": "x", "end_time": 1, "primary": True}]}]}, "no 'start_time'"),
        ({"annotations": [{}]}, "clip a: it has no 'labels'"),
        ({"annotations": [{"labels": []}]}, "no clip has a primary label"),
    ],
)
def test_what_is_incomplete_is_refused_with_its_clip(tmp_path, broken, message):
    path = write_moments(tmp_path / "moments_val.json", "val", {"v": [{**clip("a", [[label(0, 1, "x")]]), **broken}]})
    with pytest.raises(ManifestError, match=message):
        read_annotations(path)


def test_the_submission_has_every_clip_and_both_results():
    row = {"label": "x", "score": 0.5, "segment": [0.0, 1.0]}
    assert json.loads(to_submission(["a", "b"], {"a": [row]})) == {
        "version": "1.0",
        "challenge": "ego4d_moment_queries",
        "detect_results": {"a": [row], "b": []},
        "retrieve_results": {"a": [row], "b": []},
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder with annotations of drawn features: 8 clips to train on, 4 for validation, 2 for the test."""
    root = tmp_path_factory.mktemp("moments")
    drawn = write_features(root, 12)
    for file in sorted((root / "features").iterdir()):  # half of the channels each
        for name, part in (("verb_features", slice(2)), ("noun_features", slice(2, 4))):
            (root / name).mkdir(exist_ok=True)
            np.save(root / name / file.name, np.load(file)[:, part])
        file.unlink()
    by_split: dict[str, dict] = {"train": {}, "val": {}, "test": {}}
    for name, entry in drawn.items():
        rows = [label(*row["segment"], row["label"]) for row in entry["annotations"]]
        split = {"training": "train", "validation": "val"}[entry["subset"]]
        by_split[split][f"of {name}"] = [clip(name, [rows], seconds=entry["duration"])]
    by_split["test"] = {"of video10": [clip("video10", None)], "of video11": [clip("video11", None)]}
    for split, file in (("train", "train"), ("val", "val"), ("test", "test_unannotated")):
        write_moments(root / f"annotations/moments_{file}.json", split, by_split[split])
    return root


OWN = [f"data.features.stride={STRIDE}", f"data.features.num_frames={WINDOW}", f"data.features.fps={FPS}"]
SIZES = ["model.config.regression_ranges=null", "model.config.use_absolute_positions=false"]


@pytest.fixture(scope="module")
def head(data):
    changes = [*TINY, *SIZES, "training.warmup_epochs=1", "training.learning_rate=5e-3", "training.ema_decay=0.8"]
    changes += ["training.num_train_epochs=6", "training.eval_strategy=epoch", "training.save_strategy=no"]
    changes += ["data.missing=raise"]
    return train(load_recipe("ego4d/moment_queries", changes), data, data / "run", quiet=True)


def _score(data, head, *changes, **options):
    protocol = load_protocol("ego4d/moment_queries", [*OWN, *changes])
    return evaluate(protocol, head, data, device="cpu", workers=0, quiet=True, **options)


def _recall(data, results):
    """Return the recall by one loop over the segments of the annotations."""
    found = []
    for video in json.loads((data / "annotations/moments_val.json").read_text())["videos"]:
        (entry,) = video["clips"]
        rows = entry["annotations"][0]["labels"]
        for row in rows:
            asked = sum(other["label"] == row["label"] for other in rows)
            same = [answer for answer in results[entry["clip_uid"]] if answer["label"] == row["label"]]
            best = [answer["segment"] for answer in sorted(same, key=lambda answer: -answer["score"])[:asked]]
            overlaps = [
                max(0.0, min(end, row["end_time"]) - max(start, row["start_time"]))
                / (max(end, row["end_time"]) - min(start, row["start_time"]))
                for start, end in best
            ]
            found.append(any(overlap > 0.5 for overlap in overlaps))
    return 100 * sum(found) / len(found)


def test_a_head_trains_on_moments_and_is_scored_by_the_challenge(data, head, tmp_path):
    result = _score(data, head, report=tmp_path / "report")
    scores = result["scores"]
    assert set(scores) == {*(f"mAP@0.{tenth}0" for tenth in range(1, 6)), "mAP", "R@1x"}
    assert scores["mAP"] == pytest.approx(sum(scores[f"mAP@0.{tenth}0"] for tenth in range(1, 6)) / 5)
    assert scores["R@1x"] > 50 and "R@1x" in table(result) and "mAP@0.10" in table(result)
    submission = json.loads((tmp_path / "report/submission.json").read_text())
    assert len(submission["detect_results"]) == 4 and submission["challenge"] == "ego4d_moment_queries"
    assert scores["R@1x"] == pytest.approx(_recall(data, submission["retrieve_results"]))
    logged = [json.loads(line) for line in (data / "run/log.jsonl").read_text().splitlines()]
    last = [line for line in logged if "eval_mAP" in line][-1]
    assert last["eval_R@1x"] == pytest.approx(scores["R@1x"], abs=0.1)
    assert (data / "run/answers/submission.json").is_file()


def test_the_test_clips_are_answered_without_scores(data, head, tmp_path):
    changes = ["data.list=annotations/moments_test_unannotated.json", "data.features.subset=test"]
    result = _score(data, head, *changes, report=tmp_path / "report")
    assert result["scores"] == {} and "2 of annotations/moments_test_unannotated.json" in table(result)
    found = json.loads((tmp_path / "report/submission.json").read_text())["retrieve_results"]
    assert list(found) == ["video10", "video11"] and found["video10"][0]["label"] in ("jump", "run")


def test_a_head_on_two_kinds_of_features_refuses_one(data, head):
    with pytest.raises(ValueError, match=r"has the shape \(4, 48, 2\), expected \(batch, length, 4\)"):
        _score(data, head, "data.features.folder=verb_features")


def test_without_the_challenge_scores_are_as_of_other_data_sets(data, head):
    changes = ["data.features.challenge=null"]
    assert "R@1x" not in _score(data, head, *changes)["scores"]
    with pytest.raises(RecipeError, match="ego4d_moment_queries"):
        _score(data, head, "data.features.challenge=ego4d_moments")
