"""Temporal localization: which actions an untrimmed video shows, and when each begins and ends."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence
from transformers import EvalPrediction
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.auto import auto_class
from internvideo_hf.data.contents import stamp
from internvideo_hf.data.failures import one_video
from internvideo_hf.data.features import FeatureGrid
from internvideo_hf.data.records import ManifestError, list_path
from internvideo_hf.data.samples import Row
from internvideo_hf.inference.rows import Loader, Read, Work, run_rows
from internvideo_hf.inference.runner import load_by_name, load_model
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.base import Preparation, Prepared, Task, Training
from internvideo_hf.tasks.features import check_complete
from internvideo_hf.tasks.protocol import (
    Evaluation,
    FeatureData,
    Outcome,
    Protocol,
    Run,
    Samples,
    config_of_kind,
    model_facts,
)
from internvideo_hf.tasks.temporal_localization import end_to_end
from internvideo_hf.tasks.temporal_localization.annotations import (
    ONE_CLASS,
    Annotations,
    read_annotations,
    read_class_scores,
)
from internvideo_hf.tasks.temporal_localization.answers import Answers
from internvideo_hf.tasks.temporal_localization.data import Cropping, FeatureDataset, FeatureSource, Sample
from internvideo_hf.tasks.temporal_localization.decoding import (
    Detections,
    Fusion,
    decoding_of,
    detect,
    fuse_class_scores,
)
from internvideo_hf.tasks.temporal_localization.metrics import SegmentTable
from internvideo_hf.tasks.temporal_localization.moments import CHALLENGE
from internvideo_hf.tasks.temporal_localization.proposals import Proposals, read_proposals
from internvideo_hf.tasks.temporal_localization.refinement import (
    ProposalDataset,
    check_step,
    collate_proposals,
    decode_refined,
    refine_proposals,
    refines,
    with_proposals,
)
from internvideo_hf.tasks.temporal_localization.sources import (
    annotations_of,
    open_features,
    read_training_rows,
)
from internvideo_hf.utils.fingerprints import json_sha256
from internvideo_hf.utils.names import check_name
from internvideo_hf.video.errors import VideoDecodeError

AUTO_CLASS = "AutoModelForTemporalLocalization"
_ABSENT = -100.0  # score of a row that is no segment; what the Trainer fills up with
_SHOWN = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.95)  # thresholds with a column in tables
_MOST = 1000  # segments of a video that are scored in training, where the head keeps all


# ---- training -------------------------------------------------------------------------------------------------------


def collate(
    samples: Sequence[Sample],
    *,
    keep_grids: bool = False,
    span: tuple[int, int] | None = None,
    step_seconds: float | None = None,
) -> dict[str, Any]:
    """Make a batch of samples.

    Args:
        samples: of a `FeatureDataset`.
        span: of a `WindowDataset`, whose features are the pixels of frames: frames of a window, and from one to the
            next.
        keep_grids: add `grids`, for the metrics: stride, window and frames a second of each video's grid, and its
            duration, NaN if unknown; `(batch, 4)`, float64.
        step_seconds: of a head that refines the proposals of the samples, see `collate_proposals`.

    Returns:
        `features`, padded with zeros, `(batch, length, channels)`, or `pixel_values_videos`; `attention_mask`,
        `(batch, length)`, True on real rows; `labels`, a mapping with `segments` and `class_labels` for each video;
        `videos`, their ids.
    """
    lengths = torch.tensor([len(sample.features) for sample in samples])
    if span is not None:
        lengths = torch.tensor([end_to_end.count_windows(length, *span) for length in lengths.tolist()])
    name = "features" if span is None else "pixel_values_videos"
    batch: dict[str, Any]
    if step_seconds is not None:
        batch = collate_proposals(samples, step_seconds)
    else:
        batch = {
            name: pad_sequence([sample.features for sample in samples], batch_first=True),
            "attention_mask": torch.arange(int(lengths.max())) < lengths[:, None],
            "labels": [{"segments": sample.segments, "class_labels": sample.labels} for sample in samples],
            "videos": [sample.video for sample in samples],
        }
    if keep_grids:
        batch["grids"] = torch.tensor([_numbers(sample) for sample in samples], dtype=torch.float64)
    return batch


def _numbers(sample: Sample) -> tuple[float, ...]:
    duration = math.nan if sample.duration is None else sample.duration
    return sample.grid.stride, sample.grid.num_frames, sample.grid.fps, duration


def _make_collator(
    *, training: bool, span: tuple[int, int] | None = None, step_seconds: float | None = None, **_: Any
) -> "partial[dict[str, Any]]":
    return partial(collate, keep_grids=not training, span=span, step_seconds=step_seconds)


def _prepare(
    train: Any,
    validation: Any,
    model: PreTrainedModel,
    features: FeatureData,
    about: Preparation,
) -> Prepared:
    """Open the features of both lists; the head will name the encoder and the window rule that they came from."""
    data_root, seed, skip_missing = about.data_root, about.seed, about.skip_missing
    config, save = model.config, None
    _check_challenge(features)
    _check_head(config, config.model_type, features)
    if refines(config):
        return _prepare_refinement(train, validation, model, features, data_root, seed=seed, skip_missing=skip_missing)
    cropping = Cropping(config.max_sequence_length, features.min_kept, _pair(features.crop_ratio))
    videos = annotations_of(train, features.train_subset)
    held_out = {} if validation is None else annotations_of(validation, features.subset)
    validation_set: FeatureDataset | None = None
    span: tuple[int, int] | None = None
    if features.end_to_end:
        model, processor = end_to_end.make_model(model, features)
        span = model.window, model.stride
        training_set: FeatureDataset = end_to_end.open_videos(
            features, data_root, videos, processor, cropping=cropping, seed=seed
        )
        if held_out:
            validation_set = end_to_end.open_videos(features, data_root, held_out, processor)
        config.features = {"encoder": end_to_end.ENCODER, "window": span[0], "stride": span[1], "fps": features.fps}
        save = partial(end_to_end.save, processor=processor)
    else:
        training_set, config.features = open_features(features, data_root, videos, cropping=cropping, seed=seed)
        _check_width(training_set, config, features)
        if held_out:
            validation_set, _ = open_features(features, data_root, held_out, trained_on=config.features)
    for samples in filter(None, (training_set, validation_set)):
        check_complete(samples.missing, samples, samples.features, skip_missing)
    training = replace(TASK_TRAINING, make_collator=partial(_make_collator, span=span))
    if validation_set is None:
        return Prepared(training_set, None, training, model, save)
    return Prepared(training_set, validation_set, _judged(training, validation_set, config, features), model, save)


def _prepare_refinement(
    train: Any,
    validation: Any,
    model: PreTrainedModel,
    features: FeatureData,
    data_root: Path,
    *,
    seed: int,
    skip_missing: bool,
) -> Prepared:
    """Open features and proposals of both lists, for a head that refines them."""
    config = model.config
    proposals = read_proposals(data_root / str(features.proposals))
    videos = annotations_of(train, features.train_subset)
    samples, config.features = open_features(features, data_root, videos, seed=seed)
    _check_width(samples, config, features)
    try:
        check_step(config, config.features)
    except ValueError as error:
        raise RecipeError(f"{error} Set model.config.step_seconds.") from error
    check_complete(samples.missing, samples, samples.features, skip_missing)
    training_set = ProposalDataset(samples, proposals, config.max_sequence_length, features.num_proposals)
    training = replace(TASK_TRAINING, make_collator=partial(_make_collator, step_seconds=config.step_seconds))
    if validation is None:
        return Prepared(training_set, None, training, model)
    held_out = annotations_of(validation, features.subset)
    judged, _ = open_features(features, data_root, held_out, trained_on=config.features)
    check_complete(judged.missing, judged, judged.features, skip_missing)
    training = _judged(training, judged, config, features)
    return Prepared(training_set, ProposalDataset(judged, proposals), training, model)


def _judged(training: Training, samples: FeatureDataset, config: PreTrainedConfig, features: FeatureData) -> Training:
    judge = _Judge.of(samples, config, features)
    return replace(
        training,
        preprocess_logits=judge.decode,
        compute_metrics=judge.scores,
        details=lambda prediction, rows, config: judge.answers(prediction),
    )


def _check_width(samples: FeatureDataset, config: PreTrainedConfig, features: FeatureData) -> None:
    width = samples[0].features.shape[1]
    if width != config.feature_size:
        raise RecipeError(
            f"The features of {features.folder} have {width} channels, and the model takes {config.feature_size}: "
            f"set model.config.feature_size={width}."
        )


def _pair(ratio: Sequence[float] | None) -> tuple[float, float] | None:
    if ratio is not None and len(ratio) != 2:
        raise RecipeError(f"data.features.crop_ratio is {ratio}, expected two fractions, or null.")
    return None if ratio is None else (ratio[0], ratio[1])


@dataclass(frozen=True)
class _Judge:
    """Decodes and scores what a model in training finds in the validation videos."""

    videos: Sequence[str]
    truth: SegmentTable
    classes: Mapping[int, str]
    config: PreTrainedConfig
    thresholds: Sequence[float]
    is_challenge: bool = False

    @classmethod
    def of(cls, samples: FeatureDataset, config: PreTrainedConfig, features: FeatureData) -> "_Judge":
        own = Annotations({name: samples.annotations[name] for name in samples.videos}, {0: ONE_CLASS})
        truth = own.ground_truth(features.subset, features.challenge is not None)
        classes = dict(enumerate(classes_of(config)))
        return cls(samples.videos, truth, classes, config, features.thresholds, features.challenge is not None)

    def decode(self, outputs: tuple[Any, ...], labels: Any) -> torch.Tensor:
        """Return start, end, class and score of each video's segments, `(batch, segments, 4)`, in grid units.

        All batches have the same shape, since those of several processes are put together.
        """
        if refines(self.config):
            detections, device = decode_refined(outputs, self.config), outputs[-1].device
        else:
            # Among the parts of the loss, which are tensors.
            logits, offsets, _, masks = (levels for levels in outputs if isinstance(levels, tuple))
            detections, device = detect(logits, offsets, masks, self.config), masks[0].device
        most = self.config.suppression["max_segments"] or _MOST
        rows = torch.full((len(detections), most, 4), _ABSENT)
        for row, found in zip(rows, detections, strict=True):
            columns = torch.column_stack((found.segments, found.labels, found.scores))[:most]
            row[: len(columns)] = columns
        return rows.to(device)

    def answers(self, prediction: EvalPrediction) -> Answers:
        """Return all segments in seconds beside the true ones."""
        rows, grids = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
        found = []
        for row, (stride, num_frames, fps, duration) in zip(torch.from_numpy(rows), grids.tolist(), strict=True):
            row = row[row[:, 3] > _ABSENT]
            detections = Detections(row[:, :2], row[:, 3], row[:, 2].long())
            limit = None if math.isnan(duration) else duration
            found.append(in_seconds(detections, FeatureGrid(stride, num_frames, fps), limit))
        clips = self.videos if self.is_challenge else None
        return Answers(table_of(self.videos, found), self.truth, self.classes, self.thresholds, clips=clips)

    def scores(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return the mean average precision in percent."""
        return self.answers(prediction).scores()


def in_seconds(detections: Detections, grid: FeatureGrid, duration: float | None) -> Detections:
    """Return detections in seconds.

    Args:
        detections: in grid units.
        grid: of the video's features.
        duration: of the video in seconds, at which segments end; None if unknown.
    """
    return detections._replace(segments=grid.to_seconds(detections.segments, duration))


def table_of(videos: Sequence[str], found: Sequence[Detections]) -> SegmentTable:
    """Return the detections of videos as one table.

    Args:
        videos: ids.
        found: of each video, in seconds.
    """
    names = [name for name, one in zip(videos, found, strict=True) for _ in one.scores]
    if not names:
        return SegmentTable([], np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros(0))
    segments, scores, labels = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    return SegmentTable(names, segments, labels, scores)


TASK_TRAINING = Training(
    auto_class=AUTO_CLASS,
    make_collator=_make_collator,
    label_names=("grids",),
    read=read_training_rows,
    section="features",
    prepare=_prepare,
)


# ---- evaluation -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """What an evaluation reads: features, ground truth, scores of a classifier, proposals and their `state`."""

    dataset: FeatureDataset
    truth: SegmentTable
    classes: Mapping[int, str]
    features: Mapping[str, Any]
    class_scores: Mapping[str, Any] | None
    proposals: Proposals | None = None
    state: Sequence[Any] = ()

    @cached_property
    def with_features(self) -> set[str]:
        """Ids of the videos that have features."""
        return set(self.dataset.videos)

    def rows(self, videos: Sequence[str]) -> list[Row]:
        """Return a row for each video, with what reads it, or why it cannot be read."""
        return [self._row(video) for video in videos]

    def _row(self, video: str) -> Row:
        try:
            with one_video(video):
                if video not in self.with_features:
                    raise ManifestError(
                        str(self.dataset.features.folder), video, "it has no features", "Extract them."
                    )
                segments = None if self.proposals is None else self.proposals.entry(video)
        except VideoDecodeError as error:
            return {"video": video, "file": video, "failure": error}
        given = segments if segments is None or isinstance(segments, Path) else _columns(segments)
        source = _VideoSource(self.dataset.source_of(video), given)
        annotation, file = source.features.annotation, self.dataset.features.path_of(video)
        return {
            "video": video,
            "file": str(file),
            "fps": annotation.fps,
            "duration": annotation.duration,
            "source": source,
        }


@dataclass(frozen=True)
class _VideoSource:
    """What reads one video in any process.

    Args:
        features: of the video.
        proposals: start, end, score and label of each, `(n, 4)` float32, or their .csv file; None for a head that
            localizes by itself.
    """

    features: FeatureSource
    proposals: NDArray[np.float32] | Path | None

    def most(self) -> int:
        """Return how many proposals there are at most."""
        if isinstance(self.proposals, Path):
            with self.proposals.open("rb") as lines:
                return sum(1 for _ in lines)
        return 0 if self.proposals is None else len(self.proposals)

    def load(self) -> Sample:
        """Return the features, with the proposals."""
        sample, given = self.features.load(), self.proposals
        if given is None:
            return sample
        if not isinstance(given, Path):
            table = torch.from_numpy(given)
            return with_proposals(
                sample, Proposals("", {sample.video: Detections(table[:, :2], table[:, 2], table[:, 3].long())})
            )
        return with_proposals(sample, Proposals(str(given.parent), {sample.video: given}))


def _columns(segments: Detections) -> NDArray[np.float32]:
    columns: NDArray[np.float32] = torch.column_stack(tuple(segments)).numpy().astype(np.float32)
    return columns


def _check(protocol: Protocol) -> None:
    features = protocol.data.features or FeatureData()
    if not features.thresholds or not all(0 < threshold <= 1 for threshold in features.thresholds):
        raise RecipeError(f"data.features.thresholds is {features.thresholds}, expected overlaps above 0, up to 1.")
    _check_challenge(features)
    try:
        Fusion(**protocol.fusion)
    except TypeError as error:
        raise RecipeError(f"fusion: {error}. See internvideo_hf.tasks.temporal_localization.decoding.") from error


def _check_challenge(features: FeatureData) -> None:
    if features.challenge is not None:
        check_name(features.challenge, (CHALLENGE,), "data.features.challenge", RecipeError)


def _check_head(config: PreTrainedConfig, model: str, features: FeatureData) -> None:
    if not refines(config) and features.proposals is not None:
        raise RecipeError(f"{model} localizes by itself: leave out data.features.proposals.")
    if refines(config) and features.proposals is None:
        raise RecipeError(f"{model} refines the segments of another model: set data.features.proposals to their file.")
    try:
        decoding_of(config)
    except ValueError as error:
        raise RecipeError(f"{model}: {error}") from error
    if refines(config) and features.end_to_end:
        raise RecipeError(f"{model} is trained on features: leave out data.features.end_to_end.")


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    data, refusal = protocol.data, "localizes no actions. Train a head, such as by temporal_localization/custom."
    config = config_of_kind(protocol, model, "ForTemporalLocalization", refusal)
    features = data.features or FeatureData()
    _check_head(config, model, features)
    path = list_path(data_root, data.list)
    class_scores = None if data.class_scores is None else read_class_scores(data_root / data.class_scores)
    proposals = None if features.proposals is None else read_proposals(data_root / features.proposals)
    names = [ONE_CLASS] if proposals is not None else classes_of(config)
    own = class_scores is None and len(names) > 1 and names[0] != "LABEL_0"
    annotations = read_annotations(path, names if own else None)
    named = proposals is not None and len(proposals.classes) > 0 and not features.class_agnostic
    one_class = len(names) == 1 and class_scores is None and not named
    if one_class and len(annotations.classes) > 1 and not features.class_agnostic:
        raise RecipeError(
            f"{model} knows one class, {data.list} {len(annotations.classes)}. Set data.class_scores to scores of a "
            "classifier, or data.features.class_agnostic=true to score segments whatever their class."
        )
    try:
        videos = annotations.of_subset(features.subset)
        truth = annotations.ground_truth(features.subset, features.challenge is not None)
    except ValueError as error:
        raise RecipeError(f"{path}: {error} Set data.features.subset.") from error
    classes: Mapping[int, str] = annotations.classes
    if one_class:
        truth, classes = replace(truth, labels=np.zeros_like(truth.labels)), dict(enumerate(names))
    trained_on = getattr(config, "features", None)
    dataset, facts = open_features(features, data_root, videos, trained_on=trained_on)
    if proposals is not None:
        proposals = proposals.numbered({} if class_scores is not None or not named else annotations.classes)
        try:
            check_step(config, facts)
        except ValueError as error:
            raise RecipeError(f"{features.folder}: {error} Extract features as for its training.") from error
    state = [] if features.proposals is None else [features.proposals, *stamp(str(data_root / features.proposals))]
    source = _Source(dataset, truth, classes, facts, class_scores, proposals, state)
    return Samples([{"video": name} for name in videos], np.arange(len(videos)), source=source)


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    source: _Source = samples.source
    names = [str(row["video"]) for row in samples.videos]
    rows = source.rows(names)
    if source.class_scores is not None:
        for row in rows:
            if "failure" not in row and row["video"] not in source.class_scores:
                cause = "it has no scores"
                raise ManifestError(str(protocol.data.class_scores), row["video"], cause, "Classify the video.")
    model = load_model(auto_class(AUTO_CLASS), run.model, run.device, protocol.dtype)
    asked = protocol.data.features or FeatureData()
    facts = {**model_facts(model), "features": dict(source.features), "pixels": {}}
    compute = _localize if source.proposals is None else _refine
    work = Work(
        _read_sample,
        partial(compute, most=_most_segments(model.config, rows)),
        Loader(load_by_name, run.model, (("auto_class", AUTO_CLASS), ("dtype", protocol.dtype))),
        file=_file_of,
    )
    known = [{name: value for name, value in row.items() if name != "source"} for row in rows]
    parts = run.parts_of(model, facts, json_sha256(known), asdict(asked), source.state)
    table, causes = run_rows(rows, model, work, run.settings, parts=parts)
    fusion = Fusion(**{**(getattr(model.config, "fusion", None) or {}), **protocol.fusion})
    read = [number for number in range(len(rows)) if number not in causes]
    found = []
    for number in read:
        columns = table["segments"][number]
        columns = columns[~columns[:, 2].isnan()]
        detections = Detections(columns[:, :2], columns[:, 2], columns[:, 3].long())
        if source.class_scores is not None:
            detections = fuse_class_scores(detections, source.class_scores[names[number]], fusion)
        found.append(detections)
    clips = None if asked.challenge is None else names
    segments = table_of([names[number] for number in read], found)
    answers = Answers(segments, source.truth, source.classes, asked.thresholds, protocol.as_published, clips)
    return Outcome(answers.scores(), causes, facts, answers)


def _most_segments(config: PreTrainedConfig, rows: Sequence[Row]) -> int:
    """Return the most segments that a head gives for a video."""
    selection, suppression = decoding_of(config)
    if suppression.max_segments is not None:
        return suppression.max_segments
    if not refines(config):
        return selection.max_candidates * len(config.strides)
    return max((row["source"].most() for row in rows if "failure" not in row), default=0)


def _file_of(row: Row) -> str:
    return str(row["file"])


def _read_sample(row: Row) -> dict[str, Any]:
    """Return the features of a video, and what says where they lie in time; see `Work.read`."""
    sample: Sample = row["source"].load()
    found = {"features": sample.features, "grid": sample.grid, "duration": sample.duration}
    if sample.proposals is None:
        return found
    return found | {f"proposal_{name}": column for name, column in sample.proposals._asdict().items()}


def _refine(model: PreTrainedModel, batch: Sequence[Read], most: int) -> dict[str, torch.Tensor]:
    """Return the refined proposals of videos, see `_table`."""
    found = []
    for _, sample in batch:
        proposals = Detections(*(sample[f"proposal_{name}"] for name in Detections._fields))
        found.append(refine_proposals(model, sample["features"], proposals))
    return _table(batch, found, most)


@torch.no_grad()
def _localize(model: PreTrainedModel, batch: Sequence[Read], most: int) -> dict[str, torch.Tensor]:
    """Return the segments of videos, see `_table`; those of one padded length at once, as it is part of the answer."""
    groups: dict[int, list[int]] = {}
    for place, (_, sample) in enumerate(batch):
        groups.setdefault(model.config.padded_length(len(sample["features"])), []).append(place)
    found: dict[int, Detections] = {}
    for places in groups.values():
        own = [batch[place][1]["features"] for place in places]
        lengths = torch.tensor(list(map(len, own)))
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        features = pad_sequence(own, batch_first=True).to(model.device, model.dtype)
        outputs = model(features, mask.to(model.device))
        found |= dict(zip(places, detect(outputs.logits, outputs.offsets, outputs.masks, model.config), strict=True))
    return _table(batch, [found[place] for place in range(len(batch))], most)


def _table(batch: Sequence[Read], found: Sequence[Detections], most: int) -> dict[str, torch.Tensor]:
    """Return start and end in seconds, score and label of each segment, `(videos, most, 4)`, NaN where none is."""
    table = torch.full((len(batch), most, 4), torch.nan)
    for row, (_, sample), detections in zip(table, batch, found, strict=True):
        detections = in_seconds(detections, sample["grid"], sample["duration"])
        columns = torch.column_stack((detections.segments, detections.scores, detections.labels))
        row[: len(columns)] = columns
    return {"segments": table}


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    about = result["model"]["features"]
    rule = "resized to {fixed_length} rows" if about.get("fixed_length") else "windows of {window}, stride {stride}"
    found = f"features of {about.get('encoder') or 'an unnamed one'}, {rule.format(**about)}"
    how = {"scoring": "as published, with its mistakes"} if result["settings"]["as_published"] else {}
    return {"encoder": found, **how}


TASK = Task(
    "temporal_localization",
    training=TASK_TRAINING,
    evaluation=Evaluation(
        read=_read,
        run=_run,
        columns=("mAP", *(f"mAP@{threshold:.2f}" for threshold in _SHOWN), "R@1x"),
        settings=("data.features", "data.class_scores", "fusion", "as_published"),
        check=_check,
        facts=_facts,
        has_details=True,
        on_engines=True,
    ),
)
