"""Protocols: everything that makes a published evaluation, as data, in `recipes/evaluation/**/*.yaml`.

They are read strictly, see `internvideo_hf.recipes.reading`: an unknown key is refused with the nearest name.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from internvideo_hf.data import manifests
from internvideo_hf.inference.ranking import SEVERAL
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.recipes import load_prompts
from internvideo_hf.recipes.labels import LABEL_SETS
from internvideo_hf.recipes.reading import RecipeError, RecipeRegistry, build, check_known
from internvideo_hf.tasks.multiple_choice import data as choices
from internvideo_hf.utils.names import lookup
from internvideo_hf.video.sampling import SAMPLERS

TASKS = ("retrieval", "zero_shot", "multiple_choice")
FACTORS = ("model", "one")
REGISTRY = RecipeRegistry("evaluation", "internvideo evaluate --list")


@dataclass(frozen=True)
class DataSettings:
    """What is evaluated on.

    Args:
        list: the list of videos, captions or questions, below the data root.
        layout: a name in `internvideo_hf.data.manifests.LAYOUTS`, for multiple choice in
            `internvideo_hf.tasks.multiple_choice.data.LAYOUTS`; detected from the list where None, but for multiple
            choice.
        only: a list of the ids of the videos that count, below the data root.
        leave_out: ids of videos that do not count (multiple choice).
        labels: the classes, a name in `internvideo_hf.recipes.labels` (zero-shot classification).
        num_videos: videos of the published split; another number is remarked on.
    """

    list: str
    layout: str | None = None
    only: str | None = None
    leave_out: list = field(default_factory=list)
    labels: str | None = None
    num_videos: int | None = None


@dataclass(frozen=True)
class MergeSettings:
    """The average with CLIP that the published model is of; `internvideo merge` makes it.

    Args:
        weight: share of CLIP.
        variant: which tensors are averaged, a name in `internvideo_hf.checkpoints.merging.VARIANTS`.
    """

    weight: float
    variant: str


@dataclass(frozen=True)
class Published:
    """A number that was published for a protocol.

    Args:
        where: "paper" or "read-me".
        scores: by name, as ours are called: "R@1", ..., "MedR", "MeanR"; "top-1", "top-5", in percent.
        direction: of retrieval, "text_to_video" or "video_to_text".
        dual_softmax: of retrieval, whether it is with dual softmax.
        model: which model's, where it is another one than the protocol's.
        labels: of ensembles, on which data set, by the name of its classes.
    """

    where: str
    scores: dict
    direction: str | None = None
    dual_softmax: bool | None = None
    model: str | None = None
    labels: str | None = None


@dataclass(frozen=True)
class Protocol:
    """An evaluation as data.

    Args:
        title: one line.
        source: where the numbers come from.
        task: "retrieval", "zero_shot" (classification) or "multiple_choice".
        family: of the model, a name in `internvideo_hf.auto.FAMILIES`.
        model: name of the released model that the published numbers are of.
        data: see there.
        processor: options of the video processor: frames and pixels.
        text_length: tokens of a text, begin and end among them; what is longer is cut.
        merge: the average that the model is; None where it is not averaged.
        factor: what stands in front of the cosine, the "model"'s own or "one". It matters to dual softmax and to
            averaged probabilities.
        several: of retrieval, what a video finds, see `internvideo_hf.inference.ranking.retrieval_ranks`.
        caption_rule: how captions are cleaned, a name in `internvideo_hf.recipes.captions`.
        prompts: sentences around a class, a name in `internvideo_hf.recipes.load_prompts`.
        published: what was published, a list of `Published`.
        notes: where sources disagree, and what else to know.
    """

    title: str
    source: list
    task: str
    family: str
    model: str
    data: DataSettings
    processor: dict
    text_length: int
    merge: MergeSettings | None = None
    factor: str = "model"
    several: str = "video"
    caption_rule: str | None = None
    prompts: str | None = None
    published: list = field(default_factory=list)
    notes: list = field(default_factory=list)


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
    _check_choice(name, "task", protocol.task, TASKS)
    _check_choice(name, "factor", protocol.factor, FACTORS)
    _check_choice(name, "several", protocol.several, SEVERAL)
    if protocol.task == "multiple_choice" or protocol.data.layout is not None:
        tables = {"multiple_choice": choices.LAYOUTS}
        _check_choice(name, "data.layout", protocol.data.layout, tables.get(protocol.task, manifests.LAYOUTS))
    if protocol.task == "zero_shot":
        _check_choice(name, "data.labels", protocol.data.labels, LABEL_SETS)
        _check_choice(name, "prompts", protocol.prompts, load_prompts())
    for key in protocol.processor:
        check_known(key, InternVideoVideoProcessor.valid_kwargs.__annotations__, name, "processor.")
    if "sampler" in protocol.processor:
        lookup(SAMPLERS, protocol.processor["sampler"], "processor.sampler")
    if protocol.text_length < 3:
        raise RecipeError(f"{name}: text_length is {protocol.text_length}, expected at least 3.")
    return protocol


def _check_choice(name: str, key: str, value: Any, choices: Sequence[str] | Mapping[str, Any]) -> None:
    if value not in choices:
        raise RecipeError(f"{name}: {key} is {value!r}, expected one of {', '.join(choices)}.")
