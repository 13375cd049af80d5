"""The command that fits a scorer of unknown videos: `calibrate`."""

from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from internvideo_hf.cli.completion import model_names
from internvideo_hf.cli.inference import parse_views
from internvideo_hf.cli.options import (
    CLASSIFIER_HELP,
    SAVED,
    AsJson,
    BatchSize,
    DataRoot,
    Device,
    Dtype,
    LoaderWorkers,
    MaxDamaged,
    Quiet,
    parse_device,
    parse_dtype,
    resolve_model,
)
from internvideo_hf.cli.reporting import print_json, report_failures, say, silence_transformers
from internvideo_hf.inference.kinds import CLASSIFIER


def calibrate(
    model: Annotated[str, typer.Argument(help=CLASSIFIER_HELP, autocompletion=model_names)],
    validation: Annotated[
        str, typer.Argument(metavar="VAL.CSV", help="List of known videos and labels, or folder of clips by class.")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Options of the method, such as temperature=2 or rate=0.5.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help='Folder for the result (default: "open_set" in the model\'s folder; bundled models need this option).'
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="max_softmax, max_logit, energy, entropy, temperature, evidential, mc_dropout, ensemble, bayesian, "
            "rpl, gcp, openmax."
        ),
    ] = "max_softmax",
    accepted: Annotated[float, typer.Option(help="Ratio of known videos to accept, above 0, at most 1.")] = 0.95,
    rule: Annotated[
        str,
        typer.Option(
            help='Which known video sets the threshold: "accepted", as the ratio says; "published_softmax", one place '
            'lower; "published_inverted", as a released script has it by mistake: it accepts the rest of the ratio.'
        ),
    ] = "accepted",
    views: Annotated[
        str | None,
        typer.Option(help="Clips x crops per video, such as 1x3 (default: those of the released test)."),
    ] = None,
    data_root: DataRoot = None,
    batch_size: BatchSize = 8,
    dtype: Dtype = SAVED,
    workers: LoaderWorkers = None,
    max_damaged: MaxDamaged = 0.01,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fit a scorer of unknown videos for a classifier, and its threshold.

    VAL.CSV holds videos of the model's own classes that it was not trained on, some of each class. Each gets a score
    of how little the model knows it; the threshold is the score below which 95 % of them lie (--accepted). `classify
    --open-set` then answers "unknown" above it. No unknown videos are needed.

    max_softmax, max_logit, energy and entropy need nothing but the model, temperature fits one number. evidential is
    for models that were trained for it (recipes open_set/...). mc_dropout runs the model 10 times with its dropout, or
    with that of rate=0.5 before its last layer; ensemble compares it with others: members=[FOLDER,FOLDER]. bayesian,
    rpl and gcp learn a last layer on the model's features from VAL.CSV, openmax measures distances in them; they want
    tens of videos of each class. merge=score averages the logits of the views first (the default of evidential and
    openmax), merge=prob what each view says.

    Resumable: rerun the same command after an interruption.

    Example: internvideo calibrate run/final val.csv --method energy

    Example: internvideo calibrate vit-b-k400 val.csv rate=0.5 --method mc_dropout --views 1x3 --out unknown-k400
    """
    clips_and_crops, number_type, options = (
        parse_views(views),
        parse_dtype(dtype, device, model),
        _parse_options(settings or []),
    )
    name = resolve_model(model, CLASSIFIER)
    silence_transformers()
    from internvideo_hf.tasks.open_set.calibration import calibrate as fit

    result = fit(
        name,
        validation,
        out,
        method=method,
        accepted=accepted,
        rule=rule,
        data_root=data_root,
        views=None if views is None else (clips_and_crops["num_clips"], clips_and_crops["num_crops"]),
        batch_size=batch_size,
        workers=workers,
        device=parse_device(device),
        dtype=number_type,
        max_damaged=max_damaged,
        quiet=quiet,
        **options,
    )
    if as_json:
        print_json(result)
    else:
        _show(result, model, out)
    report_failures([entry["cause"] for entry in result["damaged"]], result["videos"] + len(result["damaged"]))


def _show(result: dict[str, Any], model: str, out: Path | None) -> None:
    clips, crops = result["views"]
    say(f"{result['method']} of {model}: {result['videos']} known videos, {clips} clips x {crops} crops of each")
    say(f"  threshold {result['threshold']:.6g}: {result['accepted']:.1%} of them are at or below it")
    say(f"  top-1     {result['top-1']:.2f} %")
    say(f"Wrote {result['scorer']}. Use it: internvideo classify VIDEO --model {model} --open-set {out or model}")


def _parse_options(settings: list[str]) -> dict[str, Any]:
    """Return the method's options, whose values are YAML."""
    from internvideo_hf.recipes.reading import load_yaml
    from internvideo_hf.tasks.open_set.calibration import calibrate as fit

    reserved = {
        name: "an argument of the command, not of a method"
        if entry.default is Parameter.empty
        else f"an option of the command: --{name.replace('_', '-')}"
        for name, entry in signature(fit).parameters.items()
        if entry.kind is not Parameter.VAR_KEYWORD
    }
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"Got {setting!r} for an option of a method. Expected NAME=VALUE, such as temperature=2.")
        if name in reserved:
            raise ValueError(f"{name} is {reserved[name]}.")
        found[name] = load_yaml(value, setting)
    return found
