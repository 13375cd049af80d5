"""The mean loss over all steps, from checkpoint to checkpoint."""

from types import SimpleNamespace

import pytest
import torch

from internvideo_hf.training.mean_loss import MeanLoss


def accelerator(processes: int = 1):
    """Return one that reduces as if the other processes had no loss."""
    return SimpleNamespace(
        device="cpu", num_processes=processes, reduce=lambda tensor, kind: {"mean": tensor / processes}[kind]
    )


def of(losses, processes: int = 1) -> MeanLoss:
    mean = MeanLoss(accelerator(processes))
    for loss in losses:
        mean.add(torch.tensor(loss))
    return mean


def test_the_mean_is_over_steps_and_processes():
    assert of([1.0, 2.0, 6.0]).value(3) == 3
    assert of([1.0, 2.0, 6.0]).value(1) == 9, "three batches of one step"
    assert of([4.0], processes=2).value(1) == 2


def test_a_checkpoint_continues_the_mean(tmp_path):
    of([1.0, 2.0]).save(tmp_path, 2, writes=True)
    mean = MeanLoss(accelerator())
    mean.load(tmp_path, 2)
    mean.add(torch.tensor(6.0))
    assert mean.value(3) == 3
    mean.load(tmp_path, 2)
    assert mean.value(2) == pytest.approx(1.5)


def test_without_a_sum_the_mean_begins_at_the_checkpoint(tmp_path):
    mean = MeanLoss(accelerator())
    mean.load(tmp_path, 10)
    mean.add(torch.tensor(6.0))
    assert mean.value(11) == 6
    of([1.0]).save(tmp_path, 1, writes=False)
    assert not list(tmp_path.iterdir())
