"""What a family tells the converter about its released files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.checkpoints.table import Table

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Converter:
    """A family's rules, from a released file to a model. Each function is given the file's tensors.

    Args:
        recognizes: returns whether a file is of this family; at most one family says so.
        normalize: brings the names of all the family's layouts into one.
        table_for: returns the table from released names to ours.
        model_class: returns the Auto class of the model that the file fills.
        config_from: returns the configuration, of (tensors, overrides); overrides win over what shapes say.
        choose_head: returns tensors and class names for a data set's head, of (tensors, data set); None for families
            without a classification head.
        known_head: returns the data set whose classes the head has, if the file says so, of (tensors, rows of
            `released.json`); None as above.
        fit: re-samples converted tables for the lengths of the configuration, of (converted, config); None: no need.
        exports: name of another package's classes -> function that writes the model for them, of (config, tensors).
    """

    recognizes: Callable[[Tensors], bool]
    normalize: Callable[[Tensors], dict[str, torch.Tensor]]
    table_for: Callable[[Tensors], Table]
    model_class: Callable[[Tensors], type]
    config_from: Callable[[Tensors, Mapping[str, Any]], PreTrainedConfig]
    choose_head: Callable[[Tensors, str], tuple[dict[str, torch.Tensor], list[str]]] | None = None
    known_head: Callable[[Tensors, list[dict[str, Any]]], str | None] | None = None
    fit: Callable[[Tensors, PreTrainedConfig], dict[str, torch.Tensor]] | None = None
    exports: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
