"""Scoring of models and ensembles: `evaluate`."""

import os
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from internvideo_hf.cli.completion import model_names, protocol_names
from internvideo_hf.cli.kinds import how_to_use, kind_for, not_of_kind
from internvideo_hf.cli.options import (
    MODEL_HELP,
    OR_STORED,
    OR_STORED_OUTPUT,
    SAVED,
    Address,
    BatchSize,
    Device,
    Dtype,
    EngineName,
    Gpus,
    LoaderWorkers,
    MaxDamaged,
    Quiet,
    Retry,
    VideoTimeout,
    check_alone,
    check_folder,
    engine_starter,
    has_limit,
    is_given,
    parse_device,
    parse_dtype,
    resolve_model,
)
from internvideo_hf.cli.reporting import remarks, report_failures, say, silence_transformers
from internvideo_hf.inference.kinds import (
    CLASSIFIER,
    ENCODER,
    FEATURE_HEAD,
    GROUNDER,
    NAVIGATOR,
    OBJECT_DETECTOR,
    kind_of,
)
from internvideo_hf.utils.storage import as_path


def evaluate(
    context: typer.Context,
    protocol: Annotated[
        str | None,
        typer.Argument(
            help="A name from --list, or a .yaml file (default: classification/custom).", autocompletion=protocol_names
        ),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Argument(help="Settings to change, such as processor.num_frames=16.")
    ] = None,
    model: Annotated[str | None, typer.Option(help=MODEL_HELP, autocompletion=model_names)] = None,
    ensemble: Annotated[
        list[str] | None,
        typer.Option(help="Ensemble member: a classifier's folder, or a file of its scores; repeatable."),
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Folder that keeps each member's scores for the next evaluation.")
    ] = None,
    data_root: Annotated[
        Path,
        typer.Option(help=f"Folder that the protocol's lists start from, and that holds the videos; {OR_STORED}."),
    ] = Path("."),
    tasks: Annotated[
        str | None, typer.Option(help="Tasks of a benchmark of mteb, with commas between them (default: all).")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help=f"JSON file for the result, such as result.json; {OR_STORED_OUTPUT}. Of mteb, a folder for its files."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the model's answers: of each video, and by class (classes, questions, times, boxes); "
            f"{OR_STORED_OUTPUT}."
        ),
    ] = None,
    batch_size: BatchSize = 8,
    dtype: Dtype = SAVED,
    workers: LoaderWorkers = None,
    max_damaged: MaxDamaged = 0.01,
    engine: EngineName = "local",
    address: Address = None,
    gpus: Gpus = None,
    video_timeout: VideoTimeout = None,
    retry: Retry = False,
    device: Device = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the protocols.")] = False,
    quiet: Quiet = False,
) -> None:
    """Score a model with a published protocol, and show the published numbers next to its own.

    Classification, zero-shot classification, retrieval, multiple choice, question answering, temporal localization,
    temporal grounding, action detection, short-term anticipation, hand prediction and open-set recognition take one
    model. A classifier sees each video in the clips and crops of its released test; num_clips=1 num_crops=1 changes
    them.
    classification/custom, the default, is your own list, data.list=val.csv, or folder of clips by class,
    val/CLASS/clip.mp4; multi_label/custom is a list with several labels of a video, run|jump, or for a model with
    heads one of each, cut|onion or a column for each head; regression/custom is a list of videos and numbers;
    question_answering/custom is your own list of video, question and answer; temporal_localization/custom is
    annotations.json, in ActivityNet's layout, beside a folder of features; temporal_grounding/custom is val.csv, a
    list of video, query, start and end, beside a folder of features; action_detection/custom is val.csv, in AVA's
    format, beside a folder of videos, and data.boxes.predictions=FILE scores a file in that format without a model;
    open_set/custom is test.csv, unknown.csv with videos of no known class, and val.csv for the threshold, by
    open_set.method=..., see `internvideo calibrate --help`. Retrieval is scored with and without dual softmax. Damaged
    videos are listed last and never count as correct.

    Ego4D's tasks read the annotations of its downloader, beside footage (ego4d/hand_prediction,
    ego4d/short_term_anticipation, ego4d/state_change_detection) or features (ego4d/moment_queries,
    ego4d/language_queries). --report writes the challenge's file. Without a model, data.hands.predictions=FILE,
    data.interactions.predictions=FILE and data.queries.predictions=FILE score such a file, and
    data.frames.predictions=FILE one of boxes. Object detection takes any detector of transformers, DETR or RT-DETR.

    Navigation (navigation/r2r_ce) scores the paths that an agent recorded, paths.json, and takes no model.

    With --ensemble, the probabilities of several classifiers are summed: internvideo_d and internvideo_t as in the
    paper, or any, on data.list=..., with weights=[0.6,0.4], or weights=fitted data.validation=... The default protocol
    is "classifiers": your own list, val.csv.

    With --gpus, --engine ray or --video-timeout, models run in processes of their own, each on a part of the list; the
    result is that of one process, to the last digit. A video that kills or hangs its decoder is damaged, and a worker
    that is lost costs its part alone. They need --out, or --scores of an ensemble, on a disk that all machines share.
    Resumable: rerun the same command after an interruption. Beside --out, OUT.failures.jsonl (in --scores,
    failures.jsonl) has a row for each damaged video, and the next evaluation passes over those that kill or hang their
    decoder.

    mteb/NAME is a benchmark or a task of mteb (extra mteb), such as mteb/MVEB, the leaderboard of video embeddings. It
    fetches its own data, --out is the folder of its result files, and tasks that need what the model does not take,
    such as sound, are left out.

    Example: internvideo evaluate classification/k400 --model vit-b-k400 --data-root k400 --out result.json

    Example: internvideo evaluate mteb/MVEB --model internvideo-mm-l14 --tasks MSVDT2VRetrieval --out mveb

    Example: internvideo evaluate zero_shot/k400 --model internvideo-mm-l14 --data-root k400 --out zero.json --gpus 8

    Example: internvideo evaluate classification/custom data.list=val.csv --model run/final --report report

    Example: internvideo evaluate open_set/custom open_set.method=energy --model run/final --report report

    Example: internvideo evaluate retrieval/msrvtt --model internvideo-mm-merged --data-root msrvtt --out result.json

    Example: internvideo evaluate internvideo_d --ensemble vit-h-k400 --ensemble uniformerv2-l-k400 --data-root k400
    """
    if list_all:
        check_alone(context, "--list")
        _list_protocols()
        return
    if protocol is not None and protocol.startswith(_MTEB):
        _refuse_for_mteb(context, changes)
        number_type = parse_dtype(dtype, device, model)
        settings = {"batch_size": batch_size, "workers": workers, "max_damaged": max_damaged, "quiet": quiet}
        _evaluate_on_mteb(protocol.removeprefix(_MTEB), tasks, model, out, device, dtype=number_type, **settings)
        return
    if tasks is not None:
        raise ValueError("--tasks is of a benchmark of mteb, such as `internvideo evaluate mteb/MVEB`.")
    number_type = parse_dtype(dtype, device, model, *(ensemble or ()))
    changes = [*(changes or []), *([] if number_type is None else [f"dtype={number_type}"])]
    options = {
        "data_root": data_root,
        "out": out,
        "batch_size": batch_size,
        "workers": workers,
        "max_damaged": max_damaged,
        "quiet": quiet,
        "engine": engine_starter(
            engine,
            address,
            gpus,
            workers or None,
            device,
            apart=has_limit(video_timeout),
            jobs_option="--workers",
        ),
        "timeout": video_timeout,
        "retry": retry,
    }
    if retry and out is None and scores is None:
        raise ValueError("--retry is of the failures that are kept beside --out, or in --scores. Add one of them.")
    if ensemble:
        if report is not None:
            raise ValueError("--report is for a single model: name it by --model.")
        if model is not None:
            raise ValueError("--model is for a single model; name each member of an ensemble by --ensemble.")
        result = _evaluate_ensemble(protocol, changes, ensemble, device, scores=scores, **options)
    elif scores is not None:
        raise ValueError("--scores keeps the scores of an ensemble's members: name them by --ensemble.")
    else:
        result = _evaluate_model(protocol, changes, model, device, report=report, **options)
    report_failures([entry["cause"] for entry in result["damaged"]], result["data"]["videos"])


def _list_protocols() -> None:
    from internvideo_hf.evaluation.protocols import ensemble_names, load_ensemble, load_protocol, protocol_names

    titles = {name: load_protocol(name).title for name in protocol_names()}
    titles |= {name: load_ensemble(name).title for name in ensemble_names()}
    titles[f"{_MTEB}NAME"] = "a benchmark or task of mteb, such as mteb/MVEB (extra mteb)"
    for name, title in sorted(titles.items()):
        say(f"{name:32} {title}")


def _or_default(protocol: str | None, changes: list[str], default: str) -> tuple[str, list[str]]:
    """Return protocol and changes, where the protocol may have been left out, before changes or without."""
    if protocol is None:
        return default, changes
    return (default, [protocol, *changes]) if "=" in protocol else (protocol, changes)


# Kinds of models that are evaluated in transformers' own classes, too.
_OF_ANY_FAMILY = (CLASSIFIER, OBJECT_DETECTOR)


def _evaluate_model(
    protocol: str | None,
    changes: list[str],
    model: str | None,
    device: str | None,
    report: Path | None,
    **options: Any,
) -> dict[str, Any]:
    from internvideo_hf.evaluation.protocols import load_protocol
    from internvideo_hf.tasks import evaluation_tasks

    protocol, changes = _or_default(protocol, changes, "classification/custom")
    loaded = load_protocol(protocol, changes)
    if model is not None:
        kind = kind_for(loaded.task)
        model = resolve_model(model, kind, any_family=kind in _OF_ANY_FAMILY)
    elif evaluation_tasks()[loaded.task].needs_model(loaded):
        raise ValueError(
            "Give --model, or members of an ensemble by --ensemble; `internvideo evaluate --list` shows the protocols."
        )
    silence_transformers()
    from internvideo_hf.evaluation.report import table
    from internvideo_hf.evaluation.run import evaluate

    name = " ".join([protocol, *changes])
    result = evaluate(loaded, model, name=name, device=parse_device(device), report=report, **options)
    say(table(result))
    if report is not None:
        place = as_path(report)
        say(f"\n{(place / 'summary.txt').read_text(encoding='utf-8')}\nThe report is in {place}.")
    return result


_MTEB = "mteb/"
_NOT_OF_MTEB = ("ensemble", "scores", "data_root", "report", "engine", "address", "gpus", "video_timeout", "retry")


def _refuse_for_mteb(context: typer.Context, changes: list[str] | None) -> None:
    if changes:
        raise ValueError(f"Tasks of mteb have no settings: leave out {changes[0]}.")
    if given := [name for name in _NOT_OF_MTEB if is_given(context, name)]:
        raise ValueError(f"Tasks of mteb do not take --{given[0].replace('_', '-')}. Leave it out.")


def _check_reads_videos(model: str, folder: str) -> None:
    kind = kind_of(Path(folder))
    if kind is not None and kind[0] in (FEATURE_HEAD, GROUNDER, NAVIGATOR):
        raise ValueError(f"{not_of_kind(model, kind[1], ENCODER)} {how_to_use(model, kind[0])}")


def _evaluate_on_mteb(
    name: str,
    tasks: str | None,
    model: str | None,
    out: Path | None,
    device: str | None,
    **options: Any,
) -> None:
    if model is None or out is None:
        raise ValueError("mteb needs --model, and --out, the folder of its result files.")
    check_folder(out)
    silence_transformers()
    warnings.filterwarnings("ignore", module="sklearn")  # of classes without a prediction
    if options["quiet"]:
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    from internvideo_hf.evaluation.mteb_run import RESULTS, evaluate_on_mteb, find_tasks, table

    only = [] if tasks is None else [part for task in tasks.split(",") if (part := task.strip())]
    found = find_tasks(name, only)
    _check_reads_videos(model, resolve_model(model, any_family=True))  # which may download and convert it
    outcome = evaluate_on_mteb(
        model,
        found,
        out,
        device=parse_device(device),
        on_task=lambda task, number, total: remarks(options["quiet"])(f"{number}/{total} {task}"),
        **options,
    )
    say(table(outcome))
    if outcome.scores:
        say(f"The results are in {out / RESULTS}.")
    failures = [f"{task}: {cause}" for task, cause in outcome.failed.items()] + outcome.damaged
    report_failures(failures, len(outcome.scores) + len(outcome.failed) + len(outcome.damaged))


def _evaluate_ensemble(
    protocol: str | None, changes: list[str], members: list[str], device: str | None, **options: Any
) -> dict[str, Any]:
    from internvideo_hf.evaluation.protocols import load_ensemble

    protocol, changes = _or_default(protocol, changes, "classifiers")
    loaded = load_ensemble(protocol, changes)
    members = [member if Path(member).is_file() else resolve_model(member, CLASSIFIER) for member in members]
    silence_transformers()
    from internvideo_hf.evaluation.ensemble_run import evaluate_ensemble
    from internvideo_hf.evaluation.report import ensemble_table

    name = " ".join([protocol, *changes])
    result = evaluate_ensemble(loaded, members, name=name, device=parse_device(device), **options)
    say(ensemble_table(result))
    return result
