"""Evaluating an ensemble: each member scores the list once, and its scores are kept; weights and sums come after."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from internvideo_hf.data.manifests import read_manifest
from internvideo_hf.evaluation.ensembles import Scores, fit_weights, merge_scores
from internvideo_hf.evaluation.protocols import EnsembleProtocol, MemberSettings
from internvideo_hf.evaluation.run import prepare_out, write_result
from internvideo_hf.inference.classifier import Classifier
from internvideo_hf.inference.merging import top_k_accuracy
from internvideo_hf.inference.runner import RunSettings
from internvideo_hf.models.common.loading import revision
from internvideo_hf.recipes.labels import load_labels
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.utils.fingerprints import file_sha256, json_sha256


def evaluate_ensemble(
    protocol: EnsembleProtocol,
    members: Sequence[str | Path],
    data_root: str | Path = ".",
    out: str | Path | None = None,
    *,
    scores: str | Path | None = None,
    name: str = "protocol",
    batch_size: int = 8,
    workers: int = 0,
    device: str | torch.device | None = None,
    max_damaged: float = 0.01,
    quiet: bool = False,
) -> dict[str, Any]:
    """Evaluate classifiers of the same classes, and the weighted sum of their probabilities.

    A damaged video counts as wrong for every member and for the sum.

    Args:
        protocol: from `load_ensemble`.
        members: for each the folder of a classifier, its name on the Hub, or a file of scores that an evaluation of
            the same list kept; in the protocol's order, where it tells one.
        data_root: the folder that the protocol's lists, and the paths in them, begin in.
        out: a JSON file for the result; it appears whole or not at all.
        scores: a folder that keeps the scores of each member, and takes them up again: the same call goes on after a
            kill, and another ensemble of these members costs nothing. None keeps none.
        name: the protocol's, for the result.
        batch_size: views that go through a model at once.
        workers: processes that decode; 0 for this one.
        device: where the models run; the accelerator if there is one.
        max_damaged: the share of the videos that may be damaged, in [0, 1).
        quiet: no progress bars.

    Returns:
        What the file holds: `protocol`, `settings`, `members` (with the scores of each alone), `scores`, `published`,
        `damaged` and what it ran on. `internvideo_hf.evaluation.report.ensemble_table` prints it.

    Raises:
        RecipeError: if protocol and members do not fit each other.
        ManifestError: if a list is not as it should be.
        TooManyFailuresError: if more videos are damaged than may be.
        ValueError: if scores of other videos or classes are to be merged.
    """
    settings = RunSettings(batch_size, workers, max_damaged, quiet)
    started, data_root = time.monotonic(), Path(data_root)
    _check_members(protocol, members)
    if scores is not None and Path(scores).exists() and not Path(scores).is_dir():
        raise FileExistsError(f"{scores} is a file. Give the name of a folder for the scores.")
    out = None if out is None else prepare_out(out)
    score = partial(
        _scores_of,
        protocol=protocol,
        data_root=data_root,
        folder=None if scores is None else Path(scores),
        settings=settings,
        device=device,
    )
    lists = [protocol.data.list, *([protocol.data.validation] if protocol.weights == "fitted" else [])]
    told: list[list[Scores]] = []
    for number, member in enumerate(members):
        told.append([score(number, member, list_name) for list_name in lists])
        _check_apart(protocol, told[0])  # before the next member's hours
    tested = [one[0] for one in told]
    weights = None if protocol.weights == "equal" else protocol.weights
    if protocol.weights == "fitted":
        weights = fit_weights([one[1] for one in told])
    merged = merge_scores(tested, weights)
    failed = merged.merged().failed
    labels = protocol.data.labels
    result = {
        "protocol": name,
        "settings": asdict(protocol),
        "members": [
            {**one.facts, "weight": weight, "scores": _accuracies(one)}
            for one, weight in zip(tested, merged.facts["weights"], strict=True)
        ],
        "data": {"files": {file: file_sha256(data_root / file) for file in lists}, "videos": len(merged.videos)},
        "damaged": [
            {"video": merged.videos[row], "cause": _cause(tested, merged.videos[row])}
            for row in np.flatnonzero(failed)
        ],
        "scores": _accuracies(merged),
        "published": [asdict(entry) for entry in protocol.published if entry.labels in (None, labels)],
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "seconds": round(time.monotonic() - started, 1),
    }
    if out is not None:
        write_result(result, out)
    return result


def _check_apart(protocol: EnsembleProtocol, scores: Sequence[Scores]) -> None:
    """Refuse to fit weights on videos that are scored, where there is a second list."""
    tested, *fitted_on = (set(one.videos) for one in scores)
    if both := tested.intersection(*fitted_on) if fitted_on else None:
        raise RecipeError(
            f"{protocol.data.validation} holds {len(both)} of the videos of {protocol.data.list}, such as "
            f"{min(both)}. Fit weights on other videos."
        )


def _check_members(protocol: EnsembleProtocol, members: Sequence[str | Path]) -> None:
    wanted = [f"{entry.model} ({entry.family})" for entry in protocol.members]
    if not members or (wanted and len(wanted) != len(members)):
        raise RecipeError(
            f"Got {len(members)} members, expected {', '.join(wanted) or 'one or more'}; name each by --ensemble, a "
            "folder or a file of scores."
        )
    if isinstance(protocol.weights, list) and len(protocol.weights) != len(members):
        raise RecipeError(f"weights holds {len(protocol.weights)} numbers for {len(members)} members.")


def _scores_of(
    number: int,
    source: str | Path,
    list_name: str,
    *,
    protocol: EnsembleProtocol,
    data_root: Path,
    folder: Path | None,
    settings: RunSettings,
    device: str | torch.device | None,
) -> Scores:
    """A member's scores of a list: read, taken up, or computed."""
    wanted = protocol.members[number] if protocol.members else None
    if Path(source).is_file():
        kept = Scores.load(source)
        if kept.facts.get("list") != file_sha256(data_root / list_name):
            raise RecipeError(
                f"{source} holds scores of another list than {list_name}. Name the model's folder instead."
            )
        _check_family(source, kept.facts.get("family"), wanted)
        _check_classes(source, kept.classes, protocol)
        asked = None if wanted is None else [wanted.num_clips, wanted.num_crops]
        if asked is not None and None not in asked and kept.facts.get("views") != asked:
            raise RecipeError(f"{source} was scored by {kept.facts.get('views')} views, and the protocol has {asked}.")
        return kept
    views = {} if wanted is None else {"num_clips": wanted.num_clips, "num_crops": wanted.num_crops}
    member = Classifier.load(source, **views, device=device)
    _check_family(source, member.model.config.model_type, wanted)
    _check_classes(source, member.classes, protocol)
    rows = list(
        read_manifest(
            data_root / list_name, data_root, layout=protocol.data.layout, labels=member.classes, check_files=False
        )
    )
    if any(row["label"] is None for row in rows):
        raise RecipeError(f"{list_name} has rows without a label, which an accuracy needs. Add it.")
    if any(row.get("start") is not None for row in rows):
        raise RecipeError(f"{list_name} has rows of parts of videos, and members see whole ones. Cut them out first.")
    if (largest := max(row["label"] for row in rows)) >= len(member.classes):
        raise RecipeError(
            f"{list_name} has the label {largest}, and {source} {len(member.classes)} classes from 0 on."
        )
    facts = {
        "model": str(source),
        "family": member.model.config.model_type,
        "parameters": member.model.num_parameters(),
        "revision": revision(source, member.model),
        "views": [member.num_clips, member.num_crops],
        "processor": member.processor.to_dict(),
        "list": file_sha256(data_root / list_name),
        "labels": json_sha256([row["label"] for row in rows]),
    }
    facts = json.loads(json.dumps(facts, default=str))  # as they come back from a file
    if folder is None:
        return _compute(member, rows, facts, None, settings)
    tag = json_sha256([facts, str(data_root.resolve())])
    path = folder / f"{Path(source).name}-{Path(list_name).stem}-{tag[:12]}.safetensors"
    if path.is_file():
        return Scores.load(path)
    scores = _compute(member, rows, facts, path.with_suffix(".parts"), settings)
    scores.save(path)
    shutil.rmtree(path.with_suffix(".parts"))
    return scores


def _check_family(source: str | Path, family: str | None, wanted: MemberSettings | None) -> None:
    if wanted is not None and family != wanted.family:
        raise RecipeError(
            f"{source} is of {family}, and {wanted.model}, the member of this place, of {wanted.family}."
        )


def _check_classes(source: str | Path, classes: list[str], protocol: EnsembleProtocol) -> None:
    wanted = protocol.data.labels
    if wanted is not None and classes != load_labels(wanted):
        raise RecipeError(
            f"{source} does not know the classes of data.labels={wanted} by name and in order. Convert it with --head "
            f"{wanted}, or set data.labels to its own."
        )


def _compute(
    member: Classifier,
    rows: Sequence[dict[str, Any]],
    facts: dict[str, Any],
    parts: Path | None,
    settings: RunSettings,
) -> Scores:
    probabilities, causes = member.classify(rows, settings, parts)
    return Scores(
        [str(row["video"]) for row in rows],
        np.array([row["label"] for row in rows], dtype=np.int64),
        probabilities,
        member.classes,
        {**facts, "damaged": causes},
    )


def _accuracies(scores: Scores) -> dict[str, float]:
    return {f"top-{k}": 100 * top_k_accuracy(scores.merged(), k) for k in (1, 5)}


def _cause(members: Sequence[Scores], video: str) -> str:
    return next((one.facts["damaged"][video] for one in members if video in one.facts.get("damaged", {})), "not known")
