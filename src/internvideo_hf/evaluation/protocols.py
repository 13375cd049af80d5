"""Protocols: everything that makes a published evaluation, as data, in `recipes/evaluation/**/*.yaml`.

They are read strictly, see `internvideo_hf.recipes.reading`: an unknown key is refused with the nearest name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from internvideo_hf.data import choices, manifests
from internvideo_hf.evaluation.metrics import SEVERAL
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.recipes import load_prompts
from internvideo_hf.recipes.labels import LABEL_SETS
from internvideo_hf.recipes.reading import RecipeError, Shelf, build, check_known
from internvideo_hf.video.choice import choose
from internvideo_hf.video.sampling import SAMPLERS

TASKS = ("retrieval", "zero_shot", "multiple_choice")
FACTORS = ("model", "one")
SHELF = Shelf("evaluation", "internvideo evaluate --list")


@dataclass(frozen=True)
class DataSettings:
    """What is evaluated on.

    Args:
        list: the list of videos, captions or questions, below the data root.
        layout: a name in `internvideo_hf.data.manifests.LAYOUTS`, for multiple choice in
            `internvideo_hf.data.choices.LAYOUTS`; found out from the list where None, but for multiple choice.
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
        variant: which tensors are averaged, a name in `internvideo_hf.conversion.merging.VARIANTS`.
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
    """

    where: str
    scores: dict
    direction: str | None = None
    dual_softmax: bool | None = None
    model: str | None = None


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
        several: of retrieval, what a video finds, see `internvideo_hf.evaluation.metrics.retrieval_ranks`.
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


def protocol_names() -> list[str]:
    """Names of all protocols of the package, such as "retrieval/msrvtt"."""
    return SHELF.names()


def load_protocol(name: str | Path, overrides: Sequence[str] = ()) -> Protocol:
    """Read a protocol, and change values of it.

    Args:
        name: one of `protocol_names()`, or the path of a file that ends in .yaml.
        overrides: such as "processor.num_frames=16" or "data.list=mine.csv"; the value is read as YAML.

    Raises:
        RecipeError: if there is no such protocol, or a key or value of it or of an override is wrong.
    """
    return parse_protocol(SHELF.read(name, overrides), str(name))


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
        choose(SAMPLERS, protocol.processor["sampler"], "processor.sampler")
    if protocol.text_length < 3:
        raise RecipeError(f"{name}: text_length is {protocol.text_length}, expected at least 3.")
    return protocol


def _check_choice(name: str, key: str, value: Any, choices: Sequence[str] | Mapping[str, Any]) -> None:
    if value not in choices:
        raise RecipeError(f"{name}: {key} is {value!r}, expected one of {', '.join(choices)}.")
