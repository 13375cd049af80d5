"""Targets and losses of VSLNet, beside sums written out in numpy."""

import numpy as np
import pytest
import torch
from models.model_checks import draw

from internvideo_hf.models.vslnet.losses_vslnet import check_labels, highlight_loss, highlight_targets, span_loss

LABELS = torch.tensor([[3, 7], [0, 0], [1, 20]])
ROWS = [12, 4, 22]
MASK = torch.arange(22) < torch.tensor(ROWS)[:, None]


def test_the_answer_is_highlighted_with_a_tenth_of_its_length_on_both_sides():
    rows = [targets.nonzero()[:, 0].tolist() for targets in highlight_targets(LABELS, MASK, 0.1)]
    # Five rows are extended by half a row, which rounds to none (to even), and twenty by two, as far as there are any.
    assert rows == [[3, 4, 5, 6, 7], [0], [*range(22)]]
    rows = [targets.nonzero()[:, 0].tolist() for targets in highlight_targets(LABELS, MASK, 0.2)]
    assert rows[:2] == [[2, 3, 4, 5, 6, 7, 8], [0]]
    beyond = highlight_targets(torch.tensor([[2, 3]]), MASK[1:2], 1.0)
    assert beyond[0].nonzero()[:, 0].tolist() == [0, 1, 2, 3], "padding is never highlighted"


def log_softmax(scores: np.ndarray) -> np.ndarray:
    return scores - np.log(np.exp(scores).sum())


def test_the_loss_of_spans_is_the_sum_of_two_cross_entropies():
    start, end = draw(3, 22), draw(3, 22, seed=1)
    expected = 0.0
    for row, (first, last) in enumerate(LABELS.tolist()):
        real = ROWS[row]
        expected -= log_softmax(start[row, :real].double().numpy())[first] / 3
        expected -= log_softmax(end[row, :real].double().numpy())[last] / 3
    logits = (scores.masked_fill(~MASK, -torch.inf) for scores in (start, end))
    assert span_loss(*logits, LABELS).item() == pytest.approx(expected, rel=1e-6)


def test_the_loss_of_highlighting_counts_the_answer_twice_and_videos_alike():
    logits, targets = draw(3, 22), highlight_targets(LABELS, MASK, 0.1)
    expected = 0.0
    for row, real in enumerate(ROWS):
        probabilities = 1 / (1 + np.exp(-logits[row, :real].double().numpy()))
        wanted = targets[row, :real].numpy()
        losses = np.where(wanted, -2 * np.log(probabilities), -np.log(1 - probabilities))
        expected += losses.mean() / 3
    assert highlight_loss(logits, targets, MASK).item() == pytest.approx(expected, rel=1e-6)
    logits[~MASK] = 100.0
    assert highlight_loss(logits, targets, MASK).item() == pytest.approx(expected, rel=1e-6)


def test_losses_of_half_precision_are_computed_in_float32():
    logits = draw(3, 22).bfloat16().masked_fill(~MASK, -torch.inf)
    assert span_loss(logits, logits, LABELS).dtype == torch.float32
    assert highlight_loss(draw(3, 22).half(), MASK, MASK).dtype == torch.float32


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([[3, 7], [0, 0]], r"shape \(2, 2\), expected integers of the shape \(3, 2\)"),
        ([[3.0, 7.0], [0.0, 0.0], [1.0, 2.0]], r"torch.float32 .*expected integers"),
        ([[3, 7], [0, 4], [1, 20]], r"answer \[0, 4\] of sample 1 does not lie in its video of 4 rows"),
        ([[3, 7], [0, 0], [5, 4]], r"answer \[5, 4\] of sample 2"),
        ([[-1, 7], [0, 0], [1, 20]], r"answer \[-1, 7\] of sample 0"),
    ],
)
def test_answers_that_do_not_lie_in_their_video_are_refused(labels, words):
    with pytest.raises(ValueError, match=words):
        check_labels(torch.tensor(labels), MASK)
    check_labels(LABELS, MASK)
