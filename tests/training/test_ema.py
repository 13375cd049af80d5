"""The exponential moving average of weights."""

import pytest
import torch
from safetensors.torch import load_file

from internvideo_hf.training.ema import EMA


def model(weight: float = 1.0) -> torch.nn.Module:
    """Make a model with a trained weight, a frozen bias, and the statistics of a norm."""
    made = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1))
    torch.nn.init.constant_(made[0].weight, weight)
    made[0].bias.requires_grad_(False)
    return made


def test_update_is_the_formula_for_weights_and_a_copy_for_counters():
    trained = model(1.0)
    average = EMA(trained, 0.75)
    for weight in (5.0, 9.0):
        torch.nn.init.constant_(trained[0].weight, weight)
        trained[1].running_mean.fill_(weight)
        trained[1].num_batches_tracked += 1
        average.update(trained)
    # 0.75 * 1 + 0.25 * 5 = 2; 0.75 * 2 + 0.25 * 9 = 3.75
    assert average.tensors["0.weight"].item() == 3.75
    assert average.tensors["1.running_mean"].item() == 0.75 * 1.25 + 0.25 * 9
    assert average.tensors["1.num_batches_tracked"].item() == 2
    assert "0.bias" not in average.tensors


def test_half_precision_weights_do_not_stop_the_average():
    average = EMA(model(1.0), 0.9999)
    average.update(model(1.0078125).bfloat16())
    assert average.tensors["0.weight"].item() == pytest.approx(1 + 0.0078125e-4, abs=1e-7)


def test_the_model_gets_its_weights_back_also_after_an_error():
    trained = model(1.0)
    average = EMA(trained, 0.5)
    torch.nn.init.constant_(trained[0].weight, 3.0)
    with pytest.raises(RuntimeError, match="inside"), average.swapped(trained):
        assert trained[0].weight.item() == 1.0
        raise RuntimeError("inside")
    assert trained[0].weight.item() == 3.0
    average.copy_to(trained)
    assert trained[0].weight.item() == 1.0


def test_file_is_written_by_one_process_and_read_by_all(tmp_path):
    average = EMA(model(2.0), 0.5)
    average.save(tmp_path, writes=False)
    assert not list(tmp_path.iterdir())
    average.save(tmp_path)
    assert load_file(tmp_path / "average.safetensors")["0.weight"].item() == 2.0
    other = EMA(model(7.0), 0.5)
    other.load(tmp_path)
    assert other.tensors["0.weight"].item() == 2.0


def test_other_files_and_partitioned_models_are_refused(tmp_path):
    average = EMA(torch.nn.Linear(2, 2), 0.5)
    with pytest.raises(ValueError, match="without ema_decay"):
        average.load(tmp_path)
    EMA(torch.nn.Linear(3, 2), 0.5).save(tmp_path)
    with pytest.raises(ValueError, match="of another model"):
        average.load(tmp_path)
    partitioned = torch.nn.Linear(2, 2)
    partitioned.weight.ds_id = 0  # as DeepSpeed marks it
    with pytest.raises(ValueError, match="use FSDP2 or ZeRO-2"):
        EMA(partitioned, 0.5)
    with pytest.raises(ValueError, match="decay=1"):
        EMA(torch.nn.Linear(2, 2), 1.0)
