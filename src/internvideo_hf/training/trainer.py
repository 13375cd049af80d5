"""transformers' Trainer with what the released recipes need: layer-wise rates, their schedules, averaged weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

from internvideo_hf.training.ema import EMA
from internvideo_hf.training.optimizers import BertAdam
from internvideo_hf.training.parameter_groups import parameter_groups
from internvideo_hf.training.schedules import SCHEDULES, linear_then_cosine
from internvideo_hf.training.shard_sampling import read_own_shards

logger = logging.get_logger(__name__)

# Written into a checkpoint's folder last: one without it was cut off while it was saved.
COMPLETE = "complete"


class LossError(RuntimeError):
    """The loss or its gradient is not finite."""


def last_checkpoint(output_dir: str | Path) -> Path | None:
    """The newest checkpoint of a run that was saved to its end; None where there is none."""
    found = [path.parent for path in Path(output_dir).glob(f"checkpoint-*/{COMPLETE}")]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


@dataclass
class VideoTrainingArguments(TrainingArguments):
    """transformers' training arguments, and those of the released recipes.

    `learning_rate`, `min_learning_rate` and `warmup_learning_rate` are those of a batch of `base_batch_size` clips,
    and are scaled to the batch that one step really sees: clips of a device x devices x accumulated batches.
    """

    learning_rate: float = field(default=1e-3, metadata={"help": "After the warm-up, for base_batch_size clips."})
    weight_decay: float = field(default=0.05, metadata={"help": "Of parameters that decay_rule does not spare."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Videos are read by their columns."})
    base_batch_size: int | None = field(
        default=None, metadata={"help": "Clips a step that the rates are meant for; they are not scaled by default."}
    )
    schedule: str | None = field(
        default=None, metadata={"help": "Of the learning rate, a released one; lr_scheduler_type where None."}
    )
    warmup_epochs: float = field(default=0.0, metadata={"help": "In place of warmup_steps; parts of an epoch count."})
    min_learning_rate: float = field(default=0.0, metadata={"help": "At the end of the cosine."})
    warmup_learning_rate: float = field(default=0.0, metadata={"help": "At the first step of the warm-up."})
    final_weight_decay: float | None = field(
        default=None, metadata={"help": "Weight decay follows a cosine to this; it stays the same by default."}
    )
    layer_decay: float = field(default=1.0, metadata={"help": "Factor on the rate from a layer to the one before it."})
    decay_rule: str = field(default="videomae", metadata={"help": "Who is spared weight decay; a released recipe."})
    use_bert_adam: bool = field(default=False, metadata={"help": "Retrieval's optimizer in place of optim."})
    grad_cache: int | None = field(
        default=None,
        metadata={"help": "Pairs that go through a dual encoder at once, however many the contrastive loss compares."},
    )
    ema_decay: float | None = field(
        default=None, metadata={"help": "Keep the average of the weights, such as 0.9999."}
    )
    evaluate_ema: bool = field(default=False, metadata={"help": "Evaluate the average in place of the weights."})

    def __post_init__(self) -> None:
        for name in ("learning_rate", "num_train_epochs"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0.")
        if self.schedule is None and (self.min_learning_rate or self.warmup_learning_rate):
            raise ValueError("min_learning_rate and warmup_learning_rate are of a released schedule: set schedule.")
        super().__post_init__()

    @property
    def step_batch_size(self) -> int:
        """Clips that one step of the optimizer sees."""
        return self.train_batch_size * self.world_size * self.gradient_accumulation_steps

    @property
    def rate_scale(self) -> float:
        """What all learning rates are multiplied by."""
        return 1.0 if self.base_batch_size is None else self.step_batch_size / self.base_batch_size

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Steps of the warm-up: of `warmup_epochs` where they are given."""
        if not self.warmup_epochs:
            return super().get_warmup_steps(num_training_steps)
        return round(self.warmup_epochs / self.num_train_epochs * num_training_steps)


class VideoTrainer(Trainer):
    """Trains the models of this package as their recipes say; see transformers' `Trainer` for everything else.

    What a model gives beside its loss under names that end in `_loss` is logged by these names. A batch may hold
    `videos`, the names of what is in it, which an error of its loss then tells.

    Args:
        model: a model of this package, also inside peft's wrapper.
        args: `VideoTrainingArguments`.
        eval_collator: makes the batches of evaluation, where mixing must rest; `data_collator` by default.
        train_sampler: the order of the rows for training; drawn by default.
        kwargs: as of `Trainer`.

    Raises:
        ValueError: if two arguments do not fit each other, or the model.
        LossError (in training): if a loss or a gradient is not finite; no step is done with it, nothing saved.
    """

    def __init__(
        self,
        model: Any,
        args: VideoTrainingArguments,
        *,
        eval_collator: Callable[[list[Any]], dict[str, Any]] | None = None,
        train_sampler: Sampler | None = None,
        **kwargs: Any,
    ):
        if args.evaluate_ema and args.ema_decay is None:
            raise ValueError("evaluate_ema needs an average: set ema_decay, such as 0.9999.")
        if args.schedule is not None and args.schedule not in SCHEDULES:
            raise ValueError(f"schedule={args.schedule!r}, expected one of {', '.join(SCHEDULES)}, or None.")
        super().__init__(model, args, **kwargs)
        if args.grad_cache is not None:
            if not hasattr(self.layered_model, "grad_cache"):
                raise ValueError(
                    f"grad_cache is for dual encoders, and this is a {type(self.layered_model).__name__}."
                )
            self.layered_model.grad_cache = args.grad_cache
        self.average = None if args.ema_decay is None else EMA(model, args.ema_decay)
        self.eval_collator = eval_collator
        self.train_sampler = train_sampler
        self._loss_parts: dict[str, list[torch.Tensor]] = {}
        self._videos: list[str] = []
        # First, so that what it adds to the log reaches all others.
        self.callback_handler.callbacks.insert(0, _Recipe(self))
        if not 1 / 8 <= args.rate_scale <= 8:
            logger.warning(
                f"One step sees {args.step_batch_size} clips, and the recipe's rates are for {args.base_batch_size}: "
                f"they are scaled by {args.rate_scale:.3g}, which may be too far to hold. Accumulate more or fewer "
                "batches (gradient_accumulation_steps; in a recipe, batch_size)."
            )

    @property
    def layered_model(self) -> torch.nn.Module:
        """The model itself, which names its layers, out of peft's wrapper."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer, its groups by layer and by decay."""
        if self.optimizer is None:
            args, model = self.args, self.layered_model if model is None else model
            groups = parameter_groups(
                model, args.learning_rate * args.rate_scale, args.weight_decay, args.layer_decay, args.decay_rule
            )
            if args.use_bert_adam:
                self.optimizer = BertAdam(
                    groups, args.learning_rate, (args.adam_beta1, args.adam_beta2), args.adam_epsilon
                )
            else:
                kind, options = self.get_optimizer_cls_and_kwargs(args, model)
                self.optimizer = kind(groups, **options)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LambdaLR:
        """Make the schedule of the learning rate, where `schedule` names a released one."""
        args = self.args
        if self.lr_scheduler is not None or args.schedule is None:
            return super().create_scheduler(num_training_steps, optimizer)
        schedule, warmup_steps = SCHEDULES[args.schedule], args.get_warmup_steps(num_training_steps)

        def share(step: int) -> float:
            return schedule(
                min(step, num_training_steps),
                num_training_steps,
                warmup_steps,
                args.warmup_learning_rate / args.learning_rate,
                args.min_learning_rate / args.learning_rate,
            )

        self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, share)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any) -> Any:
        """Compute the loss, refuse one that is not finite, and keep its parts for the log."""
        videos = inputs.pop("videos", [])
        inputs.pop("video_ids", None)  # for the metrics
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        if model.training:
            self._videos += videos
            if not torch.isfinite(loss):
                raise self.loss_error(f"The loss is {loss.item()}")
            for name, value in outputs.items() if isinstance(outputs, dict) else ():
                if name.endswith("_loss") and value is not None:
                    self._loss_parts.setdefault(name, []).append(value.detach())
        return (loss, outputs) if return_outputs else loss

    def loss_error(self, what: str) -> LossError:
        """Say what is not finite, where, of which clips, and what is left of the run."""
        kept = last_checkpoint(self.args.output_dir)
        clips = f", of the clips {', '.join(self._videos)}" if self._videos else ""
        return LossError(
            f"{what} at step {self.state.global_step + 1}{clips}. Nothing was changed by it; the last checkpoint is "
            f"{kept or 'none yet'}. Look at these clips, lower the learning rate, or train in bf16 or float32."
        )

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        return super()._get_train_sampler(train_dataset) if self.train_sampler is None else self.train_sampler

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """Make the loader of all samples for evaluation, the last few as well, in batches of `eval_collator`."""
        with self._as_in_evaluation():
            return super().get_eval_dataloader(*args, **kwargs)

    def get_test_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """Make the loader for `predict`; see `get_eval_dataloader`."""
        with self._as_in_evaluation():
            return super().get_test_dataloader(*args, **kwargs)

    @contextmanager
    def _as_in_evaluation(self) -> Iterator[None]:
        kept = self.data_collator, self.args.dataloader_drop_last
        self.data_collator = self.eval_collator or self.data_collator
        self.args.dataloader_drop_last = False
        try:
            yield
        finally:
            self.data_collator, self.args.dataloader_drop_last = kept

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate the weights, or their average where `evaluate_ema` is set; training draws on as if without it."""
        average = self.average.in_place_of(self.model) if self.args.evaluate_ema else nullcontext()
        # A run that is resumed behind an evaluation has not drawn what that draws.
        with torch.random.fork_rng(), average:
            return super().evaluate(*args, **kwargs)


class _Recipe(TrainerCallback):
    """What happens around a step: weight decay by its schedule, the check of gradients, the average, the log."""

    def __init__(self, trainer: VideoTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
        read_own_shards(train_dataloader, args.process_index, args.world_size)
        if self.trainer.average is not None and state.global_step > 0:
            self.trainer.average.load(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_epoch_begin(self, args, state, control, **kwargs):
        # Accelerate tells the dataset where nothing wraps its sampler: not with several processes, nor when it skips
        # what a stopped run has seen.
        for what in (self.trainer.train_dataset, self.trainer.train_sampler):
            if hasattr(what, "set_epoch"):
                what.set_epoch(int(state.epoch or 0))

    def on_step_begin(self, args, state, control, **kwargs):
        self.trainer._videos = []
        # Drop path and dropout of a step, whatever was drawn before it: loaders draw more or less after a resume.
        draw = np.random.SeedSequence([args.seed, state.global_step, args.process_index])
        torch.manual_seed(int(draw.generate_state(1)[0]))
        if args.final_weight_decay is None:
            return
        for group in self.trainer.optimizer.param_groups:
            if group["weight_decay"] > 0:
                group["weight_decay"] = linear_then_cosine(
                    state.global_step,
                    base=args.weight_decay,
                    final=args.final_weight_decay,
                    total_steps=state.max_steps,
                )

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        # Half precision meets infinite gradients on its way to the right scale, and skips these steps itself.
        gradients = [] if args.fp16 else [p.grad for p in self.trainer.model.parameters() if p.grad is not None]
        if gradients and not torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            raise self.trainer.loss_error("The gradient is not finite")

    def on_step_end(self, args, state, control, **kwargs):
        if self.trainer.average is not None:
            self.trainer.average.update(self.trainer.accelerator.unwrap_model(self.trainer.model_wrapped))

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" not in logs:
            return
        for name, values in self.trainer._loss_parts.items():
            mean = self.trainer.accelerator.reduce(torch.stack(values).float().mean(), "mean").item()
            logs[name] = state.log_history[-1][name] = mean
        self.trainer._loss_parts = {}

    def on_save(self, args, state, control, **kwargs):
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.trainer.average is not None:
            self.trainer.average.save(folder, writes=state.is_world_process_zero)
        self.trainer.accelerator.wait_for_everyone()  # all have written their parts
        if state.is_world_process_zero:
            (folder / COMPLETE).touch()
