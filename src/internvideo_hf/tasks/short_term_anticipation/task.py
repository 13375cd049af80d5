"""Short-term anticipation: which object will be touched next, what will be done to it, and when (Ego4D)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoVideoProcessor, EvalPrediction
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.auto import auto_class
from internvideo_hf.data.records import list_path
from internvideo_hf.data.samples import Row
from internvideo_hf.inference.rows import Loader
from internvideo_hf.inference.runner import load_by_name, load_model
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.base import Preparation, Prepared, Task, Training
from internvideo_hf.tasks.box_views import MULTIPLE
from internvideo_hf.tasks.boxed_clips import Sample, box_work, run_boxes
from internvideo_hf.tasks.protocol import (
    Evaluation,
    InteractionData,
    Outcome,
    Protocol,
    Run,
    Samples,
    config_of_kind,
    model_facts,
)
from internvideo_hf.tasks.short_term_anticipation.annotations import read_interactions, read_predictions
from internvideo_hf.tasks.short_term_anticipation.answers import Answers
from internvideo_hf.tasks.short_term_anticipation.data import (
    ClipRule,
    MomentDataset,
    check_settings,
    collate,
    find_detections,
    read_moments,
    read_training_rows,
    rows_of,
)
from internvideo_hf.tasks.short_term_anticipation.metrics import SCORES, InteractionTable, Scoring
from internvideo_hf.utils.fingerprints import json_sha256
from internvideo_hf.utils.pretrained import load_pretrained

AUTO_CLASS = "AutoModelForShortTermAnticipation"


def interactions_in(
    rows: Sequence[Row], numbers: Sequence[int], places: Sequence[int], verbs: Sequence[int], times: Sequence[float]
) -> InteractionTable:
    """Return what a model anticipates for the objects of moments; noun and score are those of the object.

    Args:
        rows: of `data.rows_of`.
        numbers: row of each answer, `(n,)`.
        places: place of its box in the row, `(n,)`.
        verbs: `(n,)`.
        times: in seconds, `(n,)`.
    """
    chosen = [(rows[number], place) for number, place in zip(numbers, places, strict=True)]
    return InteractionTable(
        [row["uid"] for row, _ in chosen],
        np.array([row["boxes"][place] for row, place in chosen], dtype=np.float64).reshape(-1, 4),
        np.array([row["nouns"][place] for row, place in chosen], dtype=np.int64),
        np.array(verbs, dtype=np.int64),
        np.array(times, dtype=np.float64),
        np.array([row["scores"][place] for row, place in chosen], dtype=np.float64),
    )


def _scoring(data: InteractionData) -> Scoring:
    return Scoring(data.min_overlap, data.time_tolerance, data.top_k)


# ---- training -------------------------------------------------------------------------------------------------------


def _make_collator(*, training: bool, multiple: int = MULTIPLE, **_: Any) -> "partial[dict[str, Any]]":
    return partial(collate, fill_gaps=not training, multiple=multiple)


def _answers_of(outputs: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """Return the verb and the time of each box from a model's outputs; see `Training.preprocess_logits`."""
    _, _, logits, times = outputs[:4]  # behind the two losses
    return logits.argmax(dim=-1), times.float()


def _prepare(
    train: Any, validation: Any, model: PreTrainedModel, interactions: InteractionData, about: Preparation
) -> Prepared:
    """Make the samples of both lists; validation sees detected objects if there are some, or else the true ones."""
    rule = ClipRule.of(about.processor, interactions)
    rule.check_training()
    samples = MomentDataset(train, rule, training=True, seed=about.seed, failures=about.failures)
    training = replace(TRAINING, make_collator=partial(_make_collator, multiple=model.config.patch_size))
    if validation is None:
        return Prepared(samples, None, training, model)
    judge = _Judge(list(validation), _scoring(interactions))
    training = replace(
        training,
        compute_metrics=judge.scores,
        details=lambda prediction, rows, config: judge.answers(prediction),
    )
    return Prepared(samples, MomentDataset(validation, rule, training=False, failures=about.failures), training, model)


@dataclass(frozen=True)
class _Judge:
    """Scores what a model in training anticipates at the moments of validation."""

    rows: Sequence[Row]
    scoring: Scoring

    def answers(self, prediction: EvalPrediction) -> Answers:
        """Return all interactions beside the true ones."""
        verbs, times = map(np.asarray, prediction.predictions)
        labels: Any = prediction.label_ids
        numbers, places = np.nonzero(np.asarray(labels[-1]) == 1)  # the mask of boxes
        columns = numbers, places, verbs[numbers, places], times[numbers, places]
        found = interactions_in(self.rows, *(column.tolist() for column in columns))
        return Answers(found, _truth_of(self.rows), [row["uid"] for row in self.rows], {}, self.scoring)

    def scores(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return the twelve numbers, in percent."""
        return self.answers(prediction).scores()


def _truth_of(rows: Sequence[Row]) -> InteractionTable:
    chosen = [(row, place) for row in rows for place in range(len(row["true_boxes"]))]
    columns = [[row[f"true_{name}"][place] for row, place in chosen] for name in ("boxes", "nouns", "verbs", "times")]
    return InteractionTable([row["uid"] for row, _ in chosen], *map(np.array, columns))


TRAINING = Training(
    auto_class=AUTO_CLASS,
    make_collator=_make_collator,
    label_names=("verb_labels", "time_labels", "box_mask"),
    read=read_training_rows,
    section="interactions",
    prepare=_prepare,
    preprocess_logits=_answers_of,
)


# ---- evaluation -----------------------------------------------------------------------------------------------------


def _settings(protocol: Protocol) -> InteractionData:
    return protocol.data.interactions or InteractionData()


def _needs_model(protocol: Protocol) -> bool:
    return _settings(protocol).predictions is None


def _check(protocol: Protocol) -> None:
    check_settings(_settings(protocol))


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    path, data = list_path(data_root, protocol.data.list), _settings(protocol)
    annotations = read_interactions(path)
    uids = [moment.uid for moment in annotations.moments]
    if data.predictions is not None:
        found = read_predictions(data_root / data.predictions, uids)
        names: list[Row] = [{"video": uid} for uid in uids]
        return Samples(names, np.arange(len(uids)), source=(annotations, found))
    refusal = "anticipates no interactions. Train a model for it, such as by ego4d/short_term_anticipation."
    config_of_kind(protocol, model, "ForShortTermAnticipation", refusal)
    detections = find_detections(annotations, data, data_root)
    rows: list[Row] = [*rows_of(annotations.moments, detections, path, data_root / data.folder)]
    return Samples(rows, np.arange(len(rows)), source=(annotations, None))


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    annotations, found = samples.source
    data = _settings(protocol)
    asked = None if found is None else set(found.frames)
    causes: dict[int, str] = {}
    facts: dict[str, Any] = {"device": "none", "pixels": {}}
    if found is None:
        model = load_model(auto_class(AUTO_CLASS), run.model, run.device, protocol.dtype)
        processor = load_pretrained(AutoVideoProcessor, run.model)
        processor.configure(protocol.pixels)
        facts = {**model_facts(model), "pixels": {"": processor.to_dict()}}
        rule, rows = ClipRule.of(processor, data), samples.videos
        loader = Loader(load_by_name, run.model, (("auto_class", AUTO_CLASS), ("dtype", protocol.dtype)))
        work = box_work(partial(read_moments, rule=rule), _of_batch, loader, {"verb": -1})
        parts = run.parts_of(model, facts, json_sha256([dict(row) for row in rows]))
        answered = run_boxes(rows, model, work, run.settings, parts, "frame")
        columns = [answered.answers[name].tolist() if answered.answers else [] for name in ("verb", "time")]
        found = interactions_in(rows, answered.rows.tolist(), answered.places.tolist(), *columns)
        causes = answered.causes
        facts["objects"] = sum(len(row["boxes"]) for row in rows)
        asked = {row["uid"] for row in rows if row["boxes"]}
    truth = annotations.table() if annotations.is_annotated else None
    if truth is not None and len(truth) and protocol.as_published:
        truth = truth.of_frames(asked or ())
        if not len(truth):
            raise RecipeError(
                "No annotated moment has an answer, and moments without one are left out as published: nothing is "
                f"scored. Check {data.predictions or data.detections or protocol.data.list}, or count them as missed "
                "by as_published=false."
            )
    uids = [moment.uid for moment in annotations.moments]
    answers = Answers(found, truth, uids, annotations.nouns, _scoring(data))
    return Outcome(answers.scores(), causes, facts, answers)


@torch.no_grad()
def _of_batch(model: PreTrainedModel, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """Return the verb and the time of all objects, see `box_work`."""
    inputs = collate(samples, multiple=model.config.patch_size)
    box_mask = inputs["box_mask"].bool()
    pixels = inputs.pop("pixel_values_videos").to(model.device, model.dtype)
    outputs = model(pixels, **{name: value.to(model.device) for name, value in inputs.items()})
    return {
        "verb": outputs.logits.argmax(dim=-1).cpu()[box_mask],
        "time": outputs.times.float().cpu()[box_mask],
    }


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    data = result["settings"]["data"]["interactions"] or asdict(InteractionData())
    if data["predictions"] is not None:
        objects = f"answers of {data['predictions']}"
    else:
        origin = "true ones"
        if data["detections"] is not None:
            origin = f"of {data['detections']} with scores from {data['min_score']:g}"
        objects = f"{result['model']['objects']}, {origin}"
    if not result["scores"]:
        return {"objects": objects, "scores": "none: moments are not annotated; --report has the answers"}
    how = {"scoring": "as published: moments without objects count as neither found nor missed"}
    return {"objects": objects, **(how if result["settings"]["as_published"] else {})}


TASK = Task(
    "short_term_anticipation",
    training=TRAINING,
    evaluation=Evaluation(
        read=_read,
        run=_run,
        columns=SCORES,
        settings=("data.interactions", "as_published"),
        check=_check,
        facts=_facts,
        has_details=True,
        needs_model=_needs_model,
        on_engines=True,
    ),
)
