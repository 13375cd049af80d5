"""Evaluation of one model by a protocol, with the published scores for comparison."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from internvideo_hf.checkpoints.model_names import resolve_model
from internvideo_hf.data.contents import list_sha256
from internvideo_hf.data.executors.parts import Engine
from internvideo_hf.data.failures import FailureTable
from internvideo_hf.data.records import list_path
from internvideo_hf.inference.runner import RunSettings
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks import evaluation_tasks
from internvideo_hf.tasks.protocol import Protocol, Run, check_report
from internvideo_hf.utils.files import atomic_directory, atomic_write_text, check_output_file, remove_leftovers_of
from internvideo_hf.utils.journal import delete_parts
from internvideo_hf.utils.locks import lock_file
from internvideo_hf.utils.storage import AnyPath, as_path


def evaluate(
    protocol: Protocol,
    model: str | Path | None,
    data_root: str | Path = ".",
    out: str | AnyPath | None = None,
    *,
    name: str = "protocol",
    batch_size: int = 8,
    workers: int | None = None,
    device: str | torch.device | None = None,
    max_damaged: float = 0.01,
    report: str | AnyPath | None = None,
    quiet: bool = False,
    engine: Engine | Callable[[], Engine] | None = None,
    timeout: float | None = None,
    retry: bool = False,
) -> dict[str, Any]:
    """Evaluate a model by a protocol.

    Every video and every text goes through the model once. An unreadable video never counts as correct: in retrieval
    no query finds it and it finds nothing; of several labels no class finds it; of numbers and of hands it is left
    out; otherwise its class or answer counts as wrong.

    Args:
        protocol: from `load_protocol`.
        model: a converted folder, or a name on the Hub. If the protocol averages with CLIP, `internvideo merge` makes
            the folder. None where the protocol names a file of answers, such as `data.boxes.predictions`.
        data_root: the folder that the protocol's lists start from, and that holds the videos, at any depth.
        out: a JSON file for the result, written at the end, or an object of a store. Finished parts are in a folder
            beside it, so that the same call continues after an interruption, and unreadable videos in
            `OUT.failures.jsonl`, see `FailureTable`.
        name: the protocol's, for the result.
        batch_size: views per forward pass.
        workers: decoding processes; one for each core, at most 8, if None; 0 decodes in this process.
        device: where the model runs; the accelerator if there is one.
        max_damaged: fraction of the videos that may be unreadable, in [0, 1).
        report: a folder for the answers behind the score. Classification: a line for each video, scores of each class,
            the confusion matrix, a sheet of the most confident mistakes; the same of each head of a model with
            several. Several labels and numbers: a line for each video, scores of each class or number. Question
            answering: a line for each question, scores of each kind of question, the most frequent mistakes. Temporal
            localization: a line for each segment found, scores of each class, and detections.json in ActivityNet's
            layout. Action detection: scores of each class, and detections.csv, all boxes and actions in AVA's format.
            Short-term anticipation: scores of each noun, and submission.json, the challenge's file.
            Object detection: a line for each frame, and all boxes in COCO's layout.
            Temporal grounding: a line for each answer, the scores of constant answers, and predictions.json, of
            Ego4D's queries the file of their challenge. Hand prediction: a
            line for each clip, displacement at each moment, and predictions.json, the challenge's file. Open set: a
            line for each video, and a picture of the scores.
        quiet: no progress bars.
        engine: runs several models at once, such as `LocalEngine` or `RayEngine`, or starts what does so, after all
            else was checked; None for one in this process. The result is the same. It needs `out`, on a disk that all
            workers share.
        timeout: seconds after which a decoder of an engine counts as hung; 600 by default.
        retry: also try again what killed or hung its decoder in an earlier evaluation into the same file.

    Returns:
        The content of the file, with `protocol`, `settings`, `model`, `data`, `scores`, `published`, `damaged`, device
        and versions. `internvideo_hf.evaluation.report.table` prints it.

    Raises:
        RecipeError: if protocol and model do not match.
        ManifestError: if a list is invalid.
        TooManyFailuresError: if more than `max_damaged` of the videos are unreadable.
        LockedError: if another process evaluates into the same file.
    """
    settings = RunSettings(batch_size, workers, max_damaged, quiet, timeout=timeout)
    started, data_root = time.monotonic(), Path(data_root)
    needs_model = evaluation_tasks()[protocol.task].needs_model(protocol)
    if needs_model != (model is not None):
        raise RecipeError(
            "Give the model to evaluate." if needs_model else "The protocol names a file of answers. Give no model."
        )
    if engine is not None:
        _check_engine(protocol, out)
    model = "" if model is None else resolve_model(model)
    out = None if out is None else prepare_out(out)
    parts = None if out is None else out.with_name(f".{out.name}.parts")
    task, report = evaluation_tasks()[protocol.task], None if report is None else as_path(report)
    if report is not None:
        if not task.has_details:
            tasks = " or ".join(name for name, task in evaluation_tasks().items() if task.has_details)
            raise RecipeError(f"A report is of {tasks}, and this is {protocol.task}. Leave it out.")
        check_report(report)
    samples = task.read(protocol, data_root, str(model))
    with (
        nullcontext() if out is None else lock_file(out),
        FailureTable.beside(out, "evaluate", retry=retry) as failures,
    ):
        settings = replace(settings, engine=started_engine(engine), failures=None if out is None else failures)
        outcome = task.run(protocol, samples, Run(str(model), device, settings, parts))
    result = {
        "protocol": name,
        "settings": asdict(protocol),
        "model": {"name": str(model) or "no model", **outcome.model},
        "data": {
            "files": {
                file: list_sha256(list_path(data_root, file))
                for file in (protocol.data.list, protocol.data.only, protocol.data.unknown, protocol.data.calibration)
                if file
            },
            "videos": len(samples.videos),
            "texts": len(samples.texts) or None,
        },
        "damaged": [
            {"video": str(samples.videos[number]["video"]), "cause": cause} for number, cause in outcome.causes.items()
        ],
        "scores": outcome.scores,
        "published": [asdict(entry) for entry in protocol.published],
        "device": outcome.model["device"],
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "seconds": round(time.monotonic() - started, 1),
    }
    if out is not None:
        write_result(result, out)
    if report is not None and outcome.details is not None:
        with nullcontext(report) if isinstance(report, Path) else atomic_directory(report) as folder:
            outcome.details.write(folder)
    delete_parts(parts)
    return result


def _check_engine(protocol: Protocol, out: str | AnyPath | None) -> None:
    """Refuse several workers where they have nothing to do, or nowhere to leave it."""
    task, options = evaluation_tasks()[protocol.task], "--gpus, --engine and --video-timeout (in Python, engine)"
    if not task.needs_model(protocol):
        raise RecipeError(f"The protocol names a file of answers, which one process scores. Leave out {options}.")
    if not task.on_engines:
        raise RecipeError(f"{protocol.task} is evaluated by one model in one process. Leave out {options}.")
    if out is None:
        raise RecipeError("Several workers leave their parts beside the file of the result. Name it by --out.")


def started_engine(engine: Engine | Callable[[], Engine] | None) -> Engine | None:
    """Return an engine, which is started if it is not yet.

    Args:
        engine: as of `evaluate`.
    """
    return engine() if callable(engine) else engine


def prepare_out(out: str | AnyPath) -> AnyPath:
    """Create the folder of a result's file, before the work begins.

    Raises:
        FileExistsError: if the file is a folder.
        OSError: if it cannot be written; a DiskFullError if there is no room.
    """
    out = as_path(out)
    check_output_file(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers_of(out)
    return out


def write_result(result: Mapping[str, Any], out: AnyPath) -> None:
    """Write a result as JSON, atomically."""
    atomic_write_text(out, json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False))
