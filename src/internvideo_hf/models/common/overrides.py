"""Checks of configuration values that a user sets by name."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.utils.names import did_you_mean, nearest
from internvideo_hf.utils.pretrained import check_sizes

# Values that whoever makes a model writes itself.
_NOT_FOR_OVERRIDES = {"dtype", "architectures", "transformers_version"}


def check_features(features: Mapping[str, Any] | None) -> None:
    """Refuse numbers without meaning in what a head says of its features.

    Args:
        features: `features` of its configuration.

    Raises:
        ValueError: naming the number.
    """
    for name in ("window", "stride", "fps", "fixed_length", "window_rows"):
        value = (features or {}).get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
            raise ValueError(f"features.{name}={value!r} must be a number above 0, or null.")


def check_overrides(overrides: Mapping[str, Any], config_class: type[PreTrainedConfig], where: str = "") -> None:
    """Refuse values for fields that a configuration does not have.

    Args:
        overrides: values by field name, nested for sub-configurations.
        config_class: the configuration.
        where: prefix of the names in messages, such as "model.config.".

    Raises:
        ValueError: naming the nearest field, or a number that is out of range.
    """
    check_sizes(overrides, where)
    known = {entry.name for entry in fields(config_class)} - _NOT_FOR_OVERRIDES | {"num_labels"}
    for key, value in overrides.items():
        if key not in known:
            hint = did_you_mean(nearest(key, known), where)
            raise ValueError(f"Unknown setting {where}{key} for {config_class.__name__}.{hint}")
        if key in config_class.sub_configs_defaults:
            if not isinstance(value, Mapping):
                raise ValueError(f"{where}{key}: got {value!r}, expected settings by name.")
            check_overrides(value, config_class.sub_configs_defaults[key].config_class, f"{where}{key}.")


@contextmanager
def configuration_errors() -> Iterator[None]:
    """Turn whatever a configuration or a model raises about its settings into a `ValueError` in plain words."""
    try:
        yield
    except StrictDataclassError as error:
        # The error itself speaks of validators; what the user can mend stands in its cause.
        raise ValueError(f"Invalid model configuration: {error.__cause__ or error}") from error
    except (ArithmeticError, RuntimeError, KeyError) as error:
        raise ValueError(f"Invalid model configuration: {type(error).__name__}: {error}.") from error
