"""The command that trains small classifiers on frozen features: `probe`."""

from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from internvideo_hf.cli.completion import model_names
from internvideo_hf.cli.options import (
    ANY_MODEL_HELP,
    SAVED,
    AsJson,
    BatchSize,
    DataRoot,
    Device,
    Dtype,
    LoaderWorkers,
    MaxDamaged,
    Quiet,
    Retry,
    check_folder,
    parse_device,
    parse_dtype,
    resolve_model,
)
from internvideo_hf.cli.reporting import print_json, report_failures, say, show_progress, silence_transformers


def probe(
    train: Annotated[
        str,
        typer.Argument(metavar="LIST", help="List of training clips with labels, or folder of clips by class."),
    ],
    changes: Annotated[
        list[str] | None, typer.Argument(help="Changes of the probe's recipe, such as epochs=50 or depth=4.")
    ] = None,
    model: Annotated[str | None, typer.Option(help=ANY_MODEL_HELP, autocompletion=model_names)] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the features, what was trained so far, and result.json.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="linear, attentive, or a .yaml file; repeat it for several (default: linear)."),
    ] = None,
    shots: Annotated[
        str, typer.Option(help='Clips of each class to train on, such as "1,5,20,all"; all of the list by default.')
    ] = "all",
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Draws of training clips, to average over.")] = 5,
    validation: Annotated[
        str | None,
        typer.Option(help="List of clips to test on (default: 30 % of each class of LIST, the same for all seeds)."),
    ] = None,
    data_root: DataRoot = None,
    max_memory: Annotated[float, typer.Option(min=0.001, help="The most gigabytes that features may take.")] = 8.0,
    batch_size: BatchSize = 8,
    dtype: Dtype = SAVED,
    workers: LoaderWorkers = None,
    max_damaged: MaxDamaged = 0.01,
    retry: Retry = False,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Tell how good the features of an encoder are: train small classifiers on them, with the encoder frozen.

    A linear probe is a logistic regression on one vector of each clip: the model's own, see `extract --pooling auto`.
    An attentive probe pools all tokens of a clip by a learned query; it needs them in memory (--max-memory), in half
    precision. Both see each clip as the model's processor samples it, with one view.

    With --shots, a few clips of each class are drawn, others for each seed; 5 clips of a class contain the 1 of that
    seed. Penalty (linear) or learning rate (attentive) is chosen on a fifth of the training clips of each class, and
    the probe then trained on all; of a single clip it is the recipe's. The test clips are the same for all.
    The table has the mean of the accuracy over the seeds, and its 95 % confidence interval by Student's t.

    Unreadable clips are left out of the training, and count as wrong in the test.

    Resumable: rerun the same command after an interruption. Features stay in OUT/features, so that other --kind,
    --shots and --seeds do not run the model again; delete that folder to have its room back.

    Example: internvideo probe train.csv --validation val.csv --model internvideo-mm-l14 --shots 1,5,20 --out probe

    Example: internvideo probe clips --model facebook/vjepa2-vitl-fpc64-256 --kind linear --kind attentive --out probe

    Example: internvideo probe train.csv depth=4 epochs=50 --model vit-b-k400 --kind attentive --out probe
    """
    if model is None or out is None:
        raise ValueError("Say which encoder is probed, by --model, and where the result goes, by --out FOLDER.")
    number_type = parse_dtype(dtype, device, model)
    numbers = _parse_shots(shots)
    model = resolve_model(model, any_family=True)
    check_folder(out)
    silence_transformers()
    from tqdm import tqdm

    from internvideo_hf.evaluation import probing
    from internvideo_hf.evaluation.probes import load_probe
    from internvideo_hf.inference.runner import RunSettings

    probes = {Path(name).stem: load_probe(name, changes or []) for name in kind or ["linear"]}
    settings = RunSettings(batch_size, workers, max_damaged, quiet)
    options: dict[str, Any] = {"validation": validation, "data_root": data_root, "shots": numbers, "seeds": seeds}
    options |= {"settings": settings, "device": parse_device(device), "dtype": number_type}
    with ExitStack() as stack:

        @cache
        def bar() -> Any:  # when the first probe is trained: features have a bar of their own
            return stack.enter_context(tqdm(desc="Training probes", unit="probe", disable=quiet))

        def progress(done: int, total: int) -> None:
            show_progress(bar(), done, total)

        result = probing.probe(
            model, train, probes, out, **options, max_memory=max_memory, retry=retry, on_fit=progress
        )
    if as_json:
        print_json(result)
    else:
        say(probing.table(result))
        if not quiet:
            say(f"\nThe result is in {out / probing.RESULT}.")
    report_failures([entry["cause"] for entry in result["damaged"]], _clips_of(result))


def _clips_of(result: dict[str, Any]) -> int:
    return sum(int(result["data"][part]["clips"]) for part in ("train", "test"))


def _parse_shots(text: str) -> list[int | str]:
    """Parse --shots, such as "1,5,all"."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part == "all" or (part.isdecimal() and int(part) > 0) for part in parts):
        raise ValueError(f'--shots {text}: expected numbers of clips, or all, such as "1,5,20,all".')
    return [part if part == "all" else int(part) for part in dict.fromkeys(parts)]
