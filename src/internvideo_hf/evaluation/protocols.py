"""Protocols: everything that makes a published evaluation, as data, in `recipes/evaluation/**/*.yaml`.

They are read strictly, see `internvideo_hf.recipes.reading`: an unknown key is refused with the nearest name.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from internvideo_hf.data import manifests
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.recipes.labels import LABEL_SETS
from internvideo_hf.recipes.reading import RecipeError, RecipeRegistry, build, check_known
from internvideo_hf.tasks import evaluation_tasks
from internvideo_hf.tasks.protocol import Protocol, Published, check_choice
from internvideo_hf.utils.names import lookup
from internvideo_hf.video.sampling import SAMPLERS

REGISTRY = RecipeRegistry("evaluation", "internvideo evaluate --list")


@dataclass(frozen=True)
class MemberSettings:
    """A classifier of an ensemble.

    Args:
        model: name of the released model that it was.
        family: a name in `internvideo_hf.auto.FAMILIES`.
        num_clips, num_crops: views of each video, 1 or more; as its processor is configured where None.
    """

    model: str
    family: str
    num_clips: int | None = None
    num_crops: int | None = None


@dataclass(frozen=True)
class EnsembleDataSettings:
    """What an ensemble is evaluated on.

    Args:
        list: the list of videos and labels, below the data root.
        validation: another such list, which weights are fitted on; never the one above.
        layout: a name in `internvideo_hf.data.manifests.LAYOUTS`; found out from the list where None.
        labels: the classes, a name in `internvideo_hf.recipes.labels`; the members' own where None.
    """

    list: str
    validation: str | None = None
    layout: str | None = None
    labels: str | None = None


@dataclass(frozen=True)
class EnsembleProtocol:
    """The evaluation of several classifiers of the same classes, whose probabilities are summed, as data.

    Args:
        title: one line.
        source: where the numbers come from.
        data: see there.
        members: what the members were, in order, a list of `MemberSettings`; any, as many as there are, where empty.
        weights: "equal"; "fitted", by `internvideo_hf.evaluation.ensembles.fit_weights` on `data.validation`; or a
            list of numbers, one for each member.
        published: what was published, a list of `Published`.
        notes: what else to know.
    """

    title: str
    source: list
    data: EnsembleDataSettings
    members: list = field(default_factory=list)
    weights: str | list = "equal"
    published: list = field(default_factory=list)
    notes: list = field(default_factory=list)


ENSEMBLES = "ensemble/"
"""How names of ensembles begin; it may be left out."""


def protocol_names() -> list[str]:
    """Names of all protocols of the package for one model, such as "retrieval/msrvtt"."""
    return [name for name in REGISTRY.names() if not name.startswith(ENSEMBLES)]


def ensemble_names() -> list[str]:
    """Names of all ensembles of the package, such as "ensemble/internvideo_d"."""
    return [name for name in REGISTRY.names() if name.startswith(ENSEMBLES)]


def load_ensemble(name: str | Path, overrides: Sequence[str] = ()) -> EnsembleProtocol:
    """Read an ensemble's protocol, and change values of it.

    Args:
        name: one of `ensemble_names()`, with or without what stands before the slash, or the path of a file that ends
            in .yaml.
        overrides: such as "data.list=mine.csv" or "weights=fitted"; the value is read as YAML.

    Raises:
        RecipeError: if there is no such protocol, or a key or value of it or of an override is wrong.
    """
    name = str(name)
    if "/" not in name and not name.endswith(".yaml"):
        name = ENSEMBLES + name
    if name in REGISTRY.names() and not name.startswith(ENSEMBLES):
        raise RecipeError(f"{name} is a protocol for one model; leave out --ensemble, and give --model.")
    content = dict(REGISTRY.read(name, overrides))
    for key, kind in (("members", MemberSettings), ("published", Published)):
        if isinstance(content.get(key), list):
            content[key] = [build(kind, entry, name, f"{key}.{number}.") for number, entry in enumerate(content[key])]
    protocol = build(EnsembleProtocol, content, name)
    if isinstance(protocol.weights, str):
        _check_choice(name, "weights", protocol.weights, ("equal", "fitted"))
    elif not all(type(weight) in (int, float) and 0 <= weight < math.inf for weight in protocol.weights) or not any(
        protocol.weights
    ):
        raise RecipeError(f"{name}: weights is {protocol.weights}, expected numbers of 0 or more, one above.")
    if protocol.weights == "fitted" and protocol.data.validation is None:
        raise RecipeError(f"{name}: fitted weights need data.validation, a list of other videos than those scored.")
    if protocol.data.validation == protocol.data.list:
        raise RecipeError(f"{name}: data.validation is data.list itself; weights must be fitted on other videos.")
    if protocol.data.labels is not None:
        _check_choice(name, "data.labels", protocol.data.labels, LABEL_SETS)
    if protocol.data.layout is not None:
        _check_choice(name, "data.layout", protocol.data.layout, manifests.LAYOUTS)
    for member in protocol.members:
        if any(views is not None and views < 1 for views in (member.num_clips, member.num_crops)):
            raise RecipeError(
                f"{name}: {member.model} has {member.num_clips} x {member.num_crops} views, expected 1 or more."
            )
    return protocol


def load_protocol(name: str | Path, overrides: Sequence[str] = ()) -> Protocol:
    """Read a protocol, and change values of it.

    Args:
        name: one of `protocol_names()`, or the path of a file that ends in .yaml.
        overrides: such as "processor.num_frames=16" or "data.list=mine.csv"; the value is read as YAML.

    Raises:
        RecipeError: if there is no such protocol, or a key or value of it or of an override is wrong.
    """
    if {str(name), f"{ENSEMBLES}{name}"} & set(ensemble_names()):
        raise RecipeError(f"{name} is for several models: name each by --ensemble, in place of --model.")
    return parse_protocol(REGISTRY.read(name, overrides), str(name))


def parse_protocol(content: Mapping[str, Any], name: str = "protocol") -> Protocol:
    """Check the content of a protocol and make it one.

    Raises:
        RecipeError: if a key is unknown or missing, or a value of the wrong kind.
    """
    content = dict(content)
    if isinstance(content.get("published"), list):
        content["published"] = [
            build(Published, entry, name, f"published.{number}.") for number, entry in enumerate(content["published"])
        ]
    protocol = build(Protocol, content, name)
    task = lookup(evaluation_tasks(), protocol.task, f"{name}: task", RecipeError)
    for key in protocol.processor:
        check_known(key, InternVideoVideoProcessor.valid_kwargs.__annotations__, name, "processor.")
    try:
        if "sampler" in protocol.processor:
            lookup(SAMPLERS, protocol.processor["sampler"], "processor.sampler")
        task.check(protocol)
    except ValueError as error:
        raise RecipeError(f"{name}: {error}") from error
    return task.complete(protocol)


def _check_choice(name: str, key: str, value: Any, choices: Sequence[str] | Mapping[str, Any]) -> None:
    try:
        check_choice(key, value, choices)
    except RecipeError as error:
        raise RecipeError(f"{name}: {error}") from error
