"""Score merging on small tables; a failed video is never correct."""

from pathlib import Path

import numpy as np
import pytest
from parity.score_merging import Merged, View, merge_views, read_views

from internvideo_hf.inference.merging import METHODS, check_finite, class_scores, top_k_accuracies

LOG = np.log


def accuracy(merged: Merged, k: int) -> float:
    return top_k_accuracies(merged.scores, merged.labels, [k])[f"top-{k}"] / 100


def view(video: str, label: int, logits: list[float], segment: int = 0, crop: int = 0) -> View:
    return View(video, segment, crop, label, np.array(logits))


# ---- merging --------------------------------------------------------------------------------------------------------


def test_probabilities_and_scores_can_disagree() -> None:
    # Softmax: (0.8, 0.2), (0.2, 0.8), (0.2, 0.8); the raw scores of the first view outweigh the others.
    views = [
        view("a", 0, [LOG(4) + 100, 100], crop=0),
        view("a", 0, [0, LOG(4)], crop=1),
        view("a", 0, [0, LOG(4)], crop=2),
    ]
    np.testing.assert_allclose(merge_views(views).scores, [[0.4, 0.6]])
    np.testing.assert_allclose(
        merge_views(views, method="score").scores, [[(LOG(4) + 100) / 3, (100 + 2 * LOG(4)) / 3]]
    )


def test_classes_of_several_labels_are_independent() -> None:
    logits = np.array([LOG(4), 0, -LOG(4)])
    np.testing.assert_allclose(class_scores(logits, "multi_label_classification"), [0.8, 0.5, 0.2])
    np.testing.assert_allclose(class_scores(logits, None), np.array([4, 1, 0.25]) / 5.25)
    of_heads = class_scores(np.array([LOG(4), 0.0, 7.0]), None, {"verb": slice(0, 2), "noun": slice(2, 3)})
    np.testing.assert_allclose(of_heads, [0.8, 0.2, 1.0])
    assert class_scores(logits, None, function="none") is logits
    np.testing.assert_allclose(class_scores(logits, "regression", function="sigmoid"), [0.8, 0.5, 0.2])
    assert class_scores(logits, "regression") is logits and class_scores(logits[:1], None)[0] == LOG(4)


def test_large_logits_do_not_overflow() -> None:
    np.testing.assert_allclose(merge_views([view("a", 0, [5000.0, 5000.0 + LOG(3)])]).scores, [[0.25, 0.75]])


def test_a_view_that_is_there_twice_counts_once() -> None:
    views = [view("a", 0, [1, 0]), view("a", 0, [0, 3], segment=1), view("a", 0, [9, 9], segment=1)]
    assert merge_views(views, method="score").scores.tolist() == [[0.5, 1.5]]


def test_an_ensemble_pools_all_views_of_all_members() -> None:
    few = [view("a", 0, [3, 0])]
    many = [view("a", 0, [0, 3], crop=crop) for crop in range(2)]
    assert merge_views(few, many, method="score").scores.tolist() == [[1, 2]]
    assert merge_views(few, few, method="score").scores.tolist() == [[3, 0]]


def test_videos_keep_their_order() -> None:
    merged = merge_views([view("b", 1, [0, 1]), view("a", 0, [1, 0]), view("b", 1, [0, 1], crop=1)])
    assert merged.videos == ["b", "a"] and merged.labels.tolist() == [1, 0] and not merged.failed.any()


# ---- accuracy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "expected"), [(1, 0.25), (2, 0.5), (3, 0.75), (9, 1.0)])
def test_top_k_table(k: int, expected: float) -> None:
    views = [view(str(label), label, [4, 3, 2, 1]) for label in range(4)]
    assert accuracy(merge_views(views), k) == expected


def test_of_equal_scores_the_lower_class_comes_first() -> None:
    merged = merge_views([view("a", 0, [1, 1]), view("b", 1, [1, 1])])
    assert (accuracy(merged, 1), accuracy(merged, 2)) == (0.5, 1.0)


FAILURES = {
    "no scores": [view("bad", 0, [])],
    "no scores of one view": [view("bad", 0, [9, 0]), view("bad", 0, [], crop=1)],
    "not a number": [view("bad", 0, [np.nan, 0])],
    "not a number in one view": [view("bad", 0, [9, 0]), view("bad", 0, [0, np.nan], crop=1)],
    "no view": [],
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_video_counts_as_wrong(failure: str, method: str) -> None:
    good = [view("good", 0, [9, 0])]
    merged = merge_views([*FAILURES[failure], *good], method=method, labels={"bad": 0, "good": 0})
    assert merged.failed.tolist() == [True, False]
    assert np.isnan(merged.scores[0]).all()
    assert [accuracy(merged, k) for k in (1, 2, 5)] == [0.5] * 3


def test_an_infinite_score_fails_where_probabilities_are_wanted() -> None:
    assert merge_views([view("a", 0, [np.inf, 0])]).failed.tolist() == [True]
    assert merge_views([view("a", 1, [-np.inf, 0])]).scores.tolist() == [[0, 1]]


# ---- files ----------------------------------------------------------------------------------------------------------


def write_ranks(folder: Path, *ranks: str) -> None:
    for rank, text in enumerate(ranks):
        (folder / f"{rank}.txt").write_text(f"50.0, 80.0\n{text}", encoding="utf-8")


def test_files_of_two_processes(tmp_path: Path) -> None:
    write_ranks(tmp_path, "v1 [0.5, -2e-3] 1 4 2\nmy video [x] [nan, 1.0] 0 0 0\n", "v2 [] 1 0 0\n")
    views = read_views(tmp_path, 2)
    assert [tuple(view[:4]) for view in views] == [("v1", 4, 2, 1), ("my video [x]", 0, 0, 0), ("v2", 0, 0, 1)]
    assert [view.logits.tolist() for view in views[::2]] == [[0.5, -0.002], []]
    assert merge_views(views).failed.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("v1 [0.5, 1.0] 1 4", r"0.txt, line 2: got 'v1 \[0.5, 1.0\] 1 4', expected 'video \[score"),
        ("v1 [0.5, 1.0", "was the run stopped while it wrote"),
        ("v1 [0.5, one] 1 4 2", "0.txt, line 2: could not convert string to float: ' one'"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    write_ranks(tmp_path, line)
    with pytest.raises(ValueError, match=message):
        read_views(tmp_path, 1)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_ranks(tmp_path, "v1 [0.5] 0 0 0")
    with pytest.raises(ValueError, match="got no 1.txt, expected a file of each of 2 processes"):
        read_views(tmp_path, 2)


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("views", "options", "message"),
    [
        ([view("a", 0, [1, 0])], {"method": "mean"}, "method: got 'mean', expected one of prob, score"),
        ([view("a", 0, [1, 0]), view("a", 1, [1, 0], crop=1)], {}, "'a': got the labels 0 and 1, expected one"),
        ([view("a", 0, [1, 0]), view("b", 0, [1, 0, 0])], {}, r"got views of \[2, 3\] classes, expected one number"),
        ([view("a", 0, [])], {}, "got views of no classes"),
        ([], {}, "got views of no classes"),
        ([view("a", 2, [1, 0])], {}, "'a': got the label 2, expected 0 to 1; check the label map"),
        ([view("a", 0, [1, 0])], {"labels": {"b": 0}}, "'a': got a view of it, expected the 1 videos of `labels`"),
    ],
)
def test_merging_errors(views, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        merge_views(views, **options)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_must_be_finite(number: float) -> None:
    check_finite(np.array([0.5, 0.25]), "A score")
    with pytest.raises(ValueError, match="A score is not finite"):
        check_finite(np.array([0.5, number]), "A score")


def test_k_must_be_positive() -> None:
    with pytest.raises(ValueError, match="k: got 0, expected at least 1"):
        accuracy(merge_views([view("a", 0, [1, 0])]), 0)
