"""The published tests of classifiers: their views and scores."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.checkpoints.released import released_rows
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.protocol import Protocol, Published
from internvideo_hf.utils.names import check_name


def with_published(protocol: Protocol) -> Protocol:
    """Add the published test of every released classifier of a protocol's data set, from `released.json`.

    Raises:
        RecipeError: if the protocol's `model` is none of them.
    """
    tests = [
        Published("model zoo", _scores(row["evaluation"]), model=row["name"], test=row["evaluation"])
        for row in _classifiers()
        if row["evaluation"]["data_set"] == protocol.released
    ]
    protocol = replace(protocol, published=[*protocol.published, *tests])
    if protocol.model is not None:
        _named_tests(protocol)
    return protocol


def released_data_sets() -> list[str]:
    """List the data sets of released classifiers, as `released.json` names them."""
    return sorted({row["evaluation"]["data_set"] for row in _classifiers()})


def _classifiers() -> list[dict[str, Any]]:
    return [row for row in released_rows() if "num_clips" in (row["evaluation"] or {})]


def _named_tests(protocol: Protocol) -> list[Published]:
    """Return the published tests of the protocol's `model`."""
    tests = [entry for entry in protocol.published if entry.test is not None]
    if not tests:
        raise RecipeError("model names a released classifier of the data set; this protocol has none. Leave it out.")
    check_name(protocol.model, [str(entry.model) for entry in tests], "model", RecipeError)
    return [entry for entry in tests if entry.model == protocol.model]


def _scores(test: Mapping[str, Any]) -> dict[str, float]:
    found = {"top-1": test["top1"], "top-5": test.get("top5")}
    return {name: value for name, value in found.items() if value is not None}


def find_tests(protocol: Protocol, config: PreTrainedConfig) -> list[Published]:
    """Return the published tests of a classifier: of the protocol's `model`, or of those with its configuration.

    Args:
        protocol: with its published tests.
        config: of the classifier.

    Returns:
        Tests with equal views, none if no released classifier of the data set has this configuration.

    Raises:
        RecipeError: if the protocol names an unknown model, or models of this configuration have different views.
    """
    if protocol.model is not None:
        return _named_tests(protocol)
    tests = [entry for entry in protocol.published if entry.test is not None]
    rows = {row["name"]: row for row in released_rows()}
    similar = [entry for entry in tests if _is_like(rows[entry.model], config)]
    if any(view_settings([entry]) != view_settings(similar) for entry in similar):
        names = " or ".join(f"model='{entry.model}'" for entry in similar)
        raise RecipeError(f"Released models of this configuration have tests with different views. Set {names}.")
    return similar


def _is_like(row: Mapping[str, Any], config: PreTrainedConfig) -> bool:
    """Tell whether a released model of InternVideo has this configuration, as far as its row states it."""
    if "zoo" in row["evaluation"]:  # of other authors, whose models of this configuration were tested in their own way
        return False
    facts = {name: row["evaluation"][name] for name in ("hidden_size", "num_frames", "image_size")} | row["config"]
    return row["family"] == config.model_type and all(
        getattr(config, name, None) == value for name, value in facts.items()
    )


def view_settings(tests: Sequence[Published]) -> dict[str, Any]:
    """Return clips, crops and processor settings of tests with equal views; None and empty if unstated."""
    test = (tests[0].test or {}) if tests else {}
    return {
        "num_clips": test.get("num_clips"),
        "num_crops": test.get("num_crops"),
        "processor": test.get("processor", {}),
    }
