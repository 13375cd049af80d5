"""Temporal grounding: the stretch of an untrimmed video that a sentence asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import EvalPrediction
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import logging

from internvideo_hf.auto import auto_class
from internvideo_hf.data.failures import one_video
from internvideo_hf.data.records import list_path, require_datasets
from internvideo_hf.data.samples import Row
from internvideo_hf.inference.rows import Loader, Read, Work, run_rows
from internvideo_hf.inference.runner import load_by_name, load_model
from internvideo_hf.inference.texts import TextEncoder
from internvideo_hf.models.vslnet.spans_vslnet import Span
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.base import Preparation, Prepared, Task, Training
from internvideo_hf.tasks.features import check_complete
from internvideo_hf.tasks.protocol import (
    Evaluation,
    Outcome,
    Protocol,
    QueryData,
    Run,
    Samples,
    config_of_kind,
    model_facts,
)
from internvideo_hf.tasks.temporal_grounding.answers import Answers
from internvideo_hf.tasks.temporal_grounding.data import QueryDataset, QueryFeatures, Sample, VideoRows, collate
from internvideo_hf.tasks.temporal_grounding.grounding import best_answers, decode, text_encoder_of
from internvideo_hf.tasks.temporal_grounding.metrics import RANKS, THRESHOLDS
from internvideo_hf.tasks.temporal_grounding.predictions import read_predictions
from internvideo_hf.tasks.temporal_grounding.queries import Query, read_queries
from internvideo_hf.utils.fingerprints import json_sha256
from internvideo_hf.video.errors import VideoDecodeError

logger = logging.get_logger(__name__)
AUTO_CLASS = "AutoModelForTemporalGrounding"
_ABSENT = -100.0  # in place of an answer that is none; what the Trainer fills up with


# ---- training -------------------------------------------------------------------------------------------------------


def read_training_rows(
    path: Path,
    data_root: Path,
    *,
    queries: QueryData,
    labels: str | int | None = None,
    classes: Any = None,
    layout: str | None = None,
    skip_missing: bool = False,
) -> tuple[Any, None]:
    """Read the sentences for training or validation.

    Args:
        path: see `read_queries`.
        data_root: unused; the features are read later.
        queries: settings of the recipe, unused.
        labels: unused: there are no classes.
        classes: unused.
        layout: unused: detected.
        skip_missing: unused; features are looked for later.

    Returns:
        A row for each sentence, with the fields of `Query`; and None, for no classes.

    Raises:
        ManifestError: if the list is invalid.
        RecipeError: if no stretch is known.
    """
    if labels is not None or layout is not None:
        raise RecipeError("data.labels and data.layout change nothing in temporal_grounding. Leave them out.")
    found = [query for query in read_queries(path) if query.end is not None]
    if not any(query.has_stretch for query in found):
        raise RecipeError(f"{path} has no query with a stretch: there is nothing to learn from it.")
    return require_datasets().Dataset.from_list([asdict(query) for query in found]), None


def _make_collator(*, training: bool, **_: Any) -> "partial[dict[str, Any]]":
    return partial(collate, keep_edges=not training)


def _prepare(train: Any, validation: Any, model: PreTrainedModel, data: QueryData, about: Preparation) -> Prepared:
    """Open the features of both lists; the head will name the encoders and the window rule that they came from."""
    _check_settings(data)
    config: Any = model.config
    queries = [query for row in train if (query := Query(**row)).has_stretch]
    held_out = [Query(**row) for row in validation or ()]
    features = QueryFeatures.open(data, about.data_root, queries)
    config.features = features.facts
    encoder = _training_encoder(data, features.facts)
    config.text_encoder, config.text_revision = data.text_encoder or encoder.name, encoder.revision
    words = dict(zip(texts := _texts([*queries, *held_out]), encoder.encode(texts, progress=True), strict=True))
    training_set = QueryDataset(queries, features, words)
    _check_sizes(training_set[0], config, data)
    check_complete(features.missing, features.videos, features.folder, about.skip_missing)
    if not held_out:
        return Prepared(training_set, None, TRAINING, model)
    of_held_out = QueryFeatures.open(data, about.data_root, held_out, config.features)
    check_complete(of_held_out.missing, of_held_out.videos, of_held_out.folder, about.skip_missing)
    validation_set = QueryDataset(held_out, of_held_out, words)
    judge = _Judge(validation_set.queries, data)
    training = replace(
        TRAINING,
        preprocess_logits=judge.decode,
        compute_metrics=judge.scores,
        details=lambda prediction, rows, config: judge.answers(prediction),
    )
    return Prepared(training_set, validation_set, training, model)


def _texts(queries: Sequence[Query]) -> list[str]:
    return list(dict.fromkeys(query.text for query in queries))


def _training_encoder(data: QueryData, facts: Mapping[str, Any]) -> TextEncoder:
    name = data.text_encoder or facts.get("encoder")
    if name is None:
        raise RecipeError("Nothing says which model makes features of words: set data.queries.text_encoder.")
    try:
        return TextEncoder(name)
    except ValueError as error:
        raise RecipeError(f"{error} Set data.queries.text_encoder.") from error


def _check_sizes(sample: Sample, config: Any, data: QueryData) -> None:
    widths = {"video_size": sample.rows.features.shape[1], "text_size": sample.words.shape[1]}
    sources = {"video_size": f"The features of {data.folder}", "text_size": f"The words of {config.text_encoder}"}
    for name, width in widths.items():
        if width != getattr(config, name):
            raise RecipeError(
                f"{sources[name]} have {width} channels, and the model takes {getattr(config, name)}: set "
                f"model.config.{name}={width}."
            )


@dataclass(frozen=True)
class _Judge:
    """Decodes and scores what a model in training answers to the sentences for validation."""

    queries: Sequence[Query]
    data: QueryData

    def decode(self, outputs: tuple[Any, ...], labels: Any) -> torch.Tensor:
        """Return first and last row and score of each query's answers, `(batch, answers, 3)`, -100 where none is."""
        start_logits, end_logits = [part for part in outputs if part.ndim == 2][:2]  # beside the parts of the loss
        most = max(self.data.ranks)
        found = torch.full((len(start_logits), most, 3), _ABSENT, dtype=torch.float64)
        for row, spans in zip(found, decode(start_logits, end_logits, most, self.data.iou_threshold), strict=True):
            if spans:
                row[: len(spans)] = torch.tensor(spans, dtype=torch.float64)
        return found.to(start_logits.device, torch.float32)

    def answers(self, prediction: EvalPrediction) -> Answers:
        """Return the answers in seconds."""
        rows, all_edges = np.asarray(prediction.predictions), np.asarray(prediction.label_ids, dtype=np.float64)
        found: list[NDArray[np.float64] | None] = []
        durations = []
        for own, edges in zip(rows, all_edges, strict=True):
            edges = edges[np.isfinite(edges) & (edges != _ABSENT)]
            spans = [Span(int(first), int(last), score) for first, last, score in own.tolist() if score > _ABSENT]
            found.append(best_answers(spans, edges))
            durations.append(float(edges[-1]))
        return Answers(self.queries, found, self.data.thresholds, self.data.ranks, durations)

    def scores(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return the recalls in percent."""
        return self.answers(prediction).scores()


TRAINING = Training(
    auto_class=AUTO_CLASS,
    make_collator=_make_collator,
    label_names=("edges",),
    read=read_training_rows,
    section="queries",
    prepare=_prepare,
)


# ---- evaluation -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """What an evaluation reads: the sentences, and the features of their videos or answers from a file."""

    queries: Sequence[Query]
    features: QueryFeatures | None
    answers: Sequence[NDArray[np.float64] | None] | None = None

    def rows(self, samples: Samples, words: Mapping[str, torch.Tensor]) -> list[Row]:
        """Return a row for each video, with what reads it and its sentences, or why it cannot be read."""
        places: dict[int, list[int]] = {}
        for place, owner in enumerate(samples.owners.tolist()):
            places.setdefault(owner, []).append(place)
        videos = (str(row["video"]) for row in samples.videos)
        return [self._row(video, places.get(number, []), words) for number, video in enumerate(videos)]

    def _row(self, video: str, places: Sequence[int], words: Mapping[str, torch.Tensor]) -> Row:
        assert self.features is not None
        queries = [self.queries[place] for place in places]
        row = {"video": video, "file": video, "places": places, "queries": [asdict(query) for query in queries]}
        try:
            with one_video(video):
                features, file = self.features.only(video), self.features.path_of(video)
        except VideoDecodeError as error:
            return {**row, "failure": error}
        source = _VideoSource(features, queries, [words[query.text].numpy() for query in queries])
        return {**row, "file": str(file), "source": source}


@dataclass(frozen=True)
class _VideoSource:
    """What reads one video in any process, and the sentences about it.

    Args:
        features: of the video.
        queries: the sentences.
        words: features of each, `(words, channels)` float32.
    """

    features: QueryFeatures
    queries: Sequence[Query]
    words: Sequence[NDArray[np.float32]]

    def samples(self, rows: VideoRows) -> list[Sample]:
        """Return a sample for each sentence."""
        pairs = zip(self.queries, self.words, strict=True)
        return [Sample(query, rows, torch.from_numpy(words)) for query, words in pairs]


def _check_settings(data: QueryData) -> None:
    if not data.thresholds or not all(0 <= threshold < 1 for threshold in data.thresholds):
        raise RecipeError(f"data.queries.thresholds is {data.thresholds}, expected overlaps from 0 to below 1.")
    if not data.ranks or not all(type(rank) is int and rank > 0 for rank in data.ranks):
        raise RecipeError(f"data.queries.ranks is {data.ranks}, expected numbers of answers, 1 or more.")
    if not 0 < data.iou_threshold <= 1:
        raise RecipeError(f"data.queries.iou_threshold is {data.iou_threshold}, expected an overlap above 0, up to 1.")


def _check(protocol: Protocol) -> None:
    _check_settings(protocol.data.queries or QueryData())


def _needs_model(protocol: Protocol) -> bool:
    return (protocol.data.queries or QueryData()).predictions is None


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    data = protocol.data.queries or QueryData()
    queries = read_queries(list_path(data_root, protocol.data.list))
    videos = list(dict.fromkeys(query.video for query in queries))
    numbers = {video: number for number, video in enumerate(videos)}
    owners = np.array([numbers[query.video] for query in queries], dtype=np.int64)
    if data.predictions is not None:
        source = _Source(queries, None, read_predictions(data_root / data.predictions, queries))
    else:
        refusal = "finds no sentences. Train a head, such as by temporal_grounding/custom."
        config = config_of_kind(protocol, model, "ForTemporalGrounding", refusal)
        trained_on = getattr(config, "features", None)
        source = _Source(queries, QueryFeatures.open(data, data_root, queries, trained_on))
    rows: list[Row] = [{"video": video} for video in videos]
    return Samples(rows, owners, [query.text for query in queries], source=source)


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    data, source = protocol.data.queries or QueryData(), samples.source
    rule: dict[str, Any] = {"thresholds": data.thresholds, "ranks": data.ranks, "as_published": protocol.as_published}
    if source.answers is not None:
        answers = Answers(source.queries, source.answers, durations=_clip_durations(source.queries), **rule)
        return Outcome(answers.scores(), {}, {"device": "cpu", "pixels": {}}, answers)
    model = load_model(auto_class(AUTO_CLASS), run.model, run.device, protocol.dtype)
    encoder = text_encoder_of(model.config, data.text_encoder, run.model, device=model.device)
    texts = _texts(source.queries)
    words = dict(zip(texts, encoder.encode(texts, progress=not run.settings.quiet), strict=True))
    about = {"features": dict(source.features.facts), "words": encoder.name, "pixels": {}}
    facts = {**model_facts(model), **about}
    work = Work(
        _read_rows,
        partial(_answer, data=data, batch_size=run.settings.batch_size),
        Loader(load_by_name, run.model, (("auto_class", AUTO_CLASS), ("dtype", protocol.dtype))),
        file=_file_of,
        entries=_count_queries,
    )
    rows = source.rows(samples, words)
    known = [{name: value for name, value in row.items() if name != "source"} for row in rows]
    parts = run.parts_of(model, facts, json_sha256(known), asdict(data), encoder.revision)
    table, causes = run_rows(rows, model, work, run.settings, parts=parts)
    found: list[NDArray[np.float64] | None] = [None] * len(source.queries)
    durations = [float("nan")] * len(source.queries)
    owners = [number for number, row in enumerate(rows) for _ in row["places"]]
    places = [place for row in rows for place in row["places"]]
    for entry, (number, place) in enumerate(zip(owners, places, strict=True)):
        if number not in causes:
            own = table["answers"][entry].numpy()
            found[place], durations[place] = own[~np.isnan(own[:, 0])], float(table["duration"][entry])
    answers = Answers(source.queries, found, durations=durations, **rule)
    return Outcome(answers.scores(), causes, facts, answers)


def _clip_durations(queries: Sequence[Query]) -> list[float]:
    bounds = [(query.source_start, query.source_end) for query in queries]
    return [float("nan") if start is None or end is None else end - start for start, end in bounds]


def _file_of(row: Row) -> str:
    return str(row["file"])


def _count_queries(row: Row) -> int:
    return len(row["places"])


def _read_rows(row: Row) -> dict[str, torch.Tensor]:
    """Return the features of a video, and their times; see `Work.read`."""
    rows = row["source"].features.load(row["video"])
    return {"features": rows.features, "edges": torch.from_numpy(rows.edges)}


@torch.no_grad()
def _answer(
    model: PreTrainedModel, batch: Sequence[Read], data: QueryData, batch_size: int
) -> dict[str, torch.Tensor]:
    """Return start, end and score of the answers to each sentence, NaN where none is, and the video's duration."""
    samples = [
        sample
        for row, inputs in batch
        for sample in row["source"].samples(VideoRows(inputs["features"], inputs["edges"].numpy()))
    ]
    most = max(data.ranks)
    answers = torch.full((len(samples), most, 3), torch.nan, dtype=torch.float64)
    for first in range(0, len(samples), batch_size):
        some = samples[first : first + batch_size]
        inputs = {name: value for name, value in collate(some).items() if name not in ("videos", "labels")}
        outputs = model(**{name: tensor.to(model.device) for name, tensor in inputs.items()})
        spans = decode(outputs.start_logits, outputs.end_logits, most, data.iou_threshold)
        for place, (own, sample) in enumerate(zip(spans, some, strict=True), first):
            found = best_answers(own, sample.rows.edges)
            answers[place, : len(found)] = torch.from_numpy(found)
    durations = torch.tensor([float(sample.rows.edges[-1]) for sample in samples], dtype=torch.float64)
    return {"answers": answers, "duration": durations}


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    about = result["model"].get("features")
    if about is None:
        return {"answers": str(result["settings"]["data"]["queries"]["predictions"])}
    rule = "resized to {fixed_length} rows" if about.get("fixed_length") else "windows of {window}, stride {stride}"
    found = f"features of {about.get('encoder') or 'an unnamed one'}, {rule.format(**about)}"
    return {"encoder": found, "words": result["model"]["words"]}


_COLUMNS = (*(f"R{rank}@{threshold:g}" for rank in RANKS for threshold in THRESHOLDS), "mIoU")

TASK = Task(
    "temporal_grounding",
    training=TRAINING,
    evaluation=Evaluation(
        read=_read,
        run=_run,
        columns=_COLUMNS,
        settings=("data.queries", "as_published"),
        check=_check,
        facts=_facts,
        has_details=True,
        needs_model=_needs_model,
        on_engines=True,
    ),
)
