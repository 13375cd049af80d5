"""The Trainer: schedules, scaled rates, averaged weights, and going on where it was stopped."""

import pytest
import torch
from models.common import draw
from models.internvideo_mae.test_modeling_internvideo_mae import FRAMES, SIDE, tiny_config
from transformers import TrainerCallback

from internvideo_hf import InternVideoMAEForVideoClassification
from internvideo_hf.training.averaging import WeightAverage
from internvideo_hf.training.trainer import VideoTrainer, VideoTrainingArguments

CLIPS = [
    {"pixel_values_videos": clip, "labels": index % 5} for index, clip in enumerate(draw(12, FRAMES, 3, SIDE, SIDE))
]


class StopAfter(TrainerCallback):
    def __init__(self, steps: int):
        self.steps = steps

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.steps


def trainer(folder, **options) -> VideoTrainer:
    torch.manual_seed(0)
    model = InternVideoMAEForVideoClassification(tiny_config(num_hidden_layers=2, drop_path_rate=0.2))
    arguments = {
        "per_device_train_batch_size": 2,
        "max_steps": 6,
        "logging_steps": 1,
        "save_steps": 3,
        "learning_rate": 1e-2,
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
    }
    args = VideoTrainingArguments(folder, **arguments | options)
    return VideoTrainer(model, args, train_dataset=CLIPS, eval_dataset=CLIPS[:4])


def logged(run: VideoTrainer, key: str) -> list[float]:
    return [entry[key] for entry in run.state.log_history if key in entry]


def test_rate_rises_in_a_straight_line_and_falls_by_a_cosine_to_its_floor(tmp_path):
    run = trainer(tmp_path, warmup_steps=2, min_learning_rate=1e-4)
    run.train()
    expected = [0.0, 1e-2, 1e-2, 8.55e-3, 5.05e-3, 1.55e-3]
    assert logged(run, "learning_rate") == pytest.approx(expected, rel=1e-3)


def test_rates_are_scaled_to_the_clips_of_a_step(tmp_path):
    run = trainer(tmp_path, base_batch_size=16, gradient_accumulation_steps=2)
    assert run.args.step_batch_size == 4
    assert [group["lr"] for group in run.create_optimizer().param_groups] == pytest.approx([1e-2 / 4] * 2)


def test_a_batch_far_from_the_recipes_is_told(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("internvideo_hf.training.trainer.logger.warning", said.append)
    trainer(tmp_path, base_batch_size=256)
    trainer(tmp_path, base_batch_size=4)
    assert len(said) == 1 and "2 clips" in said[0] and "256" in said[0]


def test_weight_decay_follows_its_own_cosine(tmp_path):
    run = trainer(tmp_path, weight_decay=0.1, final_weight_decay=0.4)
    run.train()
    decays = sorted(group["weight_decay"] for group in run.optimizer.param_groups)
    assert decays == pytest.approx([0.0, 0.4 - 0.15 * (1 - 0.8660254)], abs=1e-6)


def test_average_is_the_exponential_one_and_evaluated_when_asked(tmp_path):
    run = trainer(tmp_path, ema_decay=0.5, evaluate_ema=True, max_steps=1, warmup_steps=0)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    run.train()
    own = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    for name, tensor in run.average.tensors.items():
        torch.testing.assert_close(tensor, (before[name] + own[name]) / 2)
    averaged = run.evaluate()["eval_loss"]
    assert all(torch.equal(tensor, own[name]) for name, tensor in run.model.state_dict().items())
    run.model.load_state_dict(run.average.tensors)
    run.args.evaluate_ema = False
    assert run.evaluate()["eval_loss"] == pytest.approx(averaged)
    run.model.load_state_dict(own)
    assert run.evaluate()["eval_loss"] != pytest.approx(averaged, rel=1e-6)


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path):
    options = {"ema_decay": 0.9, "final_weight_decay": 0.2, "warmup_steps": 2, "layer_decay": 0.5}
    whole = trainer(tmp_path / "whole", **options)
    whole.train()
    stopped = trainer(tmp_path / "stopped", **options)
    stopped.add_callback(StopAfter(3))
    stopped.train()
    assert stopped.state.global_step == 3
    again = trainer(tmp_path / "stopped", **options)
    again.train(resume_from_checkpoint=True)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name
    for name, tensor in whole.average.tensors.items():
        assert torch.equal(again.average.tensors[name], tensor), name


def test_averages_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ValueError, match="set ema_decay"):
        trainer(tmp_path, evaluate_ema=True)
    with pytest.raises(ValueError, match="decay=1.0"):
        trainer(tmp_path, ema_decay=1.0)
    average = WeightAverage(torch.nn.Linear(2, 2), 0.5)
    with pytest.raises(ValueError, match="without ema_decay"):
        average.load(tmp_path)
    WeightAverage(torch.nn.Linear(3, 2), 0.5).save(tmp_path)
    with pytest.raises(ValueError, match="of another model"):
        average.load(tmp_path)
