"""The rules of one family: from its released files to models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.checkpoints.matching import ReleasedTest
from internvideo_hf.checkpoints.table import Table

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Converter:
    """A family's rules, from a released file to a model. Each function is called with the file's tensors.

    Args:
        recognizes: returns whether a file is of this family; at most one family does.
        normalize: renames the tensors of every layout of the family to one layout.
        table_for: returns the table from released names to ours.
        model_class: returns the Auto class of the file's model.
        config_from: returns the configuration, from (tensors, overrides); overrides win over shapes.
        head_layer: returns the name of the linear layer that scores classes, None for a file without one; None for
            families without classifiers.
        test: returns the test of a file whose tensors alone identify it, None for other files; None for families
            without such files.
        answer_layer: returns the name of the linear layer that scores answers to questions, None for a file without
            one; None for families without such models.
        as_task: name of a task -> function that returns the tensors, as `normalize` does, of a file that is said to be
            of this task, where its names could also be another's; it raises `CheckpointError` if the file cannot be.
        fit: re-samples converted tables for the lengths of the configuration, from (converted, config).
        towers: returns the tensors of the dual encoder alone, and name -> reason of the others; None for families
            without parts beside it.
        exports: name of another package's classes -> function that writes the model for them, from (config, tensors).
    """

    recognizes: Callable[[Tensors], bool]
    normalize: Callable[[Tensors], dict[str, torch.Tensor]]
    table_for: Callable[[Tensors], Table]
    model_class: Callable[[Tensors], type]
    config_from: Callable[[Tensors, Mapping[str, Any]], PreTrainedConfig]
    head_layer: Callable[[Tensors], str | None] | None = None
    test: Callable[[Tensors], ReleasedTest | None] | None = None
    answer_layer: Callable[[Tensors], str | None] | None = None
    as_task: Mapping[str, Callable[[Tensors], dict[str, torch.Tensor]]] = field(default_factory=dict)
    fit: Callable[[Tensors, Any], dict[str, torch.Tensor]] | None = None
    towers: Callable[[Tensors], tuple[dict[str, torch.Tensor], dict[str, str]]] | None = None
    exports: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
