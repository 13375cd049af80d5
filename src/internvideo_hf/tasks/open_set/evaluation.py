"""Evaluation of open-set recognition: videos of known and of unknown classes, scored by any method."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.data.manifests import TextLabelError, find_classes
from internvideo_hf.data.records import list_path
from internvideo_hf.inference.classifier import Classifier
from internvideo_hf.inference.open_set.observations import Observations
from internvideo_hf.inference.open_set.observer import Observer, scorer_for
from internvideo_hf.inference.open_set.scorer import OpenSetScorer
from internvideo_hf.inference.rows import video_name
from internvideo_hf.models.common.loading import check_classifier, classes_of
from internvideo_hf.recipes.reading import RecipeError, build
from internvideo_hf.tasks.classifier_evaluation import facts_of, load_classifier, views_of
from internvideo_hf.tasks.labelled_clips import read_labelled_clips
from internvideo_hf.tasks.open_set import metrics
from internvideo_hf.tasks.open_set.answers import Answers
from internvideo_hf.tasks.protocol import (
    Evaluation,
    Outcome,
    Protocol,
    Run,
    Samples,
    check_list,
    read_rows,
    unique_clips,
)

LISTS = ("known", "unknown", "calibration")
_SEED = 123  # of the draws of unknown classes, as published


@dataclass(frozen=True)
class OpenSetSettings:
    """Settings of the scorer of unknown videos, `open_set` of a protocol.

    Args:
        method: a name in `internvideo_hf.inference.open_set.methods.METHODS`.
        options: of the method.
        accepted: fraction of `data.calibration` to accept, above 0, at most 1.
        rule: as of `internvideo_hf.inference.open_set.thresholds.find_threshold`.
        scorer: a folder that `internvideo calibrate` wrote, in place of the others and of `data.calibration`.
    """

    method: str = "max_softmax"
    options: dict[str, Any] = field(default_factory=dict)
    accepted: float = 0.95
    rule: str = "accepted"
    scorer: str | None = None


class Seen(NamedTuple):
    """Scores and answers of the videos of a list.

    Args:
        scores: how unknown each is, float64, `(videos,)`; NaN for an unreadable one.
        answers: the best class of each, `(videos,)`; -1 for an unreadable one.
        confidence: in that class, 0-1, `(videos,)`; NaN for an unreadable one.
    """

    scores: NDArray[np.float64]
    answers: NDArray[np.int64]
    confidence: NDArray[np.float64]


def settings_of(protocol: Protocol) -> OpenSetSettings:
    """Return the settings of a protocol.

    Args:
        protocol: of this task.

    Raises:
        RecipeError: if one is unknown or invalid.
    """
    settings: OpenSetSettings = build(OpenSetSettings, protocol.open_set, "open_set")
    return settings


def _check(protocol: Protocol) -> None:
    settings, data = settings_of(protocol), protocol.data
    check_list(data.layout, data.labels)
    if data.unknown is None:
        raise RecipeError("data.unknown is missing: set it to a list of videos of none of the classes.")
    if (settings.scorer is None) == (data.calibration is None):
        raise RecipeError(
            "Set one of data.calibration, a list of known videos for the threshold, and open_set.scorer, a folder "
            "that `internvideo calibrate` wrote."
        )
    if settings.scorer is None:
        try:
            OpenSetScorer(settings.method, accepted=settings.accepted, rule=settings.rule, **settings.options)
        except ValueError as error:
            raise RecipeError(f"open_set: {error}") from error
    metrics.require()


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    classes, data = classes_of(check_classifier(model)), protocol.data
    lists = {"known": read_labelled_clips(data, data_root, model, classes)}
    lists["unknown"] = read_unknown(protocol, data_root, classes)
    lists["calibration"] = []
    if data.calibration is not None:
        calibration = replace(data, list=data.calibration, only=None)
        lists["calibration"] = read_labelled_clips(calibration, data_root, model, classes)
    owners: dict[tuple[Any, ...], str] = {}
    for name, rows in lists.items():
        for row in rows:
            key = (row["video"], row.get("start"), row.get("end"))
            if owners.setdefault(key, name) != name:
                raise RecipeError(
                    f"{video_name(row)} is in the lists of {owners[key]} and of {name} videos, expected one of them. "
                    "Remove it from the other."
                )
    rows = [row for rows in lists.values() for row in rows]
    videos, owned = unique_clips(rows)
    labels = np.array([-1 if row["label"] is None else row["label"] for row in rows])
    return Samples(videos, owned, labels=labels, classes=classes, source={name: len(lists[name]) for name in LISTS})


def read_unknown(protocol: Protocol, data_root: Path, classes: list[str]) -> list[dict[str, Any]]:
    """Read the list of unknown videos, whose labels, if there are any, are classes of their own.

    Args:
        protocol: of this task.
        data_root: the folder of the list and of the videos.
        classes: names of the known classes.

    Raises:
        RecipeError: if a label is the name of a known class.
        ManifestError: if the list is invalid.
    """
    data = replace(protocol.data, list=str(protocol.data.unknown), only=None)
    try:
        return read_rows(data, data_root)
    except TextLabelError:
        names = find_classes(list_path(data_root, data.list), layout=data.layout, check_files=False)
    if both := [name for name in names if name in classes]:
        raise RecipeError(
            f"{data.list}, the list of unknown videos, has videos of {len(both)} known classes, such as {both[0]!r}. "
            "Remove them."
        )
    return read_rows(data, data_root, labels=names)


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    classifier = load_classifier(protocol, run)
    scorer, observer = _scorer(protocol, classifier)
    rows = [
        {**samples.videos[owner], "label": int(label)}
        for owner, label in zip(samples.owners, samples.labels, strict=True)
    ]
    lists, start = {}, 0
    for name in LISTS:
        lists[name] = rows[start : start + samples.source[name]]
        start += samples.source[name]
    facts = facts_of(classifier) | {"method": scorer.name, "options": scorer.method.options()}
    observed: dict[str, Seen] = {}
    causes: dict[str, str] = {}
    for name in [name for name in reversed(LISTS) if lists[name]]:
        videos = [video_name(row) for row in lists[name]]
        parts = run.parts_of(classifier.model, facts, name, videos, observer.subject.fingerprint)
        seen, kept, damaged = observer.observe(lists[name], run.settings, parts, f"Classifying {name} videos")
        causes |= damaged
        if name == "calibration":
            scorer.fit(seen, observer.subject)
        else:
            observed[name] = _scored(scorer, seen, kept, len(lists[name]))
    tested = LISTS[:2]
    known_labels, unknown_labels = (np.array([row["label"] for row in lists[name]]) for name in tested)
    facts |= {"threshold": scorer.threshold, "known": len(known_labels), "unknown": len(unknown_labels)}
    answers = Answers(
        {name: lists[name] for name in tested},
        {name: observed[name].scores for name in tested},
        {name: observed[name].answers for name in tested},
        float(scorer.threshold or 0.0),
        classifier.classes,
    )
    scores = score(
        observed["known"], observed["unknown"], known_labels, unknown_labels, scorer, len(classifier.classes)
    )
    numbers = {video_name(row): number for number, row in enumerate(samples.videos)}
    return Outcome(scores, {numbers[name]: cause for name, cause in causes.items()}, facts, answers)


def _scorer(protocol: Protocol, classifier: Classifier) -> tuple[OpenSetScorer, Observer]:
    settings = settings_of(protocol)
    if settings.scorer is None:
        options = {"accepted": settings.accepted, "rule": settings.rule, **settings.options}
        return scorer_for(classifier, settings.method, **options)
    scorer = OpenSetScorer.load(settings.scorer)
    fitted = {"method": scorer.name, "accepted": scorer.accepted, "rule": scorer.rule, **scorer.method.options()}
    stated = {name: value for name, value in protocol.open_set.items() if name not in ("scorer", "options")}
    for name, value in (stated | settings.options).items():
        if fitted.get(name) != value:
            raise RecipeError(
                f"open_set has {name}={value}, and the scorer {settings.scorer} was fitted with {name}="
                f"{fitted.get(name)}. Set it to that, or leave it out."
            )
    observer = Observer.of(classifier, scorer.method)
    scorer.check(observer.subject)
    return scorer, observer


def _scored(scorer: OpenSetScorer, seen: Observations, kept: list[int], videos: int) -> Seen:
    """Return scores and answers of all videos of a list, of which some may be unreadable."""
    assert seen.logits is not None
    logits = seen.logits.double()
    merged = logits.mean(dim=1).softmax(dim=-1) if scorer.method.merge == "score" else logits.softmax(-1).mean(dim=1)
    found = Seen(np.full(videos, np.nan), np.full(videos, -1), np.full(videos, np.nan))
    found.scores[kept] = scorer.score(seen).numpy()
    found.answers[kept] = merged.argmax(dim=-1).numpy()
    # Published of evidential classifiers: confidence is what uncertainty leaves.
    confidence = 1 - found.scores[kept] if scorer.name == "evidential" else merged.amax(dim=-1).numpy()
    found.confidence[kept] = confidence
    return found


def score(
    known: Seen,
    unknown: Seen,
    known_labels: NDArray[np.int64],
    unknown_labels: NDArray[np.int64],
    scorer: OpenSetScorer,
    num_known: int,
) -> dict[str, float]:
    """Return the scores, in percent; an unreadable video counts as wrong in each but ECE, which leaves it out.

    Args:
        known: scores and answers of known videos.
        unknown: scores and answers of unknown videos.
        known_labels: classes, `(videos,)`.
        unknown_labels: classes of their own, -1 where the list has none, `(videos,)`.
        scorer: with its threshold.
        num_known: number of known classes.
    """
    readable = ~np.isnan(known.scores)
    everything = np.concatenate([known.scores, unknown.scores])
    highest, lowest = np.nanmax(everything) + 1, np.nanmin(everything) - 1
    threshold = scorer.threshold or 0.0
    rejected = ~(known.scores <= threshold)  # so are the unreadable ones
    found = unknown.scores > threshold
    f1 = metrics.open_macro_f1(
        known_labels,
        np.where(rejected, num_known, known.answers),
        unknown_labels,
        np.where(found, num_known, np.maximum(unknown.answers, 0)),
        num_known,
        np.random.RandomState(_SEED),
    )
    ranked = metrics.ranking_scores(
        np.where(readable, known.scores, highest), np.where(np.isnan(unknown.scores), lowest, unknown.scores)
    )
    right = known.answers == known_labels
    return {
        "top-1": metrics.accuracy(known_labels, known.answers),
        **ranked,
        "AUC": metrics.decision_auc(rejected, found),
        "open-F1": f1.mean,
        "ECE": metrics.calibration_error(known.confidence[readable], right[readable]),
        "known-kept": 100 * float(np.mean(~rejected)),
        "unknown-found": 100 * float(np.mean(found)),
    }


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    model = result["model"]
    merge = model["options"]["merge"]
    order = "mean of their logits, then the score" if merge == "score" else "mean of what each of them says"
    return {
        "views": f"{views_of(result)}, {order}",
        "method": model["method"],
        "unknown": f"{model['unknown']} videos, {model['known']} known ones; a score above {model['threshold']:.6g}",
    }


EVALUATION = Evaluation(
    read=_read,
    run=_run,
    columns=("top-1", "AUC", "AUROC", "AUPR", "FPR95", "open-F1", "ECE", "known-kept", "unknown-found"),
    settings=("data.layout", "data.labels", "data.only", "data.unknown", "data.calibration", "open_set"),
    check=_check,
    facts=_facts,
    has_details=True,
    on_engines=True,
)
