"""Decoding of temporal localization, against loops written as the released C++ code is, and hand-made cases."""

from itertools import product

import numpy as np
import pytest
import torch

from internvideo_hf import ActionFormerConfig, ActionFormerForTemporalLocalization
from internvideo_hf.tasks.temporal_localization.decoding import (
    METHODS,
    Detections,
    Fusion,
    Selection,
    Suppression,
    collect_candidates,
    decoding_of,
    fuse_class_scores,
    select_candidates,
    suppress,
    vote,
)
from internvideo_hf.tasks.temporal_localization.localization import Localizer

one = np.float32


def loop_soft(segments, scores, method, sigma, iou_threshold, min_score):
    """Sort by selection, and drop a candidate by moving the last one to its place, one number at a time."""
    rows = [[*map(one, segment), one(scores[index]), index] for index, segment in enumerate(segments)]
    picks, i, n = [], 0, len(rows)
    while i < n:
        best = i
        for j in range(i + 1, n):
            if rows[j][2] > rows[best][2]:
                best = j
        rows[i], rows[best] = rows[best], rows[i]
        start, end, score, index = rows[i]
        picks.append((index, score))
        j = i + 1
        while j < n:
            shared = max(one(0), min(end, rows[j][1]) - max(start, rows[j][0]))
            lengths = (end - start + one(1e-6)) + (rows[j][1] - rows[j][0] + one(1e-6))
            overlap = shared / (lengths - shared)
            factor = one(1)
            if method == "gaussian":
                factor = one(np.exp(np.float64(-(overlap * overlap) / one(sigma))))
            elif overlap >= one(iou_threshold):
                factor = one(1) - overlap if method == "linear" else one(0)
            rows[j][2] = rows[j][2] * factor
            if rows[j][2] < one(min_score):
                rows[j] = rows[n - 1]
                n -= 1
                j -= 1
            j += 1
        i += 1
    return picks


def with_ties(count: int, seed: int, classes: int = 1) -> Detections:
    """Sample candidates on whole numbers, with few different scores, so that many of both are equal."""
    generator = torch.Generator().manual_seed(seed)
    starts, lengths, scores, labels = (
        torch.randint(low, high, (count,), generator=generator)
        for low, high in ((0, 40), (1, 12), (1, 8), (0, classes))
    )
    return Detections(torch.stack([starts, starts + lengths], dim=1).float(), scores / 8, labels)


@pytest.mark.parametrize(("method", "seed"), list(product(("gaussian", "linear", "removal"), range(3))))
def test_soft_suppression_visits_equal_scores_in_the_order_of_the_loop(method, seed):
    candidates = with_ties(70, seed)
    settings = Suppression(method, False, sigma=0.4, iou_threshold=0.3, min_score=0.1, max_segments=None)
    expected = loop_soft(candidates.segments.numpy(), candidates.scores.numpy(), method, 0.4, 0.3, 0.1)
    found = suppress(candidates, settings)
    indices = [index for index, _ in expected]
    assert len(indices) > 5 and found.scores.tolist() == [float(score) for _, score in expected]
    assert torch.equal(found.segments, candidates.segments[indices])
    fewer = suppress(candidates, Suppression(method, False, 0.4, 2.0, 0.3, 0.1, max_segments=4))
    assert all(torch.equal(few, many[:4]) for few, many in zip(fewer, found, strict=True))


@pytest.mark.parametrize(("method", "limit"), list(product(("gaussian", "linear", "removal"), (25, None))))
@pytest.mark.parametrize("sizes", [(15, 15, 15, 15), (3, 1, 42, 14), (9, 10, 11, 30)])
def test_classes_compete_among_themselves_alone(method, limit, sizes):
    candidates = with_ties(60, 3)
    labels = torch.repeat_interleave(torch.arange(4), torch.tensor(sizes))
    candidates = candidates._replace(labels=labels[torch.randperm(60, generator=torch.Generator().manual_seed(0))])
    settings = Suppression(method, True, sigma=0.4, iou_threshold=0.3, min_score=0.1, max_segments=limit)
    expected = []
    for label in range(4):
        own = (candidates.labels == label).nonzero()[:, 0]
        picks = loop_soft(candidates.segments[own].numpy(), candidates.scores[own].numpy(), method, 0.4, 0.3, 0.1)
        expected += [(score, own[index].item()) for index, score in picks]
    expected = sorted(expected, key=lambda pick: -pick[0])[:limit]
    found = suppress(candidates, settings)
    assert found.scores.tolist() == [float(score) for score, _ in expected]
    assert torch.equal(found.labels, candidates.labels[[index for _, index in expected]])
    assert torch.equal(found.segments, candidates.segments[[index for _, index in expected]])


@pytest.mark.parametrize("seed", range(3))
def test_hard_suppression_removes_what_overlaps_and_low_scores_first(seed):
    candidates = with_ties(50, seed)
    found = suppress(candidates, Suppression("hard", False, iou_threshold=0.31, min_score=0.25, max_segments=None))
    kept = []
    for index in sorted(range(50), key=lambda i: -candidates.scores[i]):
        (start, end), score = candidates.segments[index].tolist(), candidates.scores[index]
        overlaps = [max(0, min(end, e) - max(start, s)) / (max(end, e) - min(start, s)) for s, e in kept]
        if score > 0.25 and all(overlap < 0.31 for overlap in overlaps):
            kept.append((start, end))
    assert found.segments.tolist() == [list(segment) for segment in kept]


def test_a_lone_low_score_survives_soft_suppression_and_not_the_hard_one():
    candidates = Detections(torch.tensor([[0.0, 1.0]]), torch.tensor([1e-6]), torch.tensor([3]))
    assert len(suppress(candidates, Suppression("gaussian")).scores) == 1
    assert len(suppress(candidates, Suppression("hard")).scores) == 0
    assert suppress(candidates, Suppression("none")).labels.tolist() == [3]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("class_wise", [True, False])
def test_no_candidates_give_no_detections(method, class_wise):
    nothing = Detections(torch.zeros(0, 2), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    found = suppress(nothing, Suppression(method, class_wise, voting_threshold=0.5))
    assert [tuple(tensor.shape) for tensor in found] == [(0, 2), (0,), (0,)]


def test_the_exponent_is_that_of_the_overlap():
    candidates = Detections(torch.tensor([[0.0, 4.0], [2.0, 6.0]]), torch.tensor([0.9, 0.6]), torch.tensor([0, 0]))
    found = suppress(candidates, Suppression("gaussian", False, sigma=0.4, exponent=2.5))
    assert found.scores[1].item() == pytest.approx(0.6 * np.exp(-((1 / 3) ** 2.5) / 0.4), abs=1e-6)


def test_votes_are_weighted_by_raw_scores_and_count_from_the_threshold_on():
    candidates = Detections(
        torch.tensor([[0.0, 10.0], [0.0, 8.0], [5.0, 10.0]]), torch.tensor([0.6, 0.2, 0.1]), torch.tensor([1, 0, 0])
    )
    settings = Suppression("gaussian", False, max_segments=1, voting_threshold=0.8)
    found = suppress(candidates, settings)
    torch.testing.assert_close(found.segments, torch.tensor([[0.0, (0.6 * 10 + 0.2 * 8) / 0.8]]))
    assert found.labels.tolist() == [1] and found.scores.tolist() == [pytest.approx(0.6)]
    alone = suppress(candidates, Suppression("gaussian", True, max_segments=1, voting_threshold=0.8))
    assert alone.segments.tolist() == [[0.0, 10.0]]
    nobody = torch.tensor([[20.0, 21.0]])
    assert torch.equal(vote(nobody, candidates.segments, candidates.scores, 0.8), nobody)


def test_candidates_of_a_level_are_its_best_long_enough_ones():
    logits = torch.tensor([[0.0, 3.0], [2.0, -20.0], [9.0, 9.0]])
    offsets = torch.tensor([[1.0, 1.0], [0.0, 0.01], [5.0, 5.0]])
    mask = torch.tensor([True, True, False])
    found = select_candidates(logits, offsets, mask, 4, Selection(min_length=0.1))
    assert found.segments.tolist() == [[-4.0, 4.0], [-4.0, 4.0]]
    assert found.labels.tolist() == [1, 0]
    assert found.scores.tolist() == pytest.approx([1 / (1 + np.exp(-3.0)), 0.5])
    best = select_candidates(logits, offsets, mask, 4, Selection(max_candidates=1))
    assert best.labels.tolist() == [1]


def test_candidates_of_all_levels_are_of_their_own_video():
    # Two videos, two levels: points 0 and 1 of stride 1, point 0 of stride 2.
    logits = [torch.tensor([[[2.0], [-20.0]], [[-20.0], [1.0]]]), torch.tensor([[[-20.0]], [[3.0]]])]
    offsets = [torch.ones(2, 2, 2), torch.ones(2, 1, 2)]
    masks = [torch.ones(2, 2, dtype=torch.bool), torch.tensor([[True], [True]])]
    first, second = collect_candidates(logits, offsets, masks, [1, 2], Selection())
    assert first.segments.tolist() == [[-1.0, 1.0]]
    assert second.segments.tolist() == [[0.0, 2.0], [-2.0, 2.0]]


def detections() -> Detections:
    return Detections(torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.tensor([0.25, 1.0]), torch.tensor([9, 9]))


def test_segments_get_the_best_classes_of_their_video():
    found = fuse_class_scores(detections(), [0.04, 0.64, 0.16], Fusion(classes=2))
    assert found.labels.tolist() == [1, 1, 2, 2]
    assert found.segments.tolist() == [[2.0, 3.0], [0.0, 1.0]] * 2
    assert found.scores.tolist() == pytest.approx([0.8, 0.4, 0.4, 0.2])
    best = fuse_class_scores(detections(), [0.04, 0.64, 0.16], Fusion(classes=1, max_segments=1, combine="product"))
    assert best.labels.tolist() == [1] and best.scores.tolist() == pytest.approx([0.64])


def test_the_best_named_segments_of_all_classes_may_be_kept():
    found = fuse_class_scores(detections(), [0.5, 0.6], Fusion(2, combine="product", max_detections=3))
    assert found.labels.tolist() == [1, 0, 1]
    assert found.scores.tolist() == pytest.approx([0.6, 0.5, 0.15])


def test_of_equal_scores_the_later_comes_first():
    equal = detections()._replace(scores=torch.tensor([0.5, 0.5]))
    found = fuse_class_scores(equal, [0.3, 0.3, 0.2], Fusion(classes=2))
    assert found.labels.tolist() == [1, 1, 0, 0]
    assert found.segments.tolist() == [[2.0, 3.0], [0.0, 1.0]] * 2


def test_logits_of_classes_become_probabilities():
    logits = np.log([1.0, 3.0, 4.0])
    found = fuse_class_scores(detections(), logits, Fusion(classes=1, combine="product"))
    assert found.scores.tolist() == pytest.approx([0.5, 0.125])
    sharp = fuse_class_scores(detections(), [0.0, 0.5, 0.25], Fusion(classes=1, combine="product", sharpness=2))
    assert sharp.scores[0].item() == pytest.approx(np.e / (1 + np.e + np.e**0.5))


@pytest.mark.parametrize("scores", [[[0.5, 0.5]], [0.5], [0.5, float("nan")]])
def test_class_scores_that_are_not_one_row_are_refused(scores):
    with pytest.raises(ValueError, match="one row of at least 2 finite"):
        fuse_class_scores(detections(), scores, Fusion())


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Suppression, {"method": "gausian"}, "gaussian"),
        (Suppression, {"sigma": 0}, "sigma=0"),
        (Suppression, {"max_segments": 0}, "max_segments=0"),
        (Suppression, {"iou_threshold": 30}, "iou_threshold=30"),
        (Suppression, {"voting_threshold": -1}, "voting_threshold=-1"),
        (Suppression, {"exponent": -1}, "exponent=-1"),
        (Suppression, {"min_score": float("nan")}, "min_score=nan"),
        (Selection, {"max_candidates": -1}, "max_candidates=-1"),
        (Selection, {"min_score": 2}, "min_score=2"),
        (Selection, {"min_length": -1}, "min_length=-1"),
        (Fusion, {"max_segments": 0}, "max_segments=0"),
        (Fusion, {"max_detections": -1}, "max_detections=-1"),
        (Fusion, {"sharpness": 0}, "sharpness=0"),
        (Fusion, {"combine": "produkt"}, "product"),
        (Fusion, {"classes": 0}, "classes=0"),
    ],
)
def test_settings_without_meaning_are_refused(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"selection": {"foo": 1}}, "selection in the config.json of the head: .*foo"),
        ({"suppression": {"sigma": -1}}, "suppression in the config.json of the head: sigma=-1"),
    ],
)
def test_decoding_is_checked_before_the_first_video(settings, message):
    assert decoding_of(ActionFormerConfig()) == (Selection(), Suppression(voting_threshold=0.7))
    with pytest.raises(ValueError, match=message):
        decoding_of(ActionFormerConfig(**settings))
    with torch.device("meta"):
        head = ActionFormerForTemporalLocalization(ActionFormerConfig(**settings))
    with pytest.raises(ValueError, match=message):
        Localizer(head)


def test_candidates_that_do_not_fit_each_other_are_refused():
    good = detections()
    with pytest.raises(ValueError, match=r"\(n, 2\)"):
        suppress(good._replace(segments=torch.zeros(3, 2)), Suppression())
    with pytest.raises(ValueError, match="not finite"):
        suppress(good._replace(scores=torch.tensor([0.1, float("nan")])), Suppression())
