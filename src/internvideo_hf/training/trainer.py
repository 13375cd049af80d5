"""transformers' Trainer with layer-wise learning rates, the released schedules and an EMA."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_pt_utils import find_batch_size
from transformers.utils import logging

from internvideo_hf.data.collation import finish_batch
from internvideo_hf.models.common.layer_groups import LayerGroups
from internvideo_hf.models.common.open_set import OpenSetHead
from internvideo_hf.training.batch_norms import MODES, BatchNorms
from internvideo_hf.training.ema import EMA
from internvideo_hf.training.mean_loss import MeanLoss
from internvideo_hf.training.optimizers import BertAdam
from internvideo_hf.training.parameter_groups import parameter_groups
from internvideo_hf.training.schedules import SCHEDULES, linear_then_cosine
from internvideo_hf.training.shard_sampling import read_own_shards
from internvideo_hf.utils.files import MODE
from internvideo_hf.utils.names import check_name, with_article

logger = logging.get_logger(__name__)

# Written into a checkpoint's directory last: a checkpoint without it is incomplete.
COMPLETE = "complete"


class LossError(RuntimeError):
    """The loss or its gradient is not finite."""


def last_checkpoint(output_dir: str | Path) -> Path | None:
    """Return the newest complete checkpoint of a run, or None."""
    complete = [path.parent for path in Path(output_dir).glob(f"checkpoint-*/{COMPLETE}")]
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


@dataclass
class VideoTrainingArguments(TrainingArguments):
    """transformers' training arguments, and those of the released recipes.

    `learning_rate`, `min_learning_rate` and `warmup_learning_rate` hold for `base_batch_size` clips a step. They are
    scaled to the actual number of clips a step: clips per device x devices x accumulated batches.
    """

    learning_rate: float = field(
        default=1e-3, metadata={"help": "Peak learning rate, for base_batch_size clips a step."}
    )
    weight_decay: float = field(
        default=0.05, metadata={"help": "Weight decay of parameters that decay_rule does not exempt."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Keep False: videos are read by their columns."}
    )
    base_batch_size: int | None = field(
        default=None, metadata={"help": "Clips a step that the learning rates are meant for (default: no scaling)."}
    )
    schedule: str | None = field(
        default=None, metadata={"help": "Released learning-rate schedule, by name (default: lr_scheduler_type)."}
    )
    warmup_epochs: float = field(default=0.0, metadata={"help": "Epochs of the warm-up; overrides warmup_steps."})
    min_learning_rate: float = field(default=0.0, metadata={"help": "Learning rate at the end of the cosine."})
    warmup_learning_rate: float = field(default=0.0, metadata={"help": "Learning rate at the start of the warm-up."})
    final_weight_decay: float | None = field(
        default=None, metadata={"help": "Weight decay at the end of a cosine (default: constant weight decay)."}
    )
    layer_decay: float = field(default=1.0, metadata={"help": "Layer-wise learning-rate decay."})
    head_scale: float = field(default=1.0, metadata={"help": "Factor on the learning rate of the head."})
    decay_rule: str = field(
        default="videomae", metadata={"help": "Which parameters are exempt from weight decay (name of a rule)."}
    )
    use_bert_adam: bool = field(
        default=False, metadata={"help": "Use retrieval fine-tuning's BertAdam; overrides optim."}
    )
    grad_cache: int | None = field(
        default=None,
        metadata={"help": "Pairs that a dual encoder processes at once; its loss still compares the full batch."},
    )
    batch_norm: str = field(
        default="batch",
        metadata={
            "help": "What batch norms normalize by: batch (the clips that pass together, as released), sync (those of "
            "all processes, on GPUs), frozen (running statistics: parts of a batch train like the batch)."
        },
    )
    ema_decay: float | None = field(
        default=None, metadata={"help": "Decay of the EMA of the weights, e.g. 0.9999 (default: no EMA)."}
    )
    evaluate_ema: bool = field(default=False, metadata={"help": "Evaluate and save the EMA of the weights."})

    def __post_init__(self) -> None:
        for name in ("learning_rate", "num_train_epochs", "head_scale"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected a number above 0.")
        if self.schedule is None and (self.min_learning_rate or self.warmup_learning_rate):
            raise ValueError("min_learning_rate and warmup_learning_rate need a released schedule: set schedule.")
        super().__post_init__()

    @property
    def step_batch_size(self) -> int:
        """Clips of one optimizer step."""
        return self.train_batch_size * self.world_size * self.gradient_accumulation_steps

    @property
    def rate_scale(self) -> float:
        """Factor on all learning rates."""
        return 1.0 if self.base_batch_size is None else self.step_batch_size / self.base_batch_size

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Return the steps of the warm-up, from `warmup_epochs` if given.

        Args:
            num_training_steps: steps of the training.
        """
        if not self.warmup_epochs:
            return super().get_warmup_steps(num_training_steps)
        return round(self.warmup_epochs / self.num_train_epochs * num_training_steps)


class VideoTrainer(Trainer):
    """Train the models of this package with the released recipes; see transformers' `Trainer` for everything else.

    Outputs of the model whose names end in `_loss` are logged, of training and of evaluation. A batch may hold
    `videos`, the names of its videos, for error messages.

    Args:
        model: a model of this package, with or without peft's wrapper.
        args: `VideoTrainingArguments`.
        eval_collator: collates the batches of evaluation, without mixup; `data_collator` by default.
        train_sampler: order of the rows for training; shuffled by default.
        kwargs: see `Trainer`.

    Raises:
        ValueError: if the arguments do not fit each other or the model.
        LossError: in training, if a loss or a gradient is not finite; the step is not taken and nothing is saved.
    """

    args: VideoTrainingArguments
    model: torch.nn.Module

    def __init__(
        self,
        model: Any,
        args: VideoTrainingArguments,
        *,
        eval_collator: Callable[[list[Any]], dict[str, Any]] | None = None,
        train_sampler: Sampler[Any] | None = None,
        **kwargs: Any,
    ):
        if args.evaluate_ema and args.ema_decay is None:
            raise ValueError("evaluate_ema needs an EMA: set ema_decay, e.g. 0.9999.")
        if args.schedule is not None:
            check_name(args.schedule, SCHEDULES, "schedule")
        check_name(args.batch_norm, MODES, "batch_norm")
        super().__init__(model, args, **kwargs)
        self.batch_norms = BatchNorms(self.layered_model, args.batch_norm)
        self._check_batch_norms()
        if args.grad_cache is not None:
            if not hasattr(self.layered_model, "grad_cache"):
                raise ValueError(
                    f"grad_cache is for dual encoders, and this is {with_article(type(self.layered_model).__name__)}."
                )
            self.layered_model.grad_cache = args.grad_cache  # type: ignore[assignment]  # no tensor
        self.average = None if args.ema_decay is None else EMA(model, args.ema_decay)
        self.eval_collator = eval_collator
        self.train_sampler = train_sampler
        self._loss_parts: dict[str, list[torch.Tensor]] = {}
        self._eval_loss_parts: dict[str, list[torch.Tensor]] = {}
        self._videos: list[str] = []
        self.mean_loss = MeanLoss(self.accelerator)
        # First: the other callbacks see what it adds to the log.
        self.callback_handler.callbacks.insert(0, _StepCallback(self))
        if not 1 / 8 <= args.rate_scale <= 8:
            logger.warning(
                f"Got {args.step_batch_size} clips a step, the learning rates are for {args.base_batch_size}. They "
                f"are scaled by {args.rate_scale:.3g}, which may be too much. Accumulate more or fewer batches "
                "(gradient_accumulation_steps; in a recipe, batch_size)."
            )

    def _check_batch_norms(self) -> None:
        """Refuse statistics that the device cannot share, and warn where parts of a batch train unlike the batch."""
        args = self.args
        if not self.batch_norms.norms or args.batch_norm == "frozen":
            return
        if args.batch_norm == "sync" and args.device.type in ("cpu", "mps"):
            raise ValueError(
                f"batch_norm='sync' needs GPUs, and this is {args.device.type}. Set it to frozen or batch."
            )
        together = min(args.grad_cache or args.train_batch_size, args.train_batch_size)
        together *= args.world_size if args.batch_norm == "sync" else 1
        if together < args.step_batch_size:
            logger.warning(
                f"The model's batch norms normalize by {together} clips at a time, and a step has "
                f"{args.step_batch_size}: its gradients are not those of one batch. batch_norm='frozen' normalizes by "
                "the running statistics, so that they are."
            )

    @property
    def layered_model(self) -> LayerGroups:
        """The model without peft's wrapper."""
        model: Any = self.model
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; see transformers' `Trainer.train`. The loss is that of all steps, also before an interruption."""
        try:
            with self.batch_norms.attached():
                output = super().train(*args, **kwargs)
        finally:
            self._end_workers()
        return output._replace(training_loss=output.metrics["train_loss"])

    def _end_workers(self) -> None:
        """End persistent workers; torch waits 5 s for each of them if it is left to a garbage collection."""
        for loader in self.accelerator._dataloaders:
            getattr(loader, "base_dataloader", loader)._iterator = None

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer, with groups by layer and by weight decay.

        Args:
            model: as of `Trainer`.
        """
        if self.optimizer is None:
            args, layered = self.args, self.layered_model if model is None else cast(LayerGroups, model)
            groups = parameter_groups(
                layered,
                args.learning_rate * args.rate_scale,
                args.weight_decay,
                args.layer_decay,
                args.decay_rule,
                args.head_scale,
            )
            if args.use_bert_adam:
                self.optimizer = BertAdam(
                    groups, args.learning_rate, (args.adam_beta1, args.adam_beta2), args.adam_epsilon
                )
            else:
                kind, options = self.get_optimizer_cls_and_kwargs(args, layered)
                self.optimizer = kind(groups, **options)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """Create the learning-rate schedule, a released one if `schedule` names it.

        Args:
            num_training_steps: steps of the training.
            optimizer: as of `Trainer`.
        """
        args = self.args
        if self.lr_scheduler is not None or args.schedule is None:
            return super().create_scheduler(num_training_steps, optimizer)
        schedule, warmup_steps = SCHEDULES[args.schedule], args.get_warmup_steps(num_training_steps)

        def factor(step: int) -> float:
            return schedule(
                min(step, num_training_steps),
                num_training_steps,
                warmup_steps,
                args.warmup_learning_rate / args.learning_rate,
                args.min_learning_rate / args.learning_rate,
            )

        self.lr_scheduler = LambdaLR(self.create_optimizer() if optimizer is None else optimizer, factor)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | int | None]:
        """Take the batches of a step, and count in all processes what the model averages its loss over.

        A model says so by `count_loss_items(batch)`, which returns the number in a batch, or the numbers of several
        losses. Its `forward` gets those of the step as `num_items_in_batch`, and `begin_step`, if it has one, before.

        Args:
            epoch_iterator: of batches.
            num_batches: of a step.
            device: of the number.
        """
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        model: Any = self.layered_model
        if batches and hasattr(model, "count_loss_items"):
            count = sum(model.count_loss_items(batch) for batch in batches)
            num_items = self.accelerator.gather(count.to(device)[None]).sum(dim=0)
            if hasattr(model, "begin_step"):
                model.begin_step(num_items)
        return batches, num_items

    def _prepare_inputs(self, inputs: Any) -> Any:
        """Move a batch to the device; what the loader left to do is done there, see `RawClips`."""
        prepared = super()._prepare_inputs(inputs)
        return finish_batch(prepared) if isinstance(prepared, Mapping) else prepared

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Train on a batch, and add its loss to the mean of the training."""
        loss = super().training_step(*args, **kwargs)
        self.mean_loss.add(loss)
        return loss

    def compute_loss(
        self, model: torch.nn.Module, inputs: dict[str, Any], return_outputs: bool = False, *args: Any, **kwargs: Any
    ) -> Any:
        """Compute the loss, check that it is finite, and collect its parts for the log."""
        videos = inputs.pop("videos", [])
        for name in ("video_ids", "grids", "edges", "placements"):  # for the metrics
            inputs.pop(name, None)
        loss, outputs = super().compute_loss(model, inputs, True, *args, **kwargs)
        named = outputs.items() if isinstance(outputs, dict) else ()
        # A loss that was divided by the items of a step is a part of it, and the log has the mean of the parts.
        counted = kwargs.get("num_items_in_batch") is not None and hasattr(self.layered_model, "count_loss_items")
        steps = self.current_gradient_accumulation_steps * self.accelerator.num_processes if counted else 1
        parts = {name: value.detach() * steps for name, value in named if name.endswith("_loss") and value is not None}
        if model.training:
            self._videos += videos
            if not torch.isfinite(loss):
                raise self.loss_error(f"The loss is {loss.item()}")
            for name, value in parts.items():
                self._loss_parts.setdefault(name, []).append(value)
        else:
            for name, value in parts.items():  # weighted as Trainer weights eval_loss
                rows = self.gather_function(value.float().repeat(find_batch_size(inputs) or 1))
                self._eval_loss_parts.setdefault(name, []).append(rows)
        return (loss, outputs) if return_outputs else loss

    def loss_error(self, what: str) -> LossError:
        """Return the error for a loss or gradient that is not finite; it names the step and the clips.

        Args:
            what: beginning of the message.
        """
        assert self.args.output_dir is not None  # the arguments have a default
        checkpoint = last_checkpoint(self.args.output_dir)
        clips = f", of the clips {', '.join(self._videos)}" if self._videos else ""
        return LossError(
            f"{what} at step {self.state.global_step + 1}{clips}. The step was not taken; the last checkpoint is "
            f"{checkpoint or 'none yet'}. Look at these clips, lower the learning rate, or train in bf16 or float32."
        )

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[Any] | None:
        return super()._get_train_sampler(train_dataset) if self.train_sampler is None else self.train_sampler

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader[Any]:
        """Create the loader for evaluation: all samples, in batches of `eval_collator`."""
        with self._as_in_evaluation():
            return super().get_eval_dataloader(*args, **kwargs)

    def get_test_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader[Any]:
        """Create the loader for `predict`; see `get_eval_dataloader`."""
        with self._as_in_evaluation():
            return super().get_test_dataloader(*args, **kwargs)

    @contextmanager
    def _as_in_evaluation(self) -> Iterator[None]:
        in_training = self.data_collator, self.args.dataloader_drop_last
        self.data_collator = self.eval_collator or self.data_collator
        self.args.dataloader_drop_last = False
        try:
            yield
        finally:
            self.data_collator, self.args.dataloader_drop_last = in_training

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate or predict; the metrics also have the parts of the loss. See transformers' `Trainer`."""
        self._eval_loss_parts = {}
        output: Any = super().evaluation_loop(*args, **kwargs)
        if not self.is_in_train:
            self._end_workers()
        for name, values in self._eval_loss_parts.items():
            output.metrics[f"{kwargs.get('metric_key_prefix', 'eval')}_{name}"] = torch.cat(values).mean().item()
        return output

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            for file in Path(str(output_dir or self.args.output_dir)).glob("*.safetensors"):
                file.chmod(MODE)  # safetensors leaves 0600

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate the weights, or their EMA if `evaluate_ema` is set, without a change of the random state."""
        average = self.average if self.args.evaluate_ema else None
        weights = nullcontext() if average is None else average.swapped(self.model)
        # A run that resumes after an evaluation does not repeat its random draws.
        with torch.random.fork_rng(), weights:
            return super().evaluate(*args, **kwargs)


def epoch_of_training(args: TrainingArguments, state: TrainerState) -> tuple[int, int]:
    """Return the epoch of the next step, counted from 0, and how many the training has; the same after a resume.

    A training on shards, whose length is unknown, has `args.num_train_epochs` of equal numbers of steps.

    Args:
        args: of the training.
        state: at the beginning of a step.
    """
    if state.num_train_epochs < sys.maxsize:
        return int(state.epoch or 0), state.num_train_epochs
    epochs = math.ceil(args.num_train_epochs)
    return state.global_step * epochs // state.max_steps, epochs


class _StepCallback(TrainerCallback):
    """Do what a step needs beyond Trainer's: weight decay, batch norms, EMA, checks of gradients, log of losses."""

    def __init__(self, trainer: VideoTrainer):
        self.trainer = trainer

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, train_dataloader: Any = None, **kwargs: Any
    ) -> None:
        read_own_shards(train_dataloader, args.process_index, args.world_size)
        if state.global_step > 0:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self.trainer.mean_loss.load(folder, state.global_step)
            if self.trainer.average is not None:
                self.trainer.average.load(folder)

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        # Accelerate sets the epoch only if nothing wraps the dataset's sampler: not with several processes, nor where
        # it skips the batches of an interrupted run.
        for part in (self.trainer.train_dataset, self.trainer.train_sampler):
            if part is not None and hasattr(part, "set_epoch"):
                part.set_epoch(int(state.epoch or 0))

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.trainer._videos = []
        if isinstance(model := self.trainer.layered_model, OpenSetHead):
            model.set_epoch(*epoch_of_training(args, state))
        # Drop path and dropout must not depend on earlier draws: data loaders draw differently after a resume.
        seed = np.random.SeedSequence([args.seed, state.global_step, args.process_index])
        torch.manual_seed(int(seed.generate_state(1)[0]))
        if args.final_weight_decay is None or self.trainer.optimizer is None:
            return
        decay = linear_then_cosine(
            state.global_step, state.max_steps, end=args.final_weight_decay, peak=args.weight_decay
        )
        for group in self.trainer.optimizer.param_groups:
            if group["weight_decay"] > 0:
                group["weight_decay"] = decay

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        # With fp16, infinite gradients are normal while the loss scale settles, and the scaler skips their steps.
        gradients = [] if args.fp16 else [p.grad for p in self.trainer.model.parameters() if p.grad is not None]
        if gradients and not torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            raise self.trainer.loss_error("The gradient is not finite")

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.trainer.batch_norms.step()
        if self.trainer.average is not None:
            self.trainer.average.update(self.trainer.accelerator.unwrap_model(self.trainer.model_wrapped))

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any) -> None:
        self.trainer.mean_loss.drain()
        if "train_loss" in logs:
            mean = self.trainer.mean_loss.value(state.global_step)
            logs["train_loss"] = state.log_history[-1]["train_loss"] = mean
        if "loss" not in logs:
            return
        for name, values in self.trainer._loss_parts.items():
            mean = self.trainer.accelerator.reduce(torch.stack(values).float().mean(), "mean").item()
            logs[name] = state.log_history[-1][name] = mean
        self.trainer._loss_parts = {}

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.trainer.average is not None:
            self.trainer.average.save(folder, writes=state.is_world_process_zero)
        self.trainer.mean_loss.save(folder, state.global_step, writes=state.is_world_process_zero)
        self.trainer.accelerator.wait_for_everyone()  # all processes have written their parts
        if state.is_world_process_zero:
            (folder / COMPLETE).touch()
