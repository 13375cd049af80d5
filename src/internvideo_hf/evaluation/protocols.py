"""Reader of protocols: published evaluations as data, in `recipes/evaluation/**/*.yaml`.

`internvideo_hf.recipes.reading` reads them strictly: it refuses an unknown key, and names the nearest one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from internvideo_hf.auto import FAMILIES
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.recipes.reading import EVALUATIONS as REGISTRY
from internvideo_hf.recipes.reading import RecipeError, build, check_known
from internvideo_hf.tasks import evaluation_tasks
from internvideo_hf.tasks.protocol import VIEWS, Evaluation, Protocol, Published, check_list
from internvideo_hf.utils.devices import NUMBER_TYPES
from internvideo_hf.utils.names import check_name, lookup


@dataclass(frozen=True)
class MemberSettings:
    """A classifier of an ensemble.

    Args:
        model: name of the released model.
        family: a name in `internvideo_hf.auto.FAMILIES`.
        num_clips: clips of each video, 1 or more; as the processor is configured if None.
        num_crops: crops of each clip, 1 or more; as the processor is configured if None.
    """

    model: str
    family: str
    num_clips: int | None = None
    num_crops: int | None = None


@dataclass(frozen=True)
class EnsembleDataSettings:
    """The data of an ensemble's evaluation.

    Args:
        list: the list of videos and labels, below the data root.
        validation: another such list, to fit weights on; its videos differ from those of `list`.
        layout: a name in `internvideo_hf.data.layouts.LAYOUTS`; detected from the list if None.
        labels: the classes, a name in `internvideo_hf.recipes.labels`; the members' own if None.
    """

    list: str
    validation: str | None = None
    layout: str | None = None
    labels: str | None = None


@dataclass(frozen=True)
class EnsembleProtocol:
    """An evaluation of several classifiers of equal classes, whose probabilities are summed, as data.

    Args:
        title: one line.
        source: origins of the numbers.
        data: the lists, their layout and classes.
        members: the published members, in order; any number of any classifiers if empty.
        weights: "equal"; "fitted", by `internvideo_hf.evaluation.ensembles.fit_weights` on `data.validation`; or
            numbers, one per member.
        dtype: number type of the members' weights and pixels, such as "float16"; as they are saved if None.
        published: published results.
        notes: remarks.
    """

    title: str
    source: list[str]
    data: EnsembleDataSettings
    members: list[MemberSettings] = field(default_factory=list)
    weights: str | list[float] = "equal"
    dtype: str | None = None
    published: list[Published] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


ENSEMBLES = "ensemble/"
"""Prefix of the names of ensembles; callers may omit it."""


def protocol_names() -> list[str]:
    """List the package's protocols for one model, such as "retrieval/msrvtt"."""
    return [name for name in REGISTRY.names() if not name.startswith(ENSEMBLES)]


def ensemble_names() -> list[str]:
    """List the package's ensembles, such as "ensemble/internvideo_d"."""
    return [name for name in REGISTRY.names() if name.startswith(ENSEMBLES)]


def load_ensemble(name: str | Path, overrides: Sequence[str] = ()) -> EnsembleProtocol:
    """Read an ensemble's protocol, and override values.

    Args:
        name: one of `ensemble_names()`, with or without its prefix, or the path of a file that ends in .yaml.
        overrides: such as "data.list=mine.csv" or "weights=fitted"; the value is read as YAML.

    Raises:
        RecipeError: if the protocol is unknown, or a key or value of it or of an override is invalid.
    """
    name = str(name)
    if "/" not in name and not name.endswith(".yaml"):
        name = ENSEMBLES + name
    if name in REGISTRY.names() and not name.startswith(ENSEMBLES):
        raise RecipeError(f"{name} is a protocol for one model; leave out --ensemble, and give --model.")
    protocol: EnsembleProtocol = build(EnsembleProtocol, REGISTRY.read(name, overrides), name)
    try:
        _check_ensemble(protocol)
    except RecipeError as error:
        raise RecipeError(f"{name}: {error}") from error
    return protocol


def _check_dtype(dtype: str | None) -> None:
    if dtype is not None:
        check_name(dtype, NUMBER_TYPES, "dtype", RecipeError)


def _check_ensemble(protocol: EnsembleProtocol) -> None:
    weights, data = protocol.weights, protocol.data
    _check_dtype(protocol.dtype)
    if isinstance(weights, str):
        check_name(weights, ("equal", "fitted"), "weights", RecipeError)
    elif not all(type(weight) in (int, float) and 0 <= weight < math.inf for weight in weights) or not any(weights):
        raise RecipeError(f"weights is {weights}, expected numbers of 0 or more, one above.")
    if weights == "fitted" and data.validation is None:
        raise RecipeError("data.validation is missing: set it to a list of videos to fit weights on.")
    if data.validation == data.list:
        raise RecipeError("data.validation equals data.list; fit weights on other videos.")
    check_list(data.layout, data.labels)
    for member in protocol.members:
        if any(views is not None and views < 1 for views in (member.num_clips, member.num_crops)):
            raise RecipeError(f"{member.model} has {member.num_clips} x {member.num_crops} views, expected 1 or more.")


def load_protocol(name: str | Path, overrides: Sequence[str] = ()) -> Protocol:
    """Read a protocol, and override values.

    Args:
        name: one of `protocol_names()`, or the path of a file that ends in .yaml.
        overrides: such as "processor.num_frames=16" or "data.list=mine.csv"; the value is read as YAML.

    Raises:
        RecipeError: if the protocol is unknown, or a key or value of it or of an override is invalid.
    """
    if {str(name), f"{ENSEMBLES}{name}"} & set(ensemble_names()):
        raise RecipeError(f"{name} is for several models: name each by --ensemble, instead of --model.")
    return parse_protocol(REGISTRY.read(name, overrides), str(name))


def parse_protocol(content: Mapping[str, Any], name: str = "protocol") -> Protocol:
    """Build a protocol from its content, and check it.

    Args:
        content: settings by name.
        name: of the protocol, for messages.

    Raises:
        RecipeError: if a key is unknown or missing, or a value is invalid.
    """
    protocol: Protocol = build(Protocol, content, name)
    task = lookup(evaluation_tasks(), protocol.task, f"{name}: task", RecipeError)
    for key in protocol.processor:
        check_known(key, InternVideoVideoProcessor.valid_kwargs.__annotations__, name, "processor.")
    try:
        if protocol.family is not None:
            check_name(protocol.family, FAMILIES, "family")
        _check_processor(protocol)
        _check_dtype(protocol.dtype)
        _check_settings(protocol, task)
        task.check(protocol)
        return task.complete(protocol)
    except ValueError as error:
        raise RecipeError(f"{name}: {error}") from error


def _check_processor(protocol: Protocol) -> None:
    """Refuse invalid options of the processor, before a model is loaded."""
    try:
        InternVideoVideoProcessor().configure(protocol.processor)
    except ValueError as error:
        raise RecipeError(f"processor.{error}") from error
    for name in VIEWS:
        number, same = getattr(protocol, name), protocol.processor.get(name)
        if number is not None and same is not None and number != same:
            raise RecipeError(f"{name} is {number} and processor.{name} is {same}: they mean the same. Set one.")
        if number is not None and number < 1:
            raise RecipeError(f"{name} is {number}, expected 1 or more.")


def _check_settings(protocol: Protocol, task: Evaluation) -> None:
    """Refuse settings that the task ignores."""
    for setting in sorted({setting for other in evaluation_tasks().values() for setting in other.settings}):
        section, _, key = setting.rpartition(".")
        holder = getattr(protocol, section) if section else protocol
        (entry,) = (entry for entry in fields(holder) if entry.name == key)
        default = entry.default if entry.default_factory is MISSING else entry.default_factory()
        if setting not in task.settings and getattr(holder, key) != default:
            raise RecipeError(f"{setting} changes nothing in {protocol.task}. Leave it out.")
