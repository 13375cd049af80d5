"""What a task tells the rest of the package. Each folder of `tasks` has one `TASK`, in its `task.py`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from internvideo_hf.tasks.protocol import Evaluation


@dataclass(frozen=True)
class Training:
    """What training by a recipe asks of a task.

    Args:
        auto_class: name of the Auto class of the models that are trained.
        needs_text: whether the family must have a processor of text.
        compares_batch: whether the loss compares the samples of a batch with each other.
        column: the column that every row of a list must have; None if any list will do.
        allow_duplicates: whether a list may name a video several times, once for each caption.
        label_names: entries of a batch that the metrics are given.
        make_collator: makes the collator of batches; see the task's function for its arguments.
        compute_metrics, preprocess_logits: the Trainer's functions; None where only the loss is reported.
    """

    auto_class: str
    make_collator: Callable[..., Any]
    label_names: tuple[str, ...]
    needs_text: bool = False
    compares_batch: bool = False
    column: str | None = None
    allow_duplicates: bool = False
    compute_metrics: Callable[..., dict[str, float]] | None = None
    preprocess_logits: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Task:
    """One task.

    Args:
        name: of its folder.
        training: None if no recipe trains for it.
        evaluation: None if no protocol evaluates it.
    """

    name: str
    training: Training | None = None
    evaluation: Evaluation | None = None
