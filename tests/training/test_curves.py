"""Plots of the log of a run."""

import pytest
from PIL import Image

from internvideo_hf.training.curves import draw_curves

LOSS = [{"step": step, "loss": 1 / step, "learning_rate": 1e-3} for step in (1, 2, 3)]


@pytest.mark.parametrize(
    ("history", "panels"),
    [
        (LOSS, 2),
        ([*LOSS, {"step": 3, "eval_top-1": 0.5, "eval_loss": 0.3, "eval_runtime": 2.0}], 3),
        ([{"step": 3, "eval_loss": 0.3, "eval_samples_per_second": 2.0}], 1),
    ],
)
def test_losses_metrics_and_learning_rate_have_a_panel_each(history, panels, tmp_path):
    draw_curves(history, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (500 * panels, 400)  # 5 x 4 inches a panel, 100 dots an inch


def test_an_empty_log_has_no_plot(tmp_path):
    draw_curves([{"step": 3, "train_runtime": 1.0, "train_loss": 0.5}], tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())
