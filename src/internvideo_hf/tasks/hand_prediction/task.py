"""Future hand prediction: where both hands will be at moments to come, as Ego4D asks it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoVideoProcessor, EvalPrediction
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import logging

from internvideo_hf.auto import auto_class
from internvideo_hf.data.records import ManifestError, list_path
from internvideo_hf.data.samples import Row
from internvideo_hf.inference.rows import Loader, Work, of_views, run_rows
from internvideo_hf.inference.runner import Views, load_by_name, load_model
from internvideo_hf.models.common.hand_prediction import HAND_LABELS
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.base import Preparation, Prepared, Task, Training
from internvideo_hf.tasks.classifier_training import logits_of
from internvideo_hf.tasks.hand_prediction.annotations import HandClip, read_hands, read_predictions
from internvideo_hf.tasks.hand_prediction.answers import Answers
from internvideo_hf.tasks.hand_prediction.data import HandDataset, collate, read_training_rows, rows_of
from internvideo_hf.tasks.hand_prediction.metrics import COLUMNS, HANDS, POINTS_SHAPE
from internvideo_hf.tasks.hand_prediction.prediction import (
    PLACEMENTS,
    ClipReader,
    columns_of,
    hands_of,
    points_in_video,
    predict_points,
)
from internvideo_hf.tasks.hand_prediction.views import TrainingView
from internvideo_hf.tasks.protocol import (
    Evaluation,
    HandData,
    Outcome,
    Protocol,
    Run,
    Samples,
    config_of_kind,
    model_facts,
)
from internvideo_hf.utils.fingerprints import json_sha256
from internvideo_hf.utils.pretrained import load_pretrained

logger = logging.get_logger(__name__)
AUTO_CLASS = "AutoModelForHandPrediction"


# ---- training -------------------------------------------------------------------------------------------------------


def _make_collator(*, training: bool, **_: Any) -> "partial[dict[str, Any]]":
    return partial(collate, fill_gaps=not training)


def _prepare(train: Any, validation: Any, model: PreTrainedModel, hands: HandData, about: Preparation) -> Prepared:
    """Make the samples of both lists; validation sees one clip of a video."""
    reader = ClipReader(about.processor, 1, bool(model.config.points_of_video))
    columns, view = columns_of(model.config), TrainingView.of(about.processor, hands)
    samples = HandDataset(train, reader, columns, view, seed=about.seed, failures=about.failures)
    start_at_mean(model, samples)
    if validation is None:
        return Prepared(samples, None, TRAINING, model)
    judge = _Judge(list(validation), model.config)
    training = replace(
        TRAINING,
        compute_metrics=judge.scores,
        details=lambda prediction, rows, config: judge.answers(prediction),
    )
    held_out = HandDataset(validation, reader, columns, failures=about.failures)
    return Prepared(samples, held_out, training, model)


def start_at_mean(model: PreTrainedModel, samples: HandDataset) -> None:
    """Set the bias of a new head, which is 0, to the mean label, of 64 samples.

    Coordinates are far from 0: the steps towards their mean are the same for every clip, and a small model on the way
    there forgets how to tell clips apart.

    Args:
        model: a hand predictor.
        samples: for training.
    """
    bias = model.get_parameter("classifier.bias")
    if bias.any():
        return
    numbers = np.linspace(0, len(samples) - 1, min(len(samples), 64)).astype(int)
    drawn = [sample for sample in (samples[int(number)] for number in numbers) if "failure" not in sample]
    if not drawn:
        return
    labels, known = (torch.stack([sample[name] for sample in drawn]).float() for name in ("labels", "label_mask"))
    with torch.no_grad():
        bias.copy_(labels.sum(dim=0) / known.sum(dim=0).clamp(min=1))


@dataclass(frozen=True)
class _Judge:
    """Scores what a model in training predicts for the validation list."""

    rows: Sequence[Row]
    config: PreTrainedConfig

    def answers(self, prediction: EvalPrediction) -> Answers:
        """Return all predictions beside the true points."""
        _, placements = map(np.asarray, prediction.label_ids or ())
        found = points_in_video(np.asarray(prediction.predictions, np.float64), placements, self.config)
        found[np.isnan(placements).any(axis=1)] = np.nan
        return Answers([row["name"] for row in self.rows], found, _labels(self.rows))

    def scores(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return Ego4D's scores, in pixels of the videos."""
        return self.answers(prediction).scores()


def _labels(rows: Sequence[Row]) -> NDArray[np.float64]:
    return np.array([row["points"] for row in rows], np.float64).reshape(-1, len(HAND_LABELS))


TRAINING = Training(
    auto_class=AUTO_CLASS,
    make_collator=_make_collator,
    label_names=("labels", PLACEMENTS),
    read=read_training_rows,
    section="hands",
    prepare=_prepare,
    preprocess_logits=logits_of,
)


# ---- evaluation -----------------------------------------------------------------------------------------------------


def _hands(protocol: Protocol) -> HandData:
    return protocol.data.hands or HandData()


def _needs_model(protocol: Protocol) -> bool:
    return _hands(protocol).predictions is None


def _check(protocol: Protocol) -> None:
    if protocol.views.get("num_crops", 1) != 1:
        raise RecipeError("num_crops must be 1 in hand_prediction: points of several crops are not averaged.")
    if _hands(protocol).predictions_views < 1:
        raise RecipeError(
            f"data.hands.predictions_views is {_hands(protocol).predictions_views}, expected 1 or more; 30 in files "
            "of Ego4D's baseline."
        )


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    path, hands = list_path(data_root, protocol.data.list), _hands(protocol)
    clips = _distinct(read_hands(path), path)
    if hands.predictions is not None:
        names: list[Row] = [{"video": clip.name} for clip in clips]
        return Samples(names, np.arange(len(clips)), source=(clips, data_root / hands.predictions))
    refusal = "predicts no hands. Train a model for it, such as by ego4d/hand_prediction."
    config = config_of_kind(protocol, model, "ForHandPrediction", refusal)
    shown = np.array([clip.known for clip in clips]).reshape(-1, *POINTS_SHAPE).any(axis=(1, 3))
    for hand, count in zip(HANDS, shown.sum(axis=0), strict=True):
        if count and hand not in hands_of(columns_of(config)):
            raise RecipeError(f"{model} predicts no {hand} hand, which {count} clips of {path} show. Train it again.")
    rows: list[Row] = [*rows_of(clips, path, data_root / hands.folder)]
    return Samples(rows, np.arange(len(rows)), source=(clips, None))


def _distinct(clips: Sequence[HandClip], path: Path) -> list[HandClip]:
    """Return one clip for each name, the last one, as the original's evaluation takes it."""
    counts = Counter(clip.name for clip in clips)
    if doubled := [name for name, count in counts.items() if count > 1]:
        logger.warning(f"{path}: {len(doubled)} clips are there twice, such as {doubled[0]}; the last one counts.")
    return list({clip.name: clip for clip in clips}.values())


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    clips, predictions = samples.source
    names, labels = [clip.name for clip in clips], np.array([clip.points for clip in clips])
    if predictions is not None:
        found = _of_file(predictions, names, _hands(protocol).predictions_views)
        answers = Answers(names, found, labels)
        return Outcome(answers.scores(), {}, {"device": "none", "pixels": {}}, answers)
    model = load_model(auto_class(AUTO_CLASS), run.model, run.device, protocol.dtype)
    processor = load_pretrained(AutoVideoProcessor, run.model)
    processor.configure(protocol.pixels)
    num_clips = protocol.views.get("num_clips") or processor.views[0]
    facts = {**model_facts(model), "views": [num_clips, 1], "pixels": {"": processor.to_dict()}}

    work = Work(
        ClipReader(processor, num_clips, bool(model.config.points_of_video)),
        partial(of_views, compute=partial(_points, batch_size=run.settings.batch_size)),
        Loader(load_by_name, run.model, (("auto_class", AUTO_CLASS), ("dtype", protocol.dtype))),
        num_clips,
    )
    parts = run.parts_of(model, facts, json_sha256([dict(row) for row in samples.videos]))
    table, causes = run_rows(samples.videos, model, work, run.settings, parts=parts, description="Clips")
    answers = Answers(names, table["points"].numpy(), labels)
    read = int((~np.isnan(answers.predictions).any(axis=1)).sum())
    return Outcome(answers.scores(), causes, {**facts, "scored_clips": read}, answers)


def _points(model: PreTrainedModel, views: Views, batch_size: int) -> dict[str, torch.Tensor]:
    return {"points": torch.from_numpy(predict_points(model, views, batch_size))}


def _of_file(path: Path, names: Sequence[str], views: int) -> NDArray[np.float64]:
    """Return the predictions of a file, `(clips, 20)`; the original leaves out clips that it lacks."""
    found = read_predictions(path, views)
    if missing := [name for name in names if name not in found]:
        cause = f"{len(missing)} of {len(names)} clips of the list are missing, such as {missing[0]}"
        raise ManifestError(str(path), None, cause, "Predict all of them, by the names CLIP_FRAME of the challenge.")
    return np.array([found[name] for name in names])


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    hands = result["settings"]["data"]["hands"] or {}
    if hands.get("predictions") is not None:
        views = hands["predictions_views"]
        found = {"hands": f"of {hands['predictions']}{f', the sum of {views} views' if views > 1 else ''}"}
    else:
        found = {"views": f"{result['model']['views'][0]} clips, mean of their points"}
    unit = "mean displacement in pixels of the videos; smaller is better"
    if result["damaged"]:
        unit += f"; of the {result['model']['scored_clips']} clips that could be read: damaged ones are left out"
    return {
        **found,
        "scores": unit if result["scores"] else "none: no clip is annotated; --report has the predictions",
    }


TASK = Task(
    "hand_prediction",
    training=TRAINING,
    evaluation=Evaluation(
        read=_read,
        run=_run,
        columns=COLUMNS,
        settings=("data.hands",),
        check=_check,
        facts=_facts,
        has_details=True,
        needs_model=_needs_model,
        on_engines=True,
    ),
)
