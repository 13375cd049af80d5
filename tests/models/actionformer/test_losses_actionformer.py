"""Targets and losses of ActionFormer, against loops over points and segments."""

import math

import pytest
import torch
from models.model_checks import draw

from internvideo_hf.models.actionformer.losses_actionformer import class_loss, make_targets, segment_loss

# Levels with strides 1 and 2: position, least and most distance, stride.
POINTS = torch.tensor([[t, 0, 4, 1] for t in range(12)] + [[t, 4, 100, 2] for t in range(0, 12, 2)]).float()


def label(*segments: tuple[float, float, int]) -> dict[str, torch.Tensor]:
    rows = torch.tensor(segments, dtype=torch.float64).reshape(-1, 3)
    return {"segments": rows[:, :2].float(), "class_labels": rows[:, 2].long()}


def slow_target(point, segments, radius, classes):
    """Return what one point should answer, and the segment that it comes from."""
    position, least, most, stride = point.tolist()
    fitting = []
    for start, end, number in segments:
        center, reach = (start + end) / 2, math.inf if radius is None else radius * stride
        inside = max(start, center - reach) < position < min(end, center + reach)
        if inside and least <= max(position - start, end - position) <= most:
            fitting.append((end - start, number, start, end))
    if not fitting:
        return [0.0] * classes, None
    shortest = min(fitting)
    named = {number for length, number, *_ in fitting if length <= shortest[0] + 1e-3}
    first = next(entry for entry in fitting if entry[0] == shortest[0])
    return [float(number in named) for number in range(classes)], (
        (position - first[2]) / stride,
        (first[3] - position) / stride,
    )


@pytest.mark.parametrize("radius", [1.5, 0.5, None])
def test_targets_are_those_of_a_loop(radius):
    # Nested, of equal length with two classes, crossing, at the border, and longer than the video.
    segments = [
        (1.0, 4.5, 0),
        (2.0, 3.5, 1),
        (2.0, 3.5, 2),
        (6.0, 9.5, 1),
        (6.2, 9.7005, 2),
        (-3.0, 11.0, 0),
        (9, 10, 1),
    ]
    classes, distances = make_targets(POINTS, [label(*segments), label()], 3, radius)
    assert classes.shape == (2, 18, 3) and distances.shape == (2, 18, 2)
    assert not classes[1].any() and not distances[1].any()
    found = 0
    for row, point in enumerate(POINTS):
        named, ends = slow_target(point, segments, radius, 3)
        assert classes[0, row].tolist() == named, point
        if ends is not None:
            torch.testing.assert_close(distances[0, row], torch.tensor(ends), atol=1e-6, rtol=1e-6)
            found += 1
    assert 2 < found < 18 and classes[0].sum(dim=1).max() == 2


def test_points_without_a_segment_have_distances_to_the_first():
    _, distances = make_targets(POINTS, [label((2.0, 3.0, 0))], 1, 1.5)
    assert distances[0, 9].tolist() == [7.0, -6.0] and distances[0, -1].tolist() == [4.0, -3.5]


def test_wrong_labels_are_refused():
    with pytest.raises(ValueError, match=r"class_labels holds \[3\], expected 0 to 2"):
        make_targets(POINTS, [label((1, 2, 3))], 3, 1.5)
    with pytest.raises(ValueError, match=r"segments has the shape \(1, 2\) for class_labels of the shape \(2,\)"):
        make_targets(POINTS, [{"segments": torch.ones(1, 2), "class_labels": torch.zeros(2)}], 3, 1.5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_loss_is_the_focal_loss_of_soft_targets(smoothing):
    logits, mask = draw(2, 5, 3), torch.arange(5) < torch.tensor([[5], [2]])
    classes = (draw(2, 5, 3, seed=1) > 0).float()
    expected = 0.0
    for video, point in mask.nonzero().tolist():
        for number in range(3):
            p = 1 / (1 + math.exp(-logits[video, point, number]))
            t = float(classes[video, point, number]) * (1 - smoothing) + smoothing / 4
            p_t, alpha_t = p * t + (1 - p) * (1 - t), 0.25 * t + 0.75 * (1 - t)
            expected -= alpha_t * (1 - p_t) ** 2 * (t * math.log(p) + (1 - t) * math.log(1 - p))
    assert class_loss(logits, classes, mask, smoothing).item() == pytest.approx(expected, rel=1e-5)


def test_segment_loss_is_one_minus_the_overlap_plus_the_distance_of_centers():
    at, answers, truths = 5.0, [(1.0, 2.0), (0.0, 0.5), (3.0, 1.0)], [(2.0, 1.0), (2.0, 2.0), (3.0, 1.0)]
    expected = 0.0
    for (left, right), (true_left, true_right) in zip(answers, truths, strict=True):
        start, end, true_start, true_end = at - left, at + right, at - true_left, at + true_right
        shared = min(end, true_end) - max(start, true_start)
        union = (end - start) + (true_end - true_start) - shared
        hull = max(end, true_end) - min(start, true_start)
        expected += 1 - shared / union + (((start + end) - (true_start + true_end)) / 2 / hull) ** 2
    offsets = torch.tensor([[*answers, (9.0, 9.0)]], requires_grad=True)
    is_positive = torch.tensor([[True, True, True, False]])
    loss = segment_loss(offsets, torch.tensor([[*truths, (0.0, 1.0)]]), is_positive)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert not offsets.grad[0, 3].any()


def test_no_positive_point_gives_no_segment_loss_but_a_gradient():
    offsets = torch.ones(1, 2, 2, requires_grad=True)
    loss = segment_loss(offsets, torch.zeros(1, 2, 2), torch.zeros(1, 2, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and torch.equal(offsets.grad, torch.zeros(1, 2, 2))
