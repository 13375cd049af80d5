"""Batch norms in training: parts of a batch, and clips that pass twice."""

import copy

import pytest
import torch
from torch import nn
from training.scaling import norms_trainer

from internvideo_hf.training.batch_norms import BatchNorms


def trained(folder, dual, **options) -> dict[str, torch.Tensor]:
    run = norms_trainer(folder, dual, **options)
    run.train()
    return run.model.state_dict()


def assert_close(found, expected, **tolerance):
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, **tolerance, msg=lambda m, n=name: f"{n}: {m}")


def running(weights):
    return {name: tensor for name, tensor in weights.items() if "running" in name}


@pytest.mark.parametrize(
    ("dual", "parts"),
    [
        pytest.param(False, {"batch_size": 4, "gradient_accumulation_steps": 2}, id="accumulated"),
        pytest.param(False, {"batch_size": 2, "gradient_accumulation_steps": 4}, id="accumulated by 4"),
        pytest.param(True, {"batch_size": 8, "grad_cache": 2}, id="cached"),
        pytest.param(True, {"batch_size": 8, "grad_cache": 3}, id="cached unevenly"),
    ],
)
def test_frozen_statistics_train_parts_like_the_batch(dual, parts, tmp_path):
    start = norms_trainer(tmp_path / "start", dual, batch_size=8).model.state_dict()
    whole = trained(tmp_path / "whole", dual, batch_size=8, batch_norm="frozen")
    found = trained(tmp_path / "parts", dual, batch_norm="frozen", **parts)
    assert_close(found, whole, atol=1e-6, rtol=1e-5)
    assert any((whole[name] - tensor).abs().max() > 1e-3 for name, tensor in start.items())
    assert running(whole) and all(torch.equal(whole[name], tensor) for name, tensor in running(start).items())


def test_statistics_move_once_a_step_whatever_passes_twice(tmp_path):
    plain = trained(tmp_path / "plain", False, batch_size=8)
    checkpointed = trained(tmp_path / "twice", False, batch_size=8, gradient_checkpointing=True)
    assert all(torch.equal(checkpointed[name], tensor) for name, tensor in plain.items())
    cached = trained(tmp_path / "cached", True, batch_size=8, grad_cache=2)
    for weights in (plain, cached):
        counts = [tensor.item() for name, tensor in weights.items() if name.endswith("num_batches_tracked")]
        assert counts == [4] * 3


def test_running_statistics_of_one_batch_are_torchs(tmp_path):
    """One step of descent with rate 0 moves nothing but the running statistics."""
    run = norms_trainer(tmp_path, False, batch_size=8, max_steps=1, learning_rate=1e-30)
    own = copy.deepcopy(run.model).train()
    batch = next(iter(run.get_train_dataloader()))
    own(**batch)
    run.train()
    assert_close(running(run.model.state_dict()), running(own.state_dict()), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_parts_leave_the_statistics_of_all_they_hold(momentum):
    """By hand: mean and unbiased variance of all rows, and the moving average of torch's documentation."""
    norm = nn.Sequential(nn.BatchNorm1d(3, momentum=momentum)).train()
    rows = 100 + torch.randn(12, 3, generator=torch.Generator().manual_seed(0))  # a mean far from 0 cancels digits
    norms = BatchNorms(norm, "batch")
    with norms.attached():
        for _ in range(2):
            for part in rows.split([2, 7, 3]):
                norm(part)
            assert norm[0].num_batches_tracked == _
            norms.step()
            norms.step()  # nothing new
    weight = 1 if momentum is None else 1 - 0.9**2
    torch.testing.assert_close(norm[0].running_mean, weight * rows.mean(dim=0))
    torch.testing.assert_close(norm[0].running_var, (1 - weight) + weight * rows.var(dim=0), atol=1e-5, rtol=1e-5)
    norm(rows)  # outside, as ever
    assert norm[0].num_batches_tracked == 3


def test_unlike_parts_are_said_and_impossible_modes_refused(tmp_path, caplog):
    norms_trainer(tmp_path, True, batch_size=8)
    norms_trainer(tmp_path, True, batch_size=8, grad_cache=2, batch_norm="frozen")
    assert "batch norms" not in caplog.text
    norms_trainer(tmp_path, True, batch_size=8, grad_cache=2)
    assert "normalize by 2 clips at a time, and a step has 8" in caplog.text
    with pytest.raises(ValueError, match="batch_norm='sync' needs GPUs, and this is cpu"):
        norms_trainer(tmp_path, True, batch_size=8, batch_norm="sync")
    with pytest.raises(ValueError, match="batch_norm: got 'froze', expected one of batch, frozen, sync"):
        norms_trainer(tmp_path, True, batch_size=8, batch_norm="froze")


def test_synchronized_norms_keep_the_weights():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    names = list(model.state_dict())
    norms = BatchNorms(model, "sync")
    assert isinstance(model[1], nn.SyncBatchNorm) and norms.norms == [model[1]] and list(model.state_dict()) == names
