"""The best spans, beside all spans of a video tried one by one."""

import math
from itertools import combinations_with_replacement

import pytest
import torch
from models.model_checks import draw

from internvideo_hf.models.vslnet.spans_vslnet import Span, best_spans

ROWS = 9


def overlap(one: Span, other: Span) -> float:
    rows, others = (set(range(span.start, span.end + 1)) for span in (one, other))
    return len(rows & others) / len(rows | others)


def all_spans(start: torch.Tensor, end: torch.Tensor) -> list[Span]:
    """Return every span of `n` rows, the best first."""
    starts, ends = ([math.exp(score) for score in scores.tolist()] for scores in (start, end))
    total = sum(starts) * sum(ends)
    pairs = combinations_with_replacement(range(len(starts)), 2)
    return sorted((Span(i, j, starts[i] * ends[j] / total) for i, j in pairs), key=lambda span: -span.score)


def assert_same_spans(found: list[Span], expected: list[Span]) -> None:
    assert [span[:2] for span in found] == [span[:2] for span in expected]
    assert [span.score for span in found] == pytest.approx([span.score for span in expected], rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_best_spans_are_those_of_trying_all(seed):
    start, end = 2 * draw(2, ROWS, seed=seed), 2 * draw(2, ROWS, seed=seed + 100)
    for k in (1, 5, 100):
        for row, found in enumerate(best_spans(start, end, k=k)):
            assert_same_spans(found, all_spans(start[row], end[row])[:k])
    assert len(best_spans(start, end, k=100)[0]) == ROWS * (ROWS + 1) // 2


@pytest.mark.parametrize("seed", range(4))
def test_spans_that_overlap_a_better_one_are_left_out_if_wanted(seed):
    start, end = draw(1, ROWS, seed=seed), draw(1, ROWS, seed=seed + 100)
    expected: list[Span] = []
    for span in all_spans(start[0], end[0]):
        if all(overlap(span, before) < 0.5 for before in expected):
            expected.append(span)
    for k in (2, 5, 100):
        assert_same_spans(best_spans(start, end, k=k, iou_threshold=0.5)[0], expected[:k])


def test_an_answer_worked_out_by_hand():
    start, end = torch.tensor([[0.1, 0.6, 0.3]]).log(), torch.tensor([[0.7, 0.1, 0.2]]).log()
    # The most probable first row comes behind the most probable last one: both are not one span.
    assert_same_spans(
        best_spans(start, end, k=3)[0], [Span(1, 2, 0.6 * 0.2), Span(0, 0, 0.1 * 0.7), Span(1, 1, 0.6 * 0.1)][:3]
    )


def test_padding_is_in_no_span_and_changes_none():
    start, end = draw(2, ROWS), draw(2, ROWS, seed=1)
    mask = torch.arange(ROWS) < torch.tensor([4, ROWS])[:, None]
    bare = best_spans(start[:1, :4], end[:1, :4], k=100)[0]
    for found in (
        best_spans(start, end, mask, k=100),
        best_spans(start, end, mask.long(), k=100),
        best_spans(start.masked_fill(~mask, -torch.inf), end.masked_fill(~mask, -torch.inf), k=100),
    ):
        assert_same_spans(found[0], bare)
        assert len(found[0]) == 10 and len(found[1]) == ROWS * (ROWS + 1) // 2
    assert best_spans(start, end, torch.zeros_like(mask)) == [[], []]


def test_of_equal_spans_the_earliest_comes_first():
    same = torch.zeros(1, 3)
    spans = [span[:2] for span in best_spans(same, same, k=6)[0]]
    assert spans == [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_far_apart_keep_their_order_in_half_precision(dtype):
    start = torch.tensor([[0.0, -200.0, -300.0]], dtype=dtype, requires_grad=True)
    spans = [span[:2] for span in best_spans(start, start, k=3)[0]]
    assert spans == [(0, 0), (0, 1), (0, 2)]


def test_wrong_shapes_and_numbers_are_refused():
    rows = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 2\), expected \(batch, rows\)"):
        best_spans(rows, rows[:, 1:])
    with pytest.raises(ValueError, match=r"expected \(batch, rows\)"):
        best_spans(rows[0], rows[0])
    with pytest.raises(ValueError, match=r"feature_mask has the shape \(1, 3\), expected \(2, 3\)"):
        best_spans(rows, rows, rows[:1])
    for k, threshold in ((0, 1.0), (1, 0.0), (1, 1.5)):
        with pytest.raises(ValueError, match="expected 1 or more, and above 0 up to 1"):
            best_spans(rows, rows, k=k, iou_threshold=threshold)
