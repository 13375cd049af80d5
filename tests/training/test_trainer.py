"""The Trainer: schedules, scaled rates, EMA, resumption."""

import multiprocessing
import sys

import pytest
import torch
from models.internvideo_mae.test_modeling_internvideo_mae import FRAMES, SIDE, tiny_config
from models.model_checks import draw
from transformers import TrainerCallback, TrainerState

from internvideo_hf import InternVideoMAEForVideoClassification
from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.raw_clips import RawClips
from internvideo_hf.training.schedules import SCHEDULES
from internvideo_hf.training.trainer import (
    LossError,
    VideoTrainer,
    VideoTrainingArguments,
    epoch_of_training,
    last_checkpoint,
)

CLIPS = [
    {"pixel_values_videos": clip, "labels": index % 5} for index, clip in enumerate(draw(12, FRAMES, 3, SIDE, SIDE))
]


class StopAfter(TrainerCallback):
    def __init__(self, steps: int):
        self.steps = steps

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.steps


def trainer(
    folder,
    model_class=InternVideoMAEForVideoClassification,
    data_collator=None,
    trainer_class=VideoTrainer,
    **options,
) -> VideoTrainer:
    torch.manual_seed(0)
    model = model_class(tiny_config(num_hidden_layers=2, drop_path_rate=0.2))
    arguments = {
        "per_device_train_batch_size": 2,
        "max_steps": 6,
        "logging_steps": 1,
        "save_steps": 3,
        "learning_rate": 1e-2,
        "schedule": "linear_then_cosine",
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
    }
    args = VideoTrainingArguments(folder, **arguments | options)
    return trainer_class(model, args, train_dataset=CLIPS, eval_dataset=CLIPS[:4], data_collator=data_collator)


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


def test_training_on_bytes_ends_with_the_weights_of_training_on_normalized_clips(tmp_path):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (12, FRAMES, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    raw = [
        {
            "pixel_values_videos": RawClips(clip, torch.arange(FRAMES) == 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
            "labels": torch.tensor(index % 5),
            "seed": index,
            "video": f"{index}.mp4",
        }
        for index, clip in enumerate(pixels)
    ]
    whole = [sample | {"pixel_values_videos": sample["pixel_values_videos"].normalized()} for sample in raw]
    runs = []
    for samples, workers in ((raw, 2), (whole, 0)):
        run = trainer(
            tmp_path / str(workers),
            data_collator=VideoCollator(mixup={"num_labels": 5}, keep_names=True),
            dataloader_num_workers=workers,
            max_steps=3,
            eval_strategy="steps",
            eval_steps=3,
        )
        run.train_dataset, run.eval_dataset = samples, samples[:4]
        run.train()
        runs.append(run)
    for name, tensor in runs[0].model.state_dict().items():
        assert torch.equal(runs[1].model.state_dict()[name], tensor), name
    assert logged(runs[0], "eval_loss") == logged(runs[1], "eval_loss") != []


def test_no_worker_outlives_the_training(tmp_path):
    workers = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    run = trainer(tmp_path, max_steps=2, eval_strategy="steps", eval_steps=1, **workers)
    run.train()
    assert not multiprocessing.active_children()
    assert run.evaluate()["eval_loss"] > 0  # by a new one
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("logging_steps", [1, 2, 5])  # the checkpoint is in the midst of an interval of 2 or 5
def test_the_loss_of_a_resumed_run_is_the_mean_of_all_its_steps(tmp_path, logging_steps):
    losses = []

    class Listen(VideoTrainer):
        def training_step(self, *args, **kwargs):
            losses.append(super().training_step(*args, **kwargs).item())
            return torch.tensor(losses[-1])

    options = {"logging_steps": logging_steps, "trainer_class": Listen}
    stopped = trainer(tmp_path, **options)
    stopped.add_callback(StopAfter(3))
    stopped.train()
    again = trainer(tmp_path, **options)
    output = again.train(resume_from_checkpoint=True)
    assert len(losses) == 6
    assert output.training_loss == pytest.approx(sum(losses) / 6, rel=1e-6)
    assert logged(again, "train_loss")[-1] == output.metrics["train_loss"] == output.training_loss
    assert logged(stopped, "train_loss") == pytest.approx([sum(losses[:3]) / 3], rel=1e-6)


def with_names(clips: list[dict]) -> dict:
    batch = {name: torch.stack([torch.as_tensor(clip[name]) for clip in clips]) for name in clips[0]}
    return batch | {"videos": [f"{int(clip['labels'])}.mp4" for clip in clips]}


def test_a_loss_that_is_no_number_stops_with_its_clips_and_the_last_checkpoint(tmp_path):
    clips = [dict(clip, pixel_values_videos=clip["pixel_values_videos"].clone()) for clip in CLIPS]
    run = trainer(tmp_path, save_steps=1, max_steps=100, data_collator=with_names)
    run.train_dataset = clips

    class Spoil(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 1:  # a batch is read ahead
                for clip in clips:
                    clip["pixel_values_videos"][0, 0, 0, 0] = torch.nan

    run.add_callback(Spoil())
    with pytest.raises(LossError, match=r"nan at step 3, of the clips \d\.mp4, \d\.mp4.*checkpoint-2"):
        run.train()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    kept = InternVideoMAEForVideoClassification.from_pretrained(tmp_path / "checkpoint-2")
    for name, tensor in kept.state_dict().items():
        assert torch.equal(tensor, run.model.state_dict()[name]), name


def test_a_gradient_that_is_not_finite_does_no_step(tmp_path):
    run = trainer(tmp_path, max_steps=1)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    run.model.classifier.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(LossError, match="gradient is not finite at step 1.*none yet"):
        run.train()
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())


class InParts(InternVideoMAEForVideoClassification):
    """Gives its loss in two parts."""

    def forward(self, **inputs):
        outputs = super().forward(**inputs)
        return {"loss": outputs.loss, "near_loss": outputs.loss * 0.25, "far_loss": outputs.loss * 0.75}


def test_parts_of_the_loss_are_logged_by_their_names(tmp_path):
    run = trainer(tmp_path, max_steps=4, logging_steps=2, model_class=InParts, gradient_accumulation_steps=2)
    run.train()
    losses = logged(run, "loss")
    assert len(losses) == 2
    assert logged(run, "near_loss") == pytest.approx([loss / 4 for loss in losses], rel=1e-4)
    assert logged(run, "far_loss") == pytest.approx([loss * 3 / 4 for loss in losses], rel=1e-4)


def test_only_checkpoints_that_were_saved_to_their_end_count(tmp_path):
    assert last_checkpoint(tmp_path) is None
    for step in (9, 10, 11):
        (tmp_path / f"checkpoint-{step}").mkdir()
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}/complete").touch()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_released_schedule_rises_from_the_start_to_the_rate_and_ends_low(name, tmp_path):
    options = {"schedule": name, "warmup_epochs": 2, "num_train_epochs": 8, "max_steps": -1}
    run = trainer(tmp_path, **options, min_learning_rate=1e-4, warmup_learning_rate=1e-5)
    run.train()
    rates = logged(run, "learning_rate")
    assert len(rates) == 8 * 6
    assert rates[0] < 1e-3 and max(rates) == pytest.approx(1e-2, rel=0.1)
    assert rates[-1] == pytest.approx(1e-3) if name == "one_drop" else rates[-1] < 4e-4
    assert 10 <= rates.index(max(rates)) <= 14  # two epochs of six steps


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected one of linear_then_cosine"):
        trainer(tmp_path, schedule="cosin")
    with pytest.raises(ValueError, match="for dual encoders"):
        trainer(tmp_path, grad_cache=2)


def test_averages_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ValueError, match="set ema_decay"):
        trainer(tmp_path, evaluate_ema=True)
    with pytest.raises(ValueError, match="decay=1.0"):
        trainer(tmp_path, ema_decay=1.0)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"epoch": 0.0, "num_train_epochs": 8}, (0, 8)),
        ({"epoch": 2.75, "num_train_epochs": 8}, (2, 8)),
        # Shards have no epochs: 100 steps in 4 equal parts.
        ({"epoch": 0.25, "global_step": 25, "max_steps": 100, "num_train_epochs": sys.maxsize}, (1, 4)),
        ({"epoch": 0.99, "global_step": 99, "max_steps": 100, "num_train_epochs": sys.maxsize}, (3, 4)),
    ],
)
def test_the_epoch_of_a_step_is_counted_from_0(state, expected, tmp_path):
    args = VideoTrainingArguments(tmp_path, num_train_epochs=3.5, use_cpu=True, report_to="none")
    assert epoch_of_training(args, TrainerState(**state)) == expected
