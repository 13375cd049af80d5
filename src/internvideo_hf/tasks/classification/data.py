"""The published tests of classifiers: which views of a video, and what they scored."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.checkpoints.released import released
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.protocol import Protocol, Published


def with_published(protocol: Protocol) -> Protocol:
    """Add the published test of every released classifier of a protocol's data set, from `released.json`."""
    rows = [row for row in released() if row["evaluation"] and row["evaluation"]["data_set"] == protocol.released]
    tests = [
        Published("model zoo", _scores(row["evaluation"]), model=row["name"], test=row["evaluation"]) for row in rows
    ]
    return replace(protocol, published=[*protocol.published, *tests])


def _scores(test: Mapping[str, Any]) -> dict[str, float]:
    found = {"top-1": test["top1"], "top-5": test.get("top5")}
    return {name: value for name, value in found.items() if value is not None}


def find_tests(protocol: Protocol, config: PreTrainedConfig) -> list[Published]:
    """Return the published tests of a classifier: of the protocol's `model`, or of those with its configuration.

    Args:
        protocol: with its published tests.
        config: of the classifier.

    Returns:
        Tests by the same views, none if no released classifier of the data set is like this one.

    Raises:
        RecipeError: if the protocol names an unknown model, or models like this one were tested by different views.
    """
    tests = [entry for entry in protocol.published if entry.test is not None]
    if protocol.model is not None:
        if named := [entry for entry in tests if entry.model == protocol.model]:
            return named
        known = ", ".join(str(entry.model) for entry in tests) or "none"
        raise RecipeError(f"model is {protocol.model!r}, expected a released classifier of this data set: {known}.")
    rows = {row["name"]: row for row in released()}
    suited = [entry for entry in tests if _suits(rows[entry.model], config)]
    if any(view_settings([entry]) != view_settings(suited) for entry in suited):
        names = " or ".join(f"model='{entry.model}'" for entry in suited)
        raise RecipeError(f"Released models like this one were tested by different views. Say which it is: {names}.")
    return suited


def _suits(row: Mapping[str, Any], config: PreTrainedConfig) -> bool:
    """Whether a released model has this architecture; `config` of a row is what the shapes of weights do not tell."""
    facts = {name: row["evaluation"][name] for name in ("hidden_size", "num_frames", "image_size")} | row["config"]
    return row["family"] == config.model_type and all(
        getattr(config, name, None) == value for name, value in facts.items()
    )


def view_settings(tests: Sequence[Published]) -> dict[str, Any]:
    """Return clips, crops and processor settings of tests by the same views; None and empty where unstated."""
    test = tests[0].test if tests and tests[0].test is not None else {}
    return {
        "num_clips": test.get("num_clips"),
        "num_crops": test.get("num_crops"),
        "processor": test.get("processor", {}),
    }
