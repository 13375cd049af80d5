"""Protocols: published evaluations of one model, as data."""

import builtins
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.data.layouts import LAYOUTS
from internvideo_hf.data.manifests import read_manifest
from internvideo_hf.data.records import list_path
from internvideo_hf.data.samples import Row
from internvideo_hf.inference.runner import RunSettings
from internvideo_hf.models.common.loading import revision
from internvideo_hf.recipes.labels import check_classes_name
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.utils.files import check_output
from internvideo_hf.utils.fingerprints import json_sha256
from internvideo_hf.utils.names import check_name
from internvideo_hf.utils.pretrained import load_pretrained
from internvideo_hf.utils.storage import AnyPath, StoragePath, below

VIEWS = ("num_clips", "num_crops")
ANSWERS = "answers.csv"  # the file by which a folder is known as a report


@dataclass(frozen=True)
class FeatureFiles:
    """Features of untrimmed videos on disk, and how they lie in time.

    Without `stride` and `fixed_length`, the files that `internvideo extract` writes beside features say how they lie
    in time; where they are missing, the model that is evaluated does.

    Args:
        folder: of the features, below the data root; at any depth, named by the ids of the videos. A list of folders
            puts the channels of several features of the same windows side by side, such as [verb, noun].
        prefix: of their names, before the id of the video.
        encoder: name of the model that the features came from, to be saved with the head that is trained on them.
        stride: frames from one row to the next; with `fixed_length`, before they are resized.
        num_frames: frames of a row's window; with `fixed_length`, also the rows that a window covers, as released.
        fps: frames a second of all videos; None for those of the annotations.
        fixed_length: rows to which all features are resized, spread over the duration of their video.
    """

    folder: str | builtins.list[str] = "features"
    prefix: str = ""
    encoder: str | None = None
    stride: float | None = None
    num_frames: float = 16
    fps: float | None = None
    fixed_length: int | None = None


@dataclass(frozen=True)
class FeatureData(FeatureFiles):
    """Features of untrimmed videos on disk, and what is asked of them (temporal localization).

    Args:
        folder, prefix, encoder, stride, num_frames, fps, fixed_length: see `FeatureFiles`.
        reference: folder of other features, to whose number of rows each video's are resized; None keeps their own.
        class_agnostic: take all segments for one class.
        subset: videos of the annotations to evaluate on, such as "validation".
        train_subset: videos of the annotations to train on.
        tidy: for training, drop segments that repeat or begin behind the features, and cut the others to them.
        crop_ratio: least and largest fraction of features that a training window takes; null takes all.
        min_kept: fraction of a segment that must lie in a training window, 0-1; other segments are dropped.
        thresholds: overlaps in time (tIoU), 0-1, over which mAP is averaged.
        proposals: file or folder of the segments of another model, below the data root, for a head that refines them;
            see `internvideo_hf.tasks.temporal_localization.proposals`.
        num_proposals: the best proposals of a video to train on.
        end_to_end: train the encoder too: `folder` holds the videos, and `encoder`, `stride`, `num_frames` and `fps`
            must be given.
        at_once: with `end_to_end`, windows of a video that the encoder computes together.
        challenge: rules of a challenge, "ego4d_moment_queries": segments that are annotated twice count twice, scores
            have Recall@1x at an overlap of 0.5 ("R@1x"), clips may have no true segments, and reports have
            submission.json. None for none.
    """

    reference: str | None = None
    class_agnostic: bool = False
    subset: str = "validation"
    train_subset: str = "training"
    tidy: bool = True
    crop_ratio: builtins.list[float] | None = field(default_factory=lambda: [0.9, 1.0])
    min_kept: float = 0.5
    thresholds: builtins.list[float] = field(default_factory=lambda: [0.5 + 0.05 * step for step in range(10)])
    proposals: str | None = None
    num_proposals: int = 64
    end_to_end: bool = False
    at_once: int = 8
    challenge: str | None = None


@dataclass(frozen=True)
class QueryData(FeatureFiles):
    """Sentences about untrimmed videos, and the features of both (temporal grounding).

    Args:
        folder, prefix, encoder, stride, num_frames, fps, fixed_length: see `FeatureFiles`.
        text_encoder: folder or name of the model whose text tower makes features of words. None: the one that the
            evaluated head was trained with; in training, the encoder of the features, if it reads text.
        thresholds: overlaps in time (IoU) to exceed, 0-1.
        ranks: numbers of answers to a query, of which one must overlap.
        iou_threshold: overlap in rows, above 0 up to 1, from which on an answer is left out that overlaps a better
            one; 1 leaves none out, as Ego4D's baseline.
        predictions: a file of answers below the data root to evaluate in place of a model, as of Ego4D's challenge.
    """

    text_encoder: str | None = None
    thresholds: builtins.list[float] = field(default_factory=lambda: [0.3, 0.5])
    ranks: builtins.list[int] = field(default_factory=lambda: [1, 5])
    iou_threshold: float = 1.0
    predictions: str | None = None


@dataclass(frozen=True)
class BoxData:
    """Videos with boxes in key frames, and what becomes of their pixels (action detection).

    Args:
        folder: of the videos, below the data root, see `internvideo_hf.tasks.action_detection.videos.VideoFolder`.
        begin: time of the annotations at which whole files begin, in seconds; 900 for movies of AVA that were cut.
        detections: people's boxes that a detector found, a file below the data root, to evaluate on; None takes the
            true boxes, as validation in a training does.
        min_score: least score of a detected box, 0-1; key frames left without one count as missed.
        predictions: a file below the data root, of boxes, actions and scores, to evaluate in place of a model.
        excluded: a list of key frames to leave out of validation and evaluation, below the data root.
        train_excluded: the same for training.
        actions: numbers of the actions that are scored, from 1, or a label map below the data root; None for all.
        min_overlap: overlap (IoU) of a correct detection, 0-1.
        crop_size: side of the square that training cuts out of a frame, pixels; null for the whole frame.
        color: the most that training changes hue (of 180 steps), saturation and value (of 255).
        flip: probability that training mirrors a clip, 0-1.
        jitter: the most that training moves a box's edges: vertical ones outwards and inwards, as fractions of its
            width, and horizontal ones, as fractions of its height; null moves none.
        extension: fractions of a box's width and height that it gains before the model looks at it in an evaluation.
        as_published: repeat mistakes of the released code: a clip whose short side has its length already is
            squashed, people outside a training crop are trained on, and boxes end a pixel behind a crop.
    """

    folder: str = "videos"
    begin: float = 0.0
    detections: str | None = None
    min_score: float = 0.8
    predictions: str | None = None
    excluded: str | None = None
    train_excluded: str | None = None
    actions: builtins.list[int] | str | None = None
    min_overlap: float = 0.5
    crop_size: int | None = 224
    color: builtins.list[int] = field(default_factory=lambda: [10, 26, 26])
    flip: float = 0.5
    jitter: builtins.list[float] | None = field(default_factory=lambda: [0.2, 0.1, 0.1, 0.05])
    extension: builtins.list[float] = field(default_factory=lambda: [0.1, 0.05])
    as_published: bool = False


@dataclass(frozen=True)
class FrameData:
    """Annotated frames of videos (object detection).

    Args:
        folder: of the frames or the videos, below the data root: of Ego4D's downloader, or with images
            `VIDEO/CLIP/FRAME.jpg` or `VIDEO/FRAME.jpg`, see `internvideo_hf.tasks.object_detection.frames`.
        moments: of a clip, which of its frames count: "pre_frame", "pnr_frame" and "post_frame".
        object_type: kind of the objects that count; hands and tools are annotated, too.
        predictions: a file below the data root, in COCO's layout of results, to evaluate in place of a model.
        shortest_edge: for training, least and largest length of a frame's shorter edge, pixels, of which one is drawn
            for each frame; null for the size of the detector's processor.
        longest_edge: the most of its longer edge then, pixels.
        flip: for training, probability that a frame is mirrored, 0-1.
    """

    folder: str = "."
    moments: builtins.list[str] = field(default_factory=lambda: ["pre_frame", "pnr_frame", "post_frame"])
    object_type: str = "object_of_change"
    predictions: str | None = None
    shortest_edge: builtins.list[int] | None = None
    longest_edge: int = 2000
    flip: float = 0.5


@dataclass(frozen=True)
class InteractionData:
    """Moments before objects are touched, and what becomes of their pixels (short-term anticipation).

    Args:
        folder: of the footage, below the data root, see `internvideo_hf.data.ego4d.find_footage`.
        detections: objects that a detector found, a file below the data root; None takes the true boxes.
        min_score: least score of a detected object, 0-1.
        with_truth: train on the true boxes, too, beside detected ones.
        predictions: a file of the challenge below the data root, to evaluate in place of a model.
        label_overlap: overlap (IoU) with a true box from which training takes its verb and its time, 0-1.
        short_sides: least and largest short side of a frame that training draws, pixels; null takes the processor's.
        crop_size: side of the square that training cuts out of a frame, pixels; null for the whole frame.
        flip: probability that training mirrors a clip, 0-1.
        min_overlap: a right box overlaps more than this (IoU), 0-1.
        time_tolerance: a right time is off by this many seconds at most.
        top_k: answers for a true box, of which all but one may be wrong; null counts all of them.
    """

    folder: str = "."
    detections: str | None = None
    min_score: float = 0.0
    with_truth: bool = True
    predictions: str | None = None
    label_overlap: float = 0.5
    short_sides: builtins.list[int] | None = field(default_factory=lambda: [256, 320])
    crop_size: int | None = 224
    flip: float = 0.5
    min_overlap: float = 0.5
    time_tolerance: float = 0.25
    top_k: int | None = 5


@dataclass(frozen=True)
class HandData:
    """Videos in which hands are annotated at moments to come, as in Ego4D, and what becomes of their pixels.

    Args:
        folder: of the footage, below the data root: that of the `ego4d` downloader, or one with its mp4 files, see
            `internvideo_hf.data.ego4d.find_footage`; or with clips `CLIP_FRAME.mp4` that end before the moment, as
            Ego4D's baseline cuts them.
        crop_area: least and largest fraction of a frame that a training crop takes.
        rand_augment: change colors and geometry of training clips by RandAugment.
        flip: probability that a training clip is mirrored left to right, 0-1; 0 where both hands are predicted, which
            would change sides.
        erasing: probability that a rectangle of a training clip is erased, 0-1.
        predictions: a file below the data root, in the layout of the challenge, to evaluate in place of a model.
        predictions_views: views whose sum that file holds; 30 in files of Ego4D's baseline.
    """

    folder: str = "."
    crop_area: builtins.list[float] = field(default_factory=lambda: [0.9, 1.0])
    rand_augment: bool = True
    flip: float = 0.0
    erasing: float = 0.25
    predictions: str | None = None
    predictions_views: int = 1


@dataclass(frozen=True)
class DataSettings:
    """The data of an evaluation.

    Args:
        list: the list of videos, captions or questions, below the data root; or a folder of clips by class.
        layout: a name in the task's table of layouts; detected from the list if None, where the task allows it.
        only: a list of the ids of the videos to evaluate on, below the data root.
        leave_out: ids of videos to leave out (multiple choice).
        labels: the classes, a name in `internvideo_hf.recipes.labels`, or a text file below the data root with one
            name a line. If None, classification uses the model's own, and zero-shot classification those of the list.
        num_videos: videos of the published split; the report names a difference.
        unknown: a list of videos of none of the classes, below the data root (open set).
        calibration: a list of known videos, of which the threshold is fitted, below the data root (open set).
        features: features of the videos (temporal localization).
        queries: sentences about the videos, and the features of both (temporal grounding).
        boxes: videos with boxes in key frames (action detection).
        interactions: moments before objects are touched (short-term anticipation).
        frames: annotated frames (object detection).
        hands: videos with hands at moments to come (hand prediction).
        class_scores: JSON file of the scores that a classifier gave whole videos, below the data root, which name the
            segments of a model that knows one class (temporal localization); None for none.
        references: R2R-CE's list of episodes, below the data root, for reference paths that the recorded ones lack
            (navigation); None for none.
    """

    list: str
    layout: str | None = None
    only: str | None = None
    leave_out: builtins.list[str] = field(default_factory=builtins.list)
    labels: str | None = None
    num_videos: int | None = None
    unknown: str | None = None
    calibration: str | None = None
    features: FeatureData | None = None
    queries: QueryData | None = None
    boxes: BoxData | None = None
    interactions: InteractionData | None = None
    frames: FrameData | None = None
    hands: HandData | None = None
    class_scores: str | None = None
    references: str | None = None


@dataclass(frozen=True)
class MergeSettings:
    """The published model as an average with CLIP; `internvideo merge` makes it.

    Args:
        weight: fraction of CLIP.
        variant: which tensors are averaged, a name in `internvideo_hf.checkpoints.merging.VARIANTS`.
    """

    weight: float
    variant: str


@dataclass(frozen=True)
class Published:
    """A published result of a protocol.

    Args:
        where: "paper", "read-me" or "model zoo".
        scores: by the names of our scores: "R@1", ..., "MedR", "MeanR"; "top-1", "top-5", in percent.
        direction: "text_to_video" or "video_to_text" (retrieval).
        dual_softmax: whether scores are with dual softmax (retrieval).
        model: name of the released model, if it is not the protocol's.
        labels: the data set, by the name of its classes (ensembles).
        test: how the model was tested: the row's `evaluation` in `released.json` (classification).
    """

    where: str
    scores: dict[str, float]
    direction: str | None = None
    dual_softmax: bool | None = None
    model: str | None = None
    labels: str | None = None
    test: dict[str, Any] | None = None


@dataclass(frozen=True)
class Protocol:
    """An evaluation as data.

    Args:
        title: one line.
        source: origins of the numbers.
        task: a task with an evaluation.
        data: the list, its layout and classes.
        family: the model's family, a name in `internvideo_hf.auto.FAMILIES`; any if None (classification).
        model: name of the released model with the published numbers; classification repeats its test, and finds the
            model by its configuration if None.
        processor: options of the video processor: frames and pixels.
        text_length: maximum tokens of a text, with begin and end; longer texts are cut.
        num_clips: clips of each video; those of the released model's test if None, or as its processor is configured.
            `processor.num_clips` means the same.
        num_crops: crops of each clip; the same.
        dtype: number type of the model's weights and pixels, a name in `utils.devices.NUMBER_TYPES`; as the model is
            saved if None.
        published_dtype: number type by which the published scores were computed; None if it is not stated.
        merge: the average with CLIP; None if the model is not averaged.
        factor: the factor of the cosine, the "model"'s own or "one". It affects dual softmax and averaged
            probabilities.
        several: what a video retrieves, see `internvideo_hf.inference.ranking.retrieval_ranks`.
        caption_rule: cleaning of captions, a name in `internvideo_hf.recipes.captions`.
        generation: options of transformers' `generate` (captioning), such as `{"num_beams": 3}`.
        prompts: sentences around a class, a name in `internvideo_hf.recipes.load_prompts`.
        open_set: how unknown videos are recognized (open set), the fields of
            `internvideo_hf.tasks.open_set.evaluation.OpenSetSettings`.
        fusion: how `data.class_scores` name segments (temporal localization), the fields of
            `internvideo_hf.tasks.temporal_localization.decoding.Fusion`.
        as_published: repeat the mistakes of the released evaluator (temporal localization, see
            `internvideo_hf.tasks.temporal_localization.metrics.average_precisions`; short-term anticipation: moments
            without objects to answer for count as neither found nor missed).
        released: the data set's name in `released.json`, whose tests are published (classification).
        published: published results.
        notes: disagreements between sources, and other remarks.
    """

    title: str
    source: list[str]
    task: str
    data: DataSettings
    family: str | None = None
    model: str | None = None
    processor: dict[str, Any] = field(default_factory=dict)
    text_length: int | None = None
    num_clips: int | None = None
    num_crops: int | None = None
    dtype: str | None = None
    published_dtype: str | None = None
    merge: MergeSettings | None = None
    factor: str = "model"
    several: str = "video"
    caption_rule: str | None = None
    generation: dict[str, Any] = field(default_factory=dict)
    prompts: str | None = None
    open_set: dict[str, Any] = field(default_factory=dict)
    fusion: dict[str, Any] = field(default_factory=dict)
    as_published: bool = False
    released: str | None = None
    published: list[Published] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def views(self) -> dict[str, int]:
        """Clips of a video and crops of a clip by name, as far as the protocol sets them."""
        own = {name: getattr(self, name) for name in VIEWS if getattr(self, name) is not None}
        return {name: number for name, number in self.processor.items() if name in VIEWS} | own

    @property
    def pixels(self) -> dict[str, Any]:
        """The options of the processor other than the views."""
        return {name: value for name, value in self.processor.items() if name not in VIEWS}


@dataclass(frozen=True)
class Samples:
    """Distinct videos with their texts and labels.

    Args:
        videos: rows as of `internvideo_hf.inference.runner.read_views`.
        owners: the video of each text, of each question, or of each labelled row, int64.
        texts: captions (retrieval), questions, or the options of all questions, one after the other (multiple choice).
        labels: the class of each row, or the right option or answer of each question, int64; of several labels or
            numbers a row, `(rows, ...)`.
        classes: names of the classes (zero-shot classification), or the answers.
        answers: the right answer to each question in words (question answering).
        source: what the task reads the videos from, where they are features (temporal localization).
    """

    videos: list[Row]
    owners: NDArray[np.int64]
    texts: Sequence[str] = ()
    labels: NDArray[Any] = field(default_factory=lambda: np.empty(0, np.int64))
    classes: Sequence[str] = ()
    answers: Sequence[str] = ()
    source: Any = None


@dataclass(frozen=True)
class Run:
    """The model and the settings to run a protocol with.

    Args:
        model: a converted folder, or a name on the Hub.
        device: where the model runs; the accelerator if None.
        settings: batches, workers, unreadable videos, progress bars.
        parts: a folder for finished parts, if the task can resume; None keeps nothing.
    """

    model: str
    device: str | torch.device | None
    settings: RunSettings
    parts: AnyPath | None = None

    def parts_of(self, model: PreTrainedModel, facts: Mapping[str, Any], *about: Any) -> AnyPath | None:
        """Return the folder for finished parts of this work alone; None keeps nothing.

        Args:
            model: the loaded model.
            facts: of the result.
            about: what else the work depends on, as JSON.
        """
        if self.parts is None:
            return None
        return self.parts / json_sha256([facts, revision(self.model, model), *about])[:12]


class Details(Interface):
    """The answers behind a score."""

    def text(self) -> str:
        """Return the most useful of them as text."""

    def write(self, folder: Path) -> None:
        """Write tables and pictures into a folder, atomically; see `check_report`."""


@dataclass(frozen=True)
class Outcome:
    """Scores of a model.

    Args:
        scores: in percent, by name; retrieval nests them by direction and softmax.
        causes: the cause for each unreadable video, by its number in the samples.
        model: facts about the model for JSON: `family`, `parameters`, `device`, ...
        details: the answer to each video, if the task reports them.
    """

    scores: dict[str, Any]
    causes: dict[int, str]
    model: dict[str, Any]
    details: Details | None = None


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a task.

    Args:
        read: (protocol, data root, model) -> samples.
        run: (protocol, samples, run) -> outcome.
        columns: names of the scores, in table order.
        settings: settings of the protocol that this task reads and others do not, such as "prompts" or "data.only";
            what no task names, all read.
        check: (protocol) raises RecipeError if one of its values does not suit the task.
        complete: (protocol) -> the protocol, completed from tables of the package.
        facts: (result) -> additional lines about a result, by name.
        has_details: outcomes have `details`.
        needs_model: (protocol) -> whether there is a model to run; False where a file has its answers.
        on_engines: several workers may run the model, for all goes through `inference.rows.run_rows`.
        lines: (result) -> rows of its table: name, scores, and the published entries below.
    """

    read: Callable[[Protocol, Path, str], Samples]
    run: Callable[[Protocol, Samples, Run], Outcome]
    columns: tuple[str, ...]
    settings: tuple[str, ...] = ()
    check: Callable[[Protocol], None] = lambda protocol: None
    complete: Callable[[Protocol], Protocol] = lambda protocol: protocol
    facts: Callable[[Mapping[str, Any]], dict[str, str]] = lambda result: {}
    has_details: bool = False
    needs_model: Callable[[Protocol], bool] = lambda protocol: True
    on_engines: bool = False
    lines: Callable[[Mapping[str, Any]], list[tuple[str, Mapping[str, float], list[Mapping[str, Any]]]]] = (
        lambda result: [("this model", result["scores"], result["published"])]
    )


def check_list(layout: str | None, labels: str | None = None) -> None:
    """Refuse an unknown layout or set of classes of a list; None is none of its own.

    Raises:
        RecipeError: if a name is unknown.
    """
    if layout is not None:
        check_name(layout, LAYOUTS, "data.layout", RecipeError)
    if labels is not None:
        check_classes_name(labels)


def config_of_kind(protocol: Protocol, model: str, kind: str, refusal: str) -> PreTrainedConfig:
    """Return a model's configuration, before the model is loaded; refuse one of another kind or family.

    Args:
        protocol: to be run.
        model: a folder, or a name on the Hub.
        kind: end of the class's name, such as "ForQuestionAnswering".
        refusal: what a model of another kind does not do, and a remedy; it continues a sentence that begins with the
            model's name.

    Raises:
        RecipeError: if the model is of another kind, or of another family than the protocol's.
    """
    config: PreTrainedConfig = load_pretrained(AutoConfig, model)
    if not (config.architectures or [""])[0].endswith(kind):
        raise RecipeError(f"{model} {refusal}")
    if protocol.family not in (None, config.model_type):
        raise RecipeError(f"This protocol is for {protocol.family}, and {model} holds {config.model_type}.")
    return config


def check_report(folder: AnyPath) -> None:
    """Refuse a folder that a report must not replace, before the work begins.

    Raises:
        FileExistsError: if it holds anything but an earlier report.
        OSError: if it cannot be written.
        ImportError: if matplotlib, which draws the report, is not installed.
    """
    if isinstance(folder, StoragePath):
        check_output(folder)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file. Give the name of a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / ANSWERS).is_file():
        raise FileExistsError(f"{folder} holds other files than a report. Choose another folder.")
    if isinstance(folder, Path):
        check_output(folder)
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError("A report is drawn by matplotlib: pip install 'internvideo-hf[train]'.")


def model_facts(model: PreTrainedModel) -> dict[str, Any]:
    """Return the facts of a model for a result: family, number of parameters, their type and device."""
    return {
        "family": model.config.model_type,
        "parameters": model.num_parameters(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
    }


def read_rows(data: DataSettings, data_root: Path, **options: Any) -> list[dict[str, Any]]:
    """Read a protocol's list; a video without a file stays in the list, and counts as unreadable.

    Args:
        data: the list, its layout and selection.
        data_root: the folder of the list and of the videos.
        **options: of `internvideo_hf.data.manifests.read_manifest`.

    Raises:
        ManifestError: if the list is invalid.
    """
    only = None if data.only is None else below(data_root, data.only)
    options |= {"layout": data.layout, "only": only, "check_files": False}
    return list(read_manifest(list_path(data_root, data.list), data_root, **options))


def unique_clips(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Row], NDArray[np.int64]]:
    """Return the distinct clips of rows, and the clip of each row."""
    numbers: dict[tuple[Any, ...], int] = {}
    keys = [(row["video"], row.get("start"), row.get("end"), row.get("num_frames")) for row in rows]
    owners = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
    return [dict(zip(("video", "start", "end", "num_frames"), key, strict=True)) for key in numbers], owners


def require_column(rows: Sequence[Mapping[str, Any]], column: str, list_name: str) -> None:
    """Refuse a list with a row that lacks a value.

    Raises:
        RecipeError: if a row has none.
    """
    if any(row[column] is None for row in rows):
        raise RecipeError(f"{list_name} has rows without a {column}, which this evaluation needs. Add it.")
