"""Evaluation of ensembles: each member scores a list once and keeps its scores; weights and sums follow."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from internvideo_hf.data.contents import list_sha256
from internvideo_hf.data.executors.parts import Engine
from internvideo_hf.data.failures import FailureTable
from internvideo_hf.data.records import list_path
from internvideo_hf.evaluation.ensembles import Scores, fit_weights, merge_scores
from internvideo_hf.evaluation.protocols import EnsembleProtocol, MemberSettings
from internvideo_hf.evaluation.run import prepare_out, started_engine, write_result
from internvideo_hf.inference.classifier import Classifier
from internvideo_hf.inference.rows import video_name
from internvideo_hf.inference.runner import RunSettings
from internvideo_hf.models.common.loading import revision
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.classifier_evaluation import check_answers
from internvideo_hf.tasks.labelled_clips import check_classes, read_labelled_clips
from internvideo_hf.tasks.protocol import DataSettings
from internvideo_hf.utils.files import check_output
from internvideo_hf.utils.fingerprints import json_sha256
from internvideo_hf.utils.journal import delete_parts
from internvideo_hf.utils.locks import lock_file
from internvideo_hf.utils.settings import changed_settings
from internvideo_hf.utils.storage import AnyPath


def evaluate_ensemble(
    protocol: EnsembleProtocol,
    members: Sequence[str | Path],
    data_root: str | Path = ".",
    out: str | AnyPath | None = None,
    *,
    scores: str | Path | None = None,
    name: str = "protocol",
    batch_size: int = 8,
    workers: int | None = None,
    device: str | torch.device | None = None,
    max_damaged: float = 0.01,
    quiet: bool = False,
    engine: Engine | Callable[[], Engine] | None = None,
    timeout: float | None = None,
    retry: bool = False,
) -> dict[str, Any]:
    """Evaluate classifiers of equal classes, and the weighted sum of their probabilities.

    An unreadable video counts as wrong for every member and for the sum.

    Args:
        protocol: from `load_ensemble`.
        members: for each a classifier's folder, its name on the Hub, or a file of scores that an evaluation of the
            same list kept; in the protocol's order, if it names members.
        data_root: the folder that the protocol's lists, and the paths in them, start from.
        out: a JSON file for the result, written atomically.
        scores: a folder for the scores of each member. The same call continues after an interruption, and other
            ensembles of these members reuse the scores. None keeps no scores.
        name: the protocol's, for the result.
        batch_size: views per forward pass.
        workers: decoding processes; one for each core, at most 8, if None; 0 decodes in this process.
        device: where the models run; the accelerator if there is one.
        max_damaged: fraction of the videos that may be unreadable, in [0, 1).
        quiet: no progress bars.
        engine: runs several copies of a member at once, or starts what does so, see `evaluate`; None for one in this
            process. It needs `scores`, on a disk that all workers share.
        timeout: seconds after which a decoder of an engine counts as hung; 600 by default.
        retry: also try again what killed or hung its decoder in an earlier evaluation, as `failures.jsonl` in the
            folder of the scores tells.

    Returns:
        The content of the file, with `protocol`, `settings`, `members` (each with its own scores), `scores`,
        `published`, `damaged`, and versions. `internvideo_hf.evaluation.report.ensemble_table` prints it.

    Raises:
        RecipeError: if protocol and members do not match.
        ManifestError: if a list is invalid.
        TooManyFailuresError: if more than `max_damaged` of the videos are unreadable.
        ValueError: if scores to merge are of other videos or classes.
    """
    settings = RunSettings(batch_size, workers, max_damaged, quiet, timeout=timeout)
    started, data_root = time.monotonic(), Path(data_root)
    if engine is not None and scores is None:
        raise RecipeError("Several workers leave their parts in the folder of the scores. Name it by --scores.")
    _check_members(protocol, members)
    if scores is not None:
        if Path(scores).exists() and not Path(scores).is_dir():
            raise FileExistsError(f"{scores} is a file. Pass a folder for the scores.")
        check_output(scores)
    out = None if out is None else prepare_out(out)
    with FailureTable(None if scores is None else Path(scores) / "failures.jsonl", "evaluate", retry=retry) as table:
        settings = replace(settings, engine=started_engine(engine), failures=None if scores is None else table)
        scorer = _Scorer(protocol, data_root, None if scores is None else Path(scores), settings, device)
        by_member: list[list[Scores]] = []
        for number, member in enumerate(members):
            by_member.append(scorer.scores(member, protocol.members[number] if protocol.members else None))
            _check_disjoint(protocol, by_member[0])  # before hours of work on the next member
    tested = [lists[0] for lists in by_member]
    merged = merge_scores(tested, _weights(protocol, by_member))
    labels = protocol.data.labels
    result = {
        "protocol": name,
        "settings": asdict(protocol),
        "members": [
            {**scored.facts, "weight": weight, "scores": scored.accuracies()}
            for scored, weight in zip(tested, merged.facts["weights"], strict=True)
        ],
        "data": {
            "files": {file: list_sha256(list_path(data_root, file)) for file in scorer.lists},
            "videos": len(merged.videos),
        },
        "damaged": [
            {"video": merged.videos[row], "cause": _cause(tested, merged.videos[row])}
            for row in np.flatnonzero(merged.unreadable)
        ],
        "scores": merged.accuracies(),
        "published": [asdict(entry) for entry in protocol.published if entry.labels in (None, labels)],
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "seconds": round(time.monotonic() - started, 1),
    }
    if out is not None:
        write_result(result, out)
    return result


def _check_members(protocol: EnsembleProtocol, members: Sequence[str | Path]) -> None:
    wanted = [f"{entry.model} ({entry.family})" for entry in protocol.members]
    if not members or (wanted and len(wanted) != len(members)):
        raise RecipeError(
            f"Got {len(members)} members, expected {', '.join(wanted) or 'one or more'}; name each by --ensemble, a "
            "folder or a file of scores."
        )
    if isinstance(protocol.weights, list) and len(protocol.weights) != len(members):
        raise RecipeError(f"weights holds {len(protocol.weights)} numbers for {len(members)} members.")


def _check_disjoint(protocol: EnsembleProtocol, scores: Sequence[Scores]) -> None:
    """Refuse to fit weights on videos of the test list."""
    tested, *fitted_on = (set(scored.videos) for scored in scores)
    if fitted_on and (both := tested & fitted_on[0]):
        raise RecipeError(
            f"{protocol.data.validation} holds {len(both)} of the videos of {protocol.data.list}, such as "
            f"{min(both)}. Fit weights on other videos."
        )


def _weights(protocol: EnsembleProtocol, by_member: Sequence[Sequence[Scores]]) -> Sequence[float] | None:
    if protocol.weights == "fitted":
        return fit_weights([lists[1] for lists in by_member]).tolist()
    return protocol.weights if isinstance(protocol.weights, list) else None


def _cause(members: Sequence[Scores], video: str) -> str:
    causes = (scored.facts.get("damaged", {}).get(video) for scored in members)
    return next(filter(None, causes), "not known")


@dataclass(frozen=True)
class _Scorer:
    """Scores of members: read from a file, reused from the folder of scores, or computed."""

    protocol: EnsembleProtocol
    data_root: Path
    folder: Path | None
    settings: RunSettings
    device: str | torch.device | None

    @property
    def lists(self) -> list[str]:
        """Names of the test list, and of the validation list if weights are fitted."""
        data = self.protocol.data
        if self.protocol.weights != "fitted" or data.validation is None:
            return [data.list]
        return [data.list, data.validation]

    def scores(self, source: str | Path, wanted: MemberSettings | None) -> list[Scores]:
        """Return a member's scores of each list."""
        if Path(source).is_file():
            return [self._load(source, wanted, list_name) for list_name in self.lists]
        views = {} if wanted is None else {"num_clips": wanted.num_clips, "num_crops": wanted.num_crops}
        member = Classifier.load(source, **views, device=self.device, dtype=self.protocol.dtype)
        check_answers(source, member.model.config, "classification")
        _check_family(source, member.model.config.model_type, wanted)
        return [self._classify(member, list_name) for list_name in self.lists]

    def _load(self, source: str | Path, wanted: MemberSettings | None, list_name: str) -> Scores:
        scores = Scores.load(source)
        if scores.facts.get("list") != list_sha256(list_path(self.data_root, list_name)):
            raise RecipeError(
                f"{source} holds scores of another list than {list_name}. Name the model's folder instead."
            )
        _check_family(source, scores.facts.get("family"), wanted)
        check_classes(source, scores.classes, self.protocol.data.labels, self.data_root)
        views = [wanted.num_clips, wanted.num_crops] if wanted else [None]
        asked = {"dtype": self.protocol.dtype, "views": None if None in views else views}
        asked = {name: value for name, value in asked.items() if value is not None}
        if changes := changed_settings({name: scores.facts.get(name) for name in asked}, asked):
            raise RecipeError(
                f"{source} was scored with other settings ({changes}). Name the model's folder, or leave them out."
            )
        return scores

    def _classify(self, member: Classifier, list_name: str) -> Scores:
        data = self.protocol.data
        settings = DataSettings(list_name, layout=data.layout, labels=data.labels)
        rows = read_labelled_clips(settings, self.data_root, member.name, member.classes)
        facts = {
            "model": member.name,
            "family": member.model.config.model_type,
            "parameters": member.model.num_parameters(),
            "revision": revision(member.name, member.model),
            "views": [member.num_clips, member.num_crops],
            "processor": member.processor.to_dict(),
            "list": list_sha256(list_path(self.data_root, list_name)),
            "labels": json_sha256([row["label"] for row in rows]),
        }
        if self.protocol.dtype is not None:  # else as saved, which `revision` holds
            facts["dtype"] = self.protocol.dtype
        facts = json.loads(json.dumps(facts, default=str))  # equal to facts that come from a file
        path = parts = None
        if self.folder is not None:
            tag = json_sha256([facts, str(self.data_root.resolve())])
            path = self.folder / f"{Path(member.name).name}-{Path(list_name).stem}-{tag[:12]}.safetensors"
            parts = path.with_suffix(".parts")
            if path.is_file():
                delete_parts(parts)  # of a process that was killed just before
                return Scores.load(path)
            path.parent.mkdir(parents=True, exist_ok=True)
        with nullcontext() if path is None else lock_file(path):
            probabilities, causes = member.classify(rows, self.settings, parts)
        labels = np.array([row["label"] for row in rows], dtype=np.int64)
        names = [video_name(row) for row in rows]
        scores = Scores(names, labels, probabilities, member.classes, {**facts, "damaged": causes})
        if path is not None:
            scores.save(path)
        delete_parts(parts)
        return scores


def _check_family(source: str | Path, family: str | None, wanted: MemberSettings | None) -> None:
    if wanted is not None and family != wanted.family:
        raise RecipeError(
            f"{source} is of {family}, and {wanted.model}, the member of this place, of {wanted.family}."
        )
