"""`evaluate`: scores of models and ensembles by published protocols."""

from pathlib import Path
from typing import Annotated, Any

import typer

from internvideo_hf.cli.options import Device, Quiet, known_model, torch_device
from internvideo_hf.cli.reporting import quieten_transformers, report_failures


def evaluate(
    protocol: Annotated[str | None, typer.Argument(help="A name that --list shows, or a .yaml file.")] = None,
    changes: Annotated[
        list[str] | None, typer.Argument(help="Values to change, such as processor.num_frames=16.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A converted model folder, or its name on the Hub.")] = None,
    ensemble: Annotated[
        list[str] | None,
        typer.Option(help="A member of an ensemble, once for each: a classifier's folder, or a file of its scores."),
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="A folder that keeps each member's scores, and takes them up again.")
    ] = None,
    data_root: Annotated[
        Path, typer.Option(help="The folder that the protocol's lists begin in, and that holds the videos.")
    ] = Path("."),
    out: Annotated[Path | None, typer.Option(help="A JSON file for the result, such as result.json.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Videos (of ensembles, views) in a model at once.")] = 8,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode; one for each core, 8 at most, by default.")
    ] = None,
    max_damaged: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Share of the videos that may be damaged.")
    ] = 0.01,
    device: Device = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the protocols.")] = False,
    quiet: Quiet = False,
) -> None:
    """Score a model by a published protocol, and show the published numbers beside.

    Retrieval, zero-shot classification and multiple choice, by one model. Retrieval is scored plain and by dual
    softmax. Damaged videos are listed last and never count as correct.

    With --ensemble, several classifiers, whose probabilities are summed: internvideo_d and internvideo_t as in the
    paper, or any, on data.list=..., with weights=[0.6,0.4], or weights=fitted data.validation=... Without a protocol
    it is "classifiers": your own list, val.csv.

    Example: internvideo evaluate retrieval/msrvtt --model internvideo-mm-merged --data-root msrvtt --out result.json

    Example: internvideo evaluate internvideo_d --ensemble vit-h-k400 --ensemble uniformerv2-l-k400 --data-root k400
    """
    from internvideo_hf.evaluation.protocols import ensemble_names, load_ensemble, load_protocol, protocol_names

    if list_all:
        titles = {name: load_protocol(name).title for name in protocol_names()}
        titles |= {name: load_ensemble(name).title for name in ensemble_names()}
        for name, title in sorted(titles.items()):
            typer.echo(f"{name:32} {title}")
        return
    if ensemble:
        if model is not None:
            raise ValueError("--model is for one model alone; name each member of an ensemble by --ensemble.")
        options = {
            "batch_size": batch_size,
            "max_damaged": max_damaged,
            "device": torch_device(device),
            "quiet": quiet,
        }
        _evaluate_ensemble(protocol, changes or [], ensemble, data_root, out, scores, workers, options)
        return
    if scores is not None:
        raise ValueError("--scores keeps the scores of an ensemble's members: name them by --ensemble.")
    if protocol is None or model is None:
        raise ValueError(
            "Give a protocol and --model, or members of an ensemble by --ensemble; `internvideo evaluate --list` "
            "shows the protocols."
        )
    loaded = load_protocol(protocol, changes or [])
    model = known_model(model)
    quieten_transformers()
    from internvideo_hf.evaluation.report import table
    from internvideo_hf.evaluation.run import evaluate

    result = evaluate(
        loaded,
        model,
        data_root,
        out,
        name=" ".join([protocol, *(changes or [])]),
        batch_size=batch_size,
        workers=workers,
        device=torch_device(device),
        max_damaged=max_damaged,
        quiet=quiet,
    )
    typer.echo(table(result))
    report_failures([entry["cause"] for entry in result["damaged"]], result["data"]["videos"])


def _evaluate_ensemble(
    protocol: str | None,
    changes: list[str],
    members: list[str],
    data_root: Path,
    out: Path | None,
    scores: Path | None,
    workers: int | None,
    options: dict[str, Any],
) -> None:
    from internvideo_hf.evaluation.protocols import load_ensemble

    if protocol is not None and "=" in protocol:  # a change, with the protocol left out
        protocol, changes = None, [protocol, *changes]
    protocol = protocol or "classifiers"
    loaded = load_ensemble(protocol, changes)
    members = [member if Path(member).is_file() else known_model(member) for member in members]
    quieten_transformers()
    from internvideo_hf.evaluation.ensemble_run import evaluate_ensemble
    from internvideo_hf.evaluation.report import ensemble_table
    from internvideo_hf.utils.devices import default_workers

    result = evaluate_ensemble(
        loaded,
        members,
        data_root,
        out,
        scores=scores,
        name=" ".join([protocol, *changes]),
        workers=default_workers(workers),
        **options,
    )
    typer.echo(ensemble_table(result))
    report_failures([entry["cause"] for entry in result["damaged"]], result["data"]["videos"])
