"""transformers' Trainer with what the released recipes need: layer-wise rates, their schedules, averaged weights."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging

from internvideo_hf.training.averaging import WeightAverage
from internvideo_hf.training.own_shards import read_own_shards
from internvideo_hf.training.parameter_groups import parameter_groups
from internvideo_hf.training.schedules import linear_then_cosine

logger = logging.get_logger(__name__)


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
    min_learning_rate: float = field(default=0.0, metadata={"help": "At the end of the cosine."})
    warmup_learning_rate: float = field(default=0.0, metadata={"help": "At the first step of the warm-up."})
    final_weight_decay: float | None = field(
        default=None, metadata={"help": "Weight decay follows a cosine to this; it stays the same by default."}
    )
    layer_decay: float = field(default=1.0, metadata={"help": "Factor on the rate from a layer to the one before it."})
    decay_rule: str = field(default="videomae", metadata={"help": "Who is spared weight decay; a released recipe."})
    ema_decay: float | None = field(
        default=None, metadata={"help": "Keep the average of the weights, such as 0.9999."}
    )
    evaluate_ema: bool = field(default=False, metadata={"help": "Evaluate the average in place of the weights."})

    @property
    def step_batch_size(self) -> int:
        """Clips that one step of the optimizer sees."""
        return self.train_batch_size * self.world_size * self.gradient_accumulation_steps

    @property
    def rate_scale(self) -> float:
        """What all learning rates are multiplied by."""
        return 1.0 if self.base_batch_size is None else self.step_batch_size / self.base_batch_size


class VideoTrainer(Trainer):
    """Trains the models of this package as their recipes say; see transformers' `Trainer` for everything else.

    Args:
        model: a model of this package.
        args: `VideoTrainingArguments`.
        kwargs: as of `Trainer`.

    Raises:
        ValueError: if `evaluate_ema` is set without `ema_decay`.
    """

    def __init__(self, model: Any, args: VideoTrainingArguments, **kwargs: Any):
        if args.evaluate_ema and args.ema_decay is None:
            raise ValueError("evaluate_ema needs an average: set ema_decay, such as 0.9999.")
        super().__init__(model, args, **kwargs)
        self.average = None if args.ema_decay is None else WeightAverage(model, args.ema_decay)
        self.add_callback(_Recipe(self))
        if not 1 / 8 <= args.rate_scale <= 8:
            logger.warning(
                f"One step sees {args.step_batch_size} clips, and the recipe's rates are for {args.base_batch_size}: "
                f"they are scaled by {args.rate_scale:.3g}, which may be too far to hold. Accumulate more or fewer "
                "batches by gradient_accumulation_steps."
            )

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer, its groups by layer and by decay."""
        if self.optimizer is None:
            args, model = self.args, self.model if model is None else model
            groups = parameter_groups(
                model, args.learning_rate * args.rate_scale, args.weight_decay, args.layer_decay, args.decay_rule
            )
            kind, options = self.get_optimizer_cls_and_kwargs(args, model)
            self.optimizer = kind(groups, **options)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LambdaLR:
        """Make the schedule of the learning rate: a straight line, then a cosine. Only "cosine" is made so."""
        args = self.args
        if self.lr_scheduler is not None or args.lr_scheduler_type != "cosine":
            return super().create_scheduler(num_training_steps, optimizer)

        def share(step: int) -> float:
            rate = linear_then_cosine(
                min(step, num_training_steps),
                base=args.learning_rate,
                final=args.min_learning_rate,
                total_steps=num_training_steps,
                warmup_steps=args.get_warmup_steps(num_training_steps),
                start=args.warmup_learning_rate,
            )
            return rate / args.learning_rate

        self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, share)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate the weights, or their average where `evaluate_ema` is set."""
        if not self.args.evaluate_ema:
            return super().evaluate(*args, **kwargs)
        with self.average.in_place_of(self.model):
            return super().evaluate(*args, **kwargs)


class _Recipe(TrainerCallback):
    """What happens around a step: weight decay by its schedule, and the average."""

    def __init__(self, trainer: VideoTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
        read_own_shards(train_dataloader, args.process_index, args.world_size)
        if self.trainer.average is not None and state.global_step > 0:
            self.trainer.average.load(Path(get_last_checkpoint(args.output_dir)))

    def on_step_begin(self, args, state, control, optimizer=None, **kwargs):
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

    def on_step_end(self, args, state, control, **kwargs):
        if self.trainer.average is not None:
            self.trainer.average.update(self.trainer.accelerator.unwrap_model(self.trainer.model_wrapped))

    def on_save(self, args, state, control, **kwargs):
        if self.trainer.average is not None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self.trainer.average.save(folder, writes=state.is_world_process_zero)
