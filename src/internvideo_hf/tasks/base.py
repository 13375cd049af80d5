"""The interface of a task. Each folder of `tasks` has one `TASK`, in its `task.py`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch.utils.data import Dataset

from internvideo_hf.data.failures import FailureLog
from internvideo_hf.tasks.protocol import Details, Evaluation


class Preparation(NamedTuple):
    """What a task needs beside rows, model and settings to prepare a training on other inputs than clips.

    Args:
        data_root: folder that the settings' files are relative to.
        seed: of the run.
        skip_missing: leave out rows whose file is missing, instead of refusing them.
        processor: of the model; None for models of features.
        failures: log of unreadable videos, which are left out; None where one ends the run.
    """

    data_root: Path
    seed: int
    skip_missing: bool
    processor: Any
    failures: FailureLog | None


class Prepared(NamedTuple):
    """A training on other inputs than clips.

    Args:
        train: samples for training.
        validation: samples for validation; None for none.
        training: the task's training, whose functions may know these samples.
        model: what is trained: the given model, or one around it.
        save: (model, folder) writes the trained model; None where its own `save_pretrained` does.
    """

    train: Dataset[Any]
    validation: Dataset[Any] | None
    training: "Training"
    model: Any
    save: Callable[[Any, Path], None] | None = None


@dataclass(frozen=True)
class Training:
    """The training of a task.

    Args:
        auto_class: name of the Auto class of the trained models.
        make_collator: makes the collator of batches; see the task's function for its arguments.
        label_names: entries of a batch that the metrics receive.
        needs_text: the family must have a processor of text.
        compares_batch: the loss compares the samples of a batch with each other.
        takes_grad_cache: the models can process such a batch in chunks, see `VideoTrainingArguments.grad_cache`.
        column: a column that every row of a list must have; None for no requirement.
        allow_duplicates: a list may name a video several times, once for each caption.
        read: reads a list of another kind than `load_manifest` does: (path, data root, *, layout, labels, classes,
            skip_missing) -> its rows, a `datasets.Dataset`, and the model's classes, of several heads by their names,
            or how many there are. By their names come, too, the settings of `section`, if that is not "clip", and
            `heads`, where there are some. `labels` is a setting of the recipe; `classes` are those of the training
            list, None while that list is read.
        compute_metrics: the Trainer's function; None reports the loss only.
        preprocess_logits: the Trainer's function; None passes all outputs.
        section: key of `data` in a recipe that says what the task reads: "clip", or another where `prepare` is given.
        prepare: of a task on other inputs than clips: (rows for training, rows for validation or None, model, settings
            of `section`, `Preparation`) -> `Prepared`. It may complete the model's configuration.
        problem_type: of the models, unless the recipe or `label_heads` say otherwise; None for transformers' own rule.
        of_config: (configuration of the model) -> the training to take its place; None for this one.
        load: of a task whose models are those of transformers: (`model` of the recipe, classes of the training list,
            folder or Hub's name of the start) -> the model and its processor. The recipe's `model.family` is
            "transformers".
        details: (prediction of the Trainer, rows of the validation list, configuration) -> what the model answered.
    """

    auto_class: str
    make_collator: Callable[..., Any]
    label_names: tuple[str, ...]
    needs_text: bool = False
    compares_batch: bool = False
    takes_grad_cache: bool = False
    column: str | None = None
    allow_duplicates: bool = False
    read: Callable[..., tuple[Any, list[str] | dict[str, list[str]] | int | None]] | None = None
    compute_metrics: Callable[..., dict[str, float]] | None = None
    preprocess_logits: Callable[..., Any] | None = None
    section: str = "clip"
    prepare: Callable[..., Prepared] | None = None
    problem_type: str | None = None
    of_config: Callable[..., "Training"] | None = None
    load: Callable[..., tuple[Any, Any]] | None = None
    details: Callable[..., Details] | None = None


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
