"""Temporal grounding: the stretch of an untrimmed video that a sentence asks for."""

from collections.abc import Iterator, Mapping, Sequence
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
from internvideo_hf.data.records import list_path, require_datasets
from internvideo_hf.data.samples import Row
from internvideo_hf.inference.runner import RunSettings, load_model, read_videos
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

    def load(self, row: Row) -> VideoRows:
        assert self.features is not None
        return self.features.load(str(row["video"]))


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
    causes: dict[int, str] = {}
    found: list[NDArray[np.float64] | None] = [None] * len(source.queries)
    durations = [float("nan")] * len(source.queries)
    for places, batch in _batches(samples, words, run.settings, causes):
        for place, sample, own in zip(places, batch, _answer(model, batch, data), strict=True):
            found[place], durations[place] = own, float(sample.rows.edges[-1])
    answers = Answers(source.queries, found, durations=durations, **rule)
    about = {"features": dict(source.features.facts), "words": encoder.name, "pixels": {}}
    return Outcome(answers.scores(), causes, {**model_facts(model), **about}, answers)


def _clip_durations(queries: Sequence[Query]) -> list[float]:
    bounds = [(query.source_start, query.source_end) for query in queries]
    return [float("nan") if start is None or end is None else end - start for start, end in bounds]


def _batches(
    samples: Samples, words: Mapping[str, torch.Tensor], settings: RunSettings, causes: dict[int, str]
) -> Iterator[tuple[list[int], list[Sample]]]:
    """Yield the places of queries and their samples, each video read once; note why others are unreadable."""
    queries, waiting = samples.source.queries, []
    read: Any = samples.source.load  # gives rows, not views
    for ((number, rows),) in read_videos(samples.videos, read, settings, description="Grounding"):
        if isinstance(rows, str):
            causes[number] = rows
            continue
        loaded: Any = rows
        for place in np.flatnonzero(samples.owners == number).tolist():
            waiting.append((place, Sample(queries[place], loaded, words[queries[place].text])))
            if len(waiting) == settings.batch_size:
                yield [place for place, _ in waiting], [sample for _, sample in waiting]
                waiting = []
    if waiting:
        yield [place for place, _ in waiting], [sample for _, sample in waiting]


@torch.no_grad()
def _answer(model: PreTrainedModel, batch: Sequence[Sample], data: QueryData) -> list[NDArray[np.float64]]:
    inputs = {name: value for name, value in collate(batch).items() if name not in ("videos", "labels")}
    outputs = model(**{name: tensor.to(model.device) for name, tensor in inputs.items()})
    spans = decode(outputs.start_logits, outputs.end_logits, max(data.ranks), data.iou_threshold)
    return [best_answers(own, sample.rows.edges) for own, sample in zip(spans, batch, strict=True)]


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
    ),
)
