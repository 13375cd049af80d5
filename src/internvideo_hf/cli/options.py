"""Options that several commands share, and the parsing of their values."""

import inspect
import json
import math
import os
from collections.abc import Callable, Mapping
from functools import partial, wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internvideo_hf.utils.names import check_name, reason_of, unknown_name, with_article
from internvideo_hf.utils.storage import AnyPath, StoragePath

if TYPE_CHECKING:
    import torch

    from internvideo_hf.data.executors.parts import Engine

OR_STORED = "also in object stores: s3://, gs://, az://, hf://"
"""What help says of arguments that are read; hf:// is not written to."""
OR_STORED_OUTPUT = "also in an object store: s3://, gs://, az://"
Videos = Annotated[
    list[str],
    typer.Argument(
        help="Video files, folders of videos or of frames, lists (csv, json, parquet, tar, ...), or http(s) URLs; "
        f"{OR_STORED}."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Hide progress bars and status messages.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Device = Annotated[
    str | None, typer.Option(help='Device, e.g. "cuda" or "cpu" (default: the accelerator if available).')
]
Dtype = Annotated[
    str,
    typer.Option(
        help='Number type in which the model runs: "saved", "float32", "float16", "bfloat16", "int8" for its weights '
        '(extra `int8`), or "auto" for bfloat16 where the device multiplies it fast, else as saved. All but float32 '
        "take less memory and round more: answers change a little."
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        min=1,
        help="The most clips (views, windows) per forward pass. Fewer if memory runs out, more for a large GPU.",
    ),
]
LoaderWorkers = Annotated[
    int | None, typer.Option(min=0, help="Decoding processes (default: one per core, at most 8).")
]
MaxDamaged = Annotated[float, typer.Option(min=0.0, max=0.99, help="Tolerated ratio of damaged videos.")]
MODEL_HELP = "Folder of a converted model, a name of `internvideo released`, or a Hub repository id."
ANY_MODEL_HELP = (
    "Folder of a converted model, or of a video encoder of transformers or sentence-transformers (VideoMAE, V-JEPA 2, "
    "VideoPrism, X-CLIP, ...); a name of `internvideo released`, or a Hub repository id."
)
CLASSIFIER_HELP = MODEL_HELP.replace("model", "classifier", 1)
AUTOENCODER_HELP = MODEL_HELP.replace("converted model", "pretrained VideoMAE", 1)
CAPTIONER_HELP = MODEL_HELP.replace("model", "InternVideo-MM with its caption decoder", 1)
ANSWERER_HELP = MODEL_HELP.replace("model", "question-answering model", 1)
SAVED = "saved"
"""Value of --dtype: the number type in which a model is saved."""
Jobs = Annotated[int | None, typer.Option(min=1, help="Worker processes (default: one per core).")]
EngineName = Annotated[
    str,
    typer.Option(
        help='Where models and decoders run: "local", or "ray" for a cluster (extra `ray`), whose machines share the '
        "disks of videos, model and output."
    ),
]
Address = Annotated[
    str | None,
    typer.Option(help='Address of the Ray cluster; "auto" for the one of this machine (default: a new one here).'),
]
Gpus = Annotated[
    int | None,
    typer.Option(
        min=1, help="Accelerators to use, each with a model of its own (default: 1; with --engine ray all of them)."
    ),
]
_SHORTEST, _LONGEST = 0.1, 1e6  # seconds; the system counts milliseconds in 32 bits
_NO_LIMIT = ("0", "none")


def _parse_timeout(text: str) -> float:
    """Parse --video-timeout; `math.inf` is no limit."""
    if text.strip().lower() in _NO_LIMIT:
        return math.inf
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not _SHORTEST <= seconds <= _LONGEST:
        raise typer.BadParameter(
            f"{text}: expected seconds, {_SHORTEST:g} to {_LONGEST:.0f}, or 0 or none for no limit."
        )
    return seconds


def _timeout_option(what: str, default: str) -> Any:
    return typer.Option(
        parser=_parse_timeout,
        metavar="SECONDS",
        help=f"Seconds after which {what} counts as hung (default: {default}); 0 or none for no limit.",
    )


DecoderTimeout = Annotated[float | None, _timeout_option("a decoder", "600")]
VideoTimeout = Annotated[
    float | None, _timeout_option("a decoder", "600, or 3600 for whole videos; no limit where this process decodes")
]
AnswerTimeout = Annotated[
    float | None, _timeout_option("a video, which is decoded where the model is,", "3600, and no limit without --out")
]
Retry = Annotated[
    bool, typer.Option("--retry", help="Try again what has killed or hung its decoder in an earlier run.")
]
DataRoot = Annotated[Path | None, typer.Option(help=f"Folder that relative paths in lists start from; {OR_STORED}.")]
TopK = Annotated[int, typer.Option(min=1, help="Labels to show per video.")]

# Field of `ReadSettings` -> the option of commands that read videos.
_READING = {
    "max_pixels": Annotated[
        int | None, typer.Option("--max-pixels", help="The most pixels of a frame or image (8192 x 8192).")
    ],
    "max_pictures": Annotated[
        int | None, typer.Option("--max-pictures", help="The most frames of a GIF, APNG or WebP (10000).")
    ],
    "hdr": Annotated[
        str | None, typer.Option("--hdr", help='HDR videos: "tonemap" to ordinary colors (default), or "ignore" HDR.')
    ],
}
# Field of `DownloadSettings` -> the option of commands that take addresses.
_DOWNLOADS = {
    "timeout": Annotated[float | None, typer.Option("--download-timeout", help="URLs: seconds without data (30).")],
    "deadline": Annotated[float | None, typer.Option("--download-deadline", help="URLs: seconds in all (600).")],
    "max_bytes": Annotated[int | None, typer.Option("--download-max-bytes", help="URLs: the most bytes (2 GiB).")],
    "allow_private": Annotated[
        bool | None, typer.Option("--allow-private", help="URLs: follow redirects into the local network.")
    ],
    "allow_playlists": Annotated[
        bool | None, typer.Option("--allow-playlists", help="URLs: fetch what an HLS playlist (.m3u8) names.")
    ],
}
# Field of `ModelSettings` -> the option of commands that run a model.
_RUNNING = {
    "compile": Annotated[
        bool | None,
        typer.Option(
            "--compile",
            help="Compile the model for this device: the first batch takes a minute longer, each one less time.",
        ),
    ],
}


def runs_models(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of running models to a command.

    Args:
        command: a command with --dtype.
    """
    return _with_settings(command, "internvideo_hf.inference.precision", "ModelSettings", _RUNNING)


def takes_videos(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of reading videos to a command.

    Args:
        command: a command with videos among its arguments.
    """
    return _with_settings(command, "internvideo_hf.video.settings", "ReadSettings", _READING)


def takes_addresses(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of reading videos and of downloads to a command.

    Args:
        command: a command with videos among its arguments, which may be URLs.
    """
    return _with_settings(takes_videos(command), "internvideo_hf.video.downloads", "DownloadSettings", _DOWNLOADS)


def _with_settings(
    command: Callable[..., None], module: str, name: str, options: Mapping[str, Any]
) -> Callable[..., None]:
    """Add options that are fields of settings; the environment hands them to the processes that read."""

    @wraps(command)
    def with_settings(*arguments: Any, **values: Any) -> None:
        given = {field: value for field in options if (value := values.pop(field, None)) is not None}
        if given:
            defined_in = import_module(module)  # late: `--help` does without torch
            getattr(defined_in, name)(**given)  # refuses invalid values
            for field, value in given.items():
                text = value if isinstance(value, str) else str(float(value))
                os.environ[f"{defined_in.PREFIX}{field.upper()}"] = text
        command(*arguments, **values)

    signature = inspect.signature(command)
    added = [
        inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for field, kind in options.items()
    ]
    with_settings.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *added]
    )
    with_settings.__annotations__ = {**command.__annotations__, **options}
    return with_settings


def check_alone(context: typer.Context, option: str) -> None:
    """Refuse arguments beside an option with which the command does nothing else.

    Args:
        context: of the command.
        option: as the user writes it.
    """
    given = [one.opts[0] for one in context.command.params if is_given(context, str(one.name))]
    if others := [name for name in given if name != option]:
        raise ValueError(f"{option} is asked for alone. Leave out {', '.join(others)}.")


def is_given(context: typer.Context, name: str) -> bool:
    """Return whether the user has given a parameter, rather than its default.

    Args:
        context: of the command.
        name: of the parameter in Python.
    """
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def resolve_model(model: str, kind: str | None = None, *, any_family: bool = False) -> str:
    """Return the folder or Hub repository id of a model, after checking that it may be one; see `model_names`.

    Args:
        model: as the user has named it.
        kind: the kind of model that is needed, see `kinds`; any if None.
        any_family: take models of transformers too.
    """
    from internvideo_hf.checkpoints import model_names
    from internvideo_hf.cli.kinds import check_kind
    from internvideo_hf.utils.pretrained import check_model_folder

    found = model_names.resolve_model(model)
    if Path(found).is_dir():
        check_model_folder(found)
        if not any_family:
            _check_family(Path(found))
        if kind is not None:
            check_kind(model, found, kind)
    return found


def _check_family(folder: Path) -> None:
    from internvideo_hf.auto import FAMILIES

    config = folder / "config.json"
    family = read_json(config).get("model_type") if config.is_file() else None
    if family is None:
        raise ValueError(f"{folder} holds no model: it has no config.json with a model_type. Convert the model again.")
    if family not in FAMILIES:
        raise ValueError(
            f"{unknown_name(family, FAMILIES, f'model_type in {config}')} A video encoder of transformers is for "
            "`extract`, `index`, `probe`, `localize --encoder`, and a classifier for `evaluate`; the rest is for "
            "transformers' own pipelines."
        )


def check_folder(out: AnyPath, option: str = "--out") -> None:
    """Refuse an output folder that cannot be written, before the work begins."""
    from internvideo_hf.utils.files import check_output

    if isinstance(out, StoragePath):
        check_output(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{option} {out} is a file. Give the name of a folder.")
    if isinstance(out, Path):
        check_output(out)


def parse_device(name: str | None) -> "torch.device | None":
    """Parse --device; None is the default device."""
    import torch

    from internvideo_hf.utils.devices import default_device

    if name is None:
        return None
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"--device {name}: {cause.rstrip('.')}. Leave it out for {default_device()}.") from error


def parse_dtype(name: str, device: str | None, *models: str | Path | None) -> str | None:
    """Check --dtype, before the work begins; None is the number type in which the model is saved.

    Args:
        name: the value of --dtype.
        device: the value of --device, on which "auto" depends.
        models: values of options that name models; "auto" leaves exported ones in the number type that they have.
    """
    from internvideo_hf.models.common.exported.manifest import is_exported
    from internvideo_hf.utils.devices import NUMBER_TYPES, fastest_dtype

    check_name(name, (SAVED, "auto", *NUMBER_TYPES), "--dtype")
    if name == "auto":
        return None if any(map(is_exported, models)) else fastest_dtype(parse_device(device))
    return None if name == SAVED else name


def has_limit(timeout: float | None) -> bool:
    """Return whether --video-timeout names seconds, for which a video is decoded in a process that can be ended.

    Args:
        timeout: the value of --video-timeout.
    """
    return timeout is not None and timeout != math.inf


def worker_count(jobs: int | None, tasks: int) -> int:
    """Return the number of processes: --jobs or one per core, but no more than there are tasks."""
    return max(1, min(jobs or os.cpu_count() or 1, tasks))


def engine_of(
    name: str, address: str | None, gpus: int | None, jobs: int | None, device: str | None, *, apart: bool = False
) -> "Engine | None":
    """Return what runs models in processes of their own; None where one model in this process is enough.

    Args:
        name: as of `engine_starter`.
        address: the same.
        gpus: the same.
        jobs: the same.
        device: the same.
        apart: the same.
    """
    start = engine_starter(name, address, gpus, jobs, device, apart=apart)
    return None if start is None else start()


def engine_starter(
    name: str,
    address: str | None,
    gpus: int | None,
    jobs: int | None,
    device: str | None,
    *,
    apart: bool = False,
    jobs_option: str = "--jobs",
) -> "Callable[[], Engine] | None":
    """Check the options of `engine_of`, and return what starts its engine, which takes seconds; None without one.

    Args:
        name: the value of --engine.
        address: the value of --address.
        gpus: the value of --gpus.
        jobs: the value of --jobs.
        device: the value of --device.
        apart: one model runs in a process of its own, too, which a video may kill or hang.
        jobs_option: the command's name of --jobs.
    """
    check_name(name, ("local", "ray"), "--engine")
    if device is not None and (gpus is not None or name == "ray"):
        raise ValueError("--device says where one model runs, --gpus and --engine ray where several do. Give one.")
    if name == "ray":
        from internvideo_hf.data.executors.cluster import RayEngine, check_address, require_ray

        if jobs is not None:
            raise ValueError(
                f"{jobs_option} is of this machine, and --engine ray decodes on all CPUs of the cluster. Leave it out."
            )
        require_ray()
        if address is not None:
            check_address(address)
        return partial(RayEngine, address, gpus)
    if address is not None:
        raise ValueError(f"--address {address} is of a Ray cluster. Add --engine ray.")
    count, jobs = gpus or 1, jobs or os.cpu_count() or 1
    if count == 1 and not apart:
        return None
    import torch

    from internvideo_hf.data.executors.local import LocalEngine
    from internvideo_hf.utils.devices import default_device

    if count == 1:
        return partial(LocalEngine, [str(default_device(parse_device(device)))], jobs)
    there = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    if count > there:
        raise ValueError(f"--gpus {count}: this machine has {there} accelerators. Leave the option out for one model.")
    kind = torch.accelerator.current_accelerator()
    assert kind is not None  # there are some
    return partial(LocalEngine, [f"{kind.type}:{number}" for number in range(count)], jobs)


def decoders(name: str, address: str | None, jobs: int | None, tasks: int) -> dict[str, Any]:
    """Return how many decoders run at once, `jobs`, and where, `executor`; None is this machine.

    Args:
        name: the value of --engine.
        address: the value of --address.
        jobs: the value of --jobs.
        tasks: number of videos.
    """
    engine = engine_of(name, address, None, jobs, None)
    if engine is None:
        return {"jobs": worker_count(jobs, tasks), "executor": None}
    return {"jobs": engine.workers * engine.decoders, "executor": engine.executor()}


def read_text(path: Path) -> str:
    """Read a text file that a user wrote.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # editors on Windows begin files with a byte order mark
    except OSError as error:
        raise OSError(f"{path} cannot be read ({reason_of(error)}). Check the path.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8: {error}.") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: if the file holds anything else.
    """
    try:
        content = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object of settings, got {with_article(type(content).__name__)}.")
    return content
