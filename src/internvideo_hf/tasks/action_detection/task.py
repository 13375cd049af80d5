"""Action detection: who does what in the key frames of a video, and where."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoVideoProcessor, EvalPrediction
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.auto import auto_class
from internvideo_hf.data.records import ManifestError, list_path
from internvideo_hf.data.samples import Row
from internvideo_hf.inference.rows import Loader
from internvideo_hf.inference.runner import load_by_name, load_model
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.recipes.labels import read_classes
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.action_detection.annotations import read_predictions
from internvideo_hf.tasks.action_detection.answers import Answers
from internvideo_hf.tasks.action_detection.data import (
    IGNORED,
    ClipRule,
    KeyFrameDataset,
    collate,
    read_key_frames,
    with_sources,
)
from internvideo_hf.tasks.action_detection.lists import (
    found_in,
    read_evaluation_list,
    read_training_rows,
    scored_classes,
    truth_of,
    with_files,
)
from internvideo_hf.tasks.action_detection.videos import VideoFolder
from internvideo_hf.tasks.base import Preparation, Prepared, Task, Training
from internvideo_hf.tasks.box_views import MULTIPLE
from internvideo_hf.tasks.boxed_clips import Sample, box_work, run_boxes
from internvideo_hf.tasks.classifier_training import logits_of
from internvideo_hf.tasks.protocol import (
    BoxData,
    Evaluation,
    Outcome,
    Protocol,
    Run,
    Samples,
    config_of_kind,
    model_facts,
)
from internvideo_hf.utils.fingerprints import json_sha256
from internvideo_hf.utils.pretrained import load_pretrained

AUTO_CLASS = "AutoModelForVideoActionDetection"


# ---- training -------------------------------------------------------------------------------------------------------


def _make_collator(*, training: bool, multiple: int = MULTIPLE, **_: Any) -> "partial[dict[str, Any]]":
    return partial(collate, fill_gaps=not training, multiple=multiple)


def _prepare(
    train: Any,
    validation: Any,
    model: PreTrainedModel,
    boxes: BoxData,
    about: Preparation,
) -> Prepared:
    """Open the videos of both lists; validation takes the true boxes."""
    data_root, seed, skip_missing, processor, failures = about
    classes, folder = classes_of(model.config), data_root / boxes.folder
    rule, videos = ClipRule.of(processor, boxes, len(classes)), VideoFolder(folder, boxes.begin)
    rule.check_training()
    samples = KeyFrameDataset(
        with_files(train, videos, folder, skip_missing), videos, rule, training=True, seed=seed, failures=failures
    )
    multiple = partial(_make_collator, multiple=model.config.patch_size)
    training = replace(TASK_TRAINING, make_collator=multiple)
    if validation is None:
        return Prepared(samples, None, training, model)
    rows = with_files(validation, videos, folder, skip_missing)
    judge = _Judge(rows, classes, scored_classes(boxes, classes, data_root), boxes.min_overlap)
    training = replace(
        training,
        compute_metrics=judge.scores,
        details=lambda prediction, rows, config: judge.answers(prediction),
    )
    held_out = KeyFrameDataset(rows, videos, rule, training=False, failures=failures)
    return Prepared(samples, held_out, training, model)


@dataclass(frozen=True)
class _Judge:
    """Scores what a model in training finds in the validation key frames."""

    rows: Sequence[Row]
    classes: Sequence[str]
    scored: Sequence[int]
    min_overlap: float

    def answers(self, prediction: EvalPrediction) -> Answers:
        """Return all boxes and actions beside the true ones."""
        logits, labels = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
        numbers, places = np.nonzero(labels[..., 0] != IGNORED)
        scores = torch.from_numpy(logits[numbers, places]).float().sigmoid().numpy()
        rows = list(self.rows)
        return Answers(
            found_in(rows, numbers, places, scores), truth_of(rows), self.classes, self.scored, self.min_overlap
        )

    def scores(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return the mean average precision in percent."""
        return self.answers(prediction).scores()


TASK_TRAINING = Training(
    auto_class=AUTO_CLASS,
    make_collator=_make_collator,
    label_names=("labels",),
    read=read_training_rows,
    section="boxes",
    prepare=_prepare,
    preprocess_logits=logits_of,
)


# ---- evaluation -----------------------------------------------------------------------------------------------------


def _needs_model(protocol: Protocol) -> bool:
    return (protocol.data.boxes or BoxData()).predictions is None


def _check(protocol: Protocol) -> None:
    boxes = protocol.data.boxes or BoxData()
    if not 0 < boxes.min_overlap <= 1 or not 0 <= boxes.min_score <= 1:
        raise RecipeError(
            f"data.boxes.min_overlap is {boxes.min_overlap} and min_score {boxes.min_score}, expected numbers from 0 "
            "to 1."
        )


def _classes(protocol: Protocol, data_root: Path, model: str) -> list[str] | None:
    """Return the classes that the protocol or the model names; None if neither does."""
    wanted = None if protocol.data.labels is None else read_classes(protocol.data.labels, data_root)
    if not _needs_model(protocol):
        return wanted
    refusal = "detects no actions. Train a detector, such as by action_detection/custom."
    config = config_of_kind(protocol, model, "ForVideoActionDetection", refusal)
    names = classes_of(config)
    unnamed = names == [f"LABEL_{number}" for number in range(len(names))]
    if wanted is not None and names != wanted and not (unnamed and len(names) == len(wanted)):
        raise RecipeError(
            f"{model} has {len(names)} classes, the first of which is {names[0]}; data.labels={protocol.data.labels} "
            f"has {len(wanted)}, the first {wanted[0]}. Set data.labels=null for the model's own."
        )
    return wanted or ([str(number + 1) for number in range(len(names))] if unnamed else names)


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    data, boxes = protocol.data, protocol.data.boxes or BoxData()
    path = list_path(data_root, data.list)
    listed = read_evaluation_list(path, data_root, boxes, _classes(protocol, data_root, model))
    videos = list(dict.fromkeys(row["video"] for row in listed.rows))
    return Samples([{"video": video} for video in videos], np.arange(len(videos)), source=(listed, data_root))


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    listed, data_root = samples.source
    boxes = protocol.data.boxes or BoxData()
    if boxes.predictions is not None:
        path = data_root / boxes.predictions
        found = read_predictions(path, listed.classes).without(listed.excluded)
        if set(found.key_frames).isdisjoint(listed.truth.key_frames):
            raise ManifestError(
                str(path), None, "none of its key frames is annotated", f"Give predictions for {protocol.data.list}."
            )
        facts: dict[str, Any] = {"device": "none", "pixels": {}}
        causes: dict[int, str] = {}
    else:
        model = load_model(auto_class(AUTO_CLASS), run.model, run.device, protocol.dtype)
        processor = load_pretrained(AutoVideoProcessor, run.model)
        processor.configure(protocol.pixels)
        facts = {**model_facts(model), "pixels": {"": processor.to_dict()}}
        rule = ClipRule.of(processor, boxes, len(listed.classes))
        loader = Loader(load_by_name, run.model, (("auto_class", AUTO_CLASS), ("dtype", protocol.dtype)))
        work = box_work(partial(read_key_frames, rule=rule), _of_batch, loader, {})
        rows = with_sources(listed.rows, VideoFolder(data_root / boxes.folder, boxes.begin))
        parts = run.parts_of(model, facts, json_sha256(listed.rows), asdict(boxes))
        answered = run_boxes(rows, model, work, run.settings, parts, "timestamp")
        scores = answered.answers["scores"].numpy()
        found = found_in(listed.rows, answered.rows, answered.places, scores)
        causes = _causes(samples.videos, listed.rows, answered.causes)
    facts["boxes"] = {"key_frames": len(listed.rows), "boxes": sum(len(row["boxes"]) for row in listed.rows)}
    answers = Answers(found, listed.truth, listed.classes, listed.scored, boxes.min_overlap)
    return Outcome(answers.scores(), causes, facts, answers)


def _causes(videos: Sequence[Row], rows: Sequence[Row], key_frames: Mapping[int, str]) -> dict[int, str]:
    """Return why key frames of a video could not be read, by the number of the video."""
    failed: dict[str, list[str]] = {}
    for number, cause in key_frames.items():
        failed.setdefault(rows[number]["video"], []).append(cause)
    return {
        number: causes[0] if len(causes) == 1 else f"{len(causes)} key frames; {causes[0]}"
        for number, row in enumerate(videos)
        if (causes := failed.get(row["video"], []))
    }


@torch.no_grad()
def _of_batch(model: PreTrainedModel, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
    """Return the scores of all boxes, see `box_work`."""
    inputs = collate(samples, multiple=model.config.patch_size)
    box_mask = inputs["box_mask"]
    pixels = inputs.pop("pixel_values_videos").to(model.device, model.dtype)
    logits = model(pixels, **{name: value.to(model.device) for name, value in inputs.items()}).logits
    return {"scores": logits.float().sigmoid().cpu()[box_mask]}


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    boxes, about = result["settings"]["data"]["boxes"] or asdict(BoxData()), result["model"]["boxes"]
    if boxes["predictions"] is not None:
        return {"boxes": f"of {boxes['predictions']}"}
    origin = "true ones"
    if boxes["detections"] is not None:
        origin = f"of {boxes['detections']} with scores from {boxes['min_score']:g}"
    how = {"frames": "as published, with its mistakes"} if boxes["as_published"] else {}
    return {"boxes": f"{about['boxes']} in {about['key_frames']} key frames, {origin}", **how}


TASK = Task(
    "action_detection",
    training=TASK_TRAINING,
    evaluation=Evaluation(
        read=_read,
        run=_run,
        columns=("mAP",),
        settings=("data.labels", "data.boxes"),
        check=_check,
        facts=_facts,
        has_details=True,
        needs_model=_needs_model,
        on_engines=True,
    ),
)
