"""Options that several commands share, and the parsing of their values."""

import inspect
import json
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch

Videos = Annotated[list[str], typer.Argument(help="Video files, folders of frames, or http(s) URLs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Hide progress bars and status messages.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Device = Annotated[
    str | None, typer.Option(help='Device, e.g. "cuda" or "cpu" (default: the accelerator if available).')
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Worker processes (default: one per core).")]
DataRoot = Annotated[Path | None, typer.Option(help="Folder that relative paths in lists start from.")]
TopK = Annotated[int, typer.Option(min=1, help="Labels to show per video.")]

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


def takes_addresses(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of downloads to a command; the environment hands them to the processes that download.

    Args:
        command: a command with videos among its arguments.
    """

    @wraps(command)
    def with_downloads(*arguments: Any, **options: Any) -> None:
        given = {name: value for name in _DOWNLOADS if (value := options.pop(name, None)) is not None}
        if given:
            from internvideo_hf.video.downloads import DownloadSettings, variable_of

            DownloadSettings(**given)  # refuses numbers out of range
            os.environ.update({variable_of(name): str(float(value)) for name, value in given.items()})
        command(*arguments, **options)

    signature = inspect.signature(command)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in _DOWNLOADS.items()
    ]
    with_downloads.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *added]
    )
    with_downloads.__annotations__ = {**command.__annotations__, **_DOWNLOADS}
    return with_downloads


def resolve_model(model: str) -> str:
    """Return the folder or Hub repository id of a model, after checking that it may be one.

    A mistyped folder is refused at once; transformers would look for it on the Hub, for a minute if that is offline.
    """
    from internvideo_hf.demo.weights import DEMO_MODELS, resolve_demo_name

    model = resolve_demo_name(model)
    if Path(model).is_dir():
        _check_family(Path(model))
    elif model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise ValueError(
            f"{model} is neither a directory nor a Hub repository id (owner/name). Give a folder that `internvideo "
            f"convert` wrote, or one of the bundled toy models {', '.join(DEMO_MODELS)}, which know drawn shapes only."
        )
    return model


def _check_family(folder: Path) -> None:
    from internvideo_hf.auto import FAMILIES

    config = folder / "config.json"
    family = read_json(config).get("model_type") if config.is_file() else None
    if family is None:
        raise ValueError(f"{folder} holds no model: it has no config.json with a model_type. Convert the model again.")
    if family not in FAMILIES:
        raise ValueError(
            f"{folder} holds a {family!r} model, expected one of {', '.join(FAMILIES)}. If it comes from `convert "
            "--to transformers-...`, load it with transformers' own pipelines."
        )


def check_folder(out: Path) -> None:
    """Refuse an output folder whose name is taken by a file."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file. Give the name of a folder.")


def parse_device(name: str | None) -> "torch.device | None":
    """Parse --device; None is the default device."""
    import torch

    try:
        return None if name is None else torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device {name}: {error}") from error


def worker_count(jobs: int | None, tasks: int) -> int:
    """Return the number of processes: --jobs or one per core, but no more than there are tasks."""
    return max(1, min(jobs or os.cpu_count() or 1, tasks))


def read_text(path: Path) -> str:
    """Read a text file that a user wrote.

    Raises:
        ValueError: if it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # editors on Windows begin files with a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8: {error}.") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: if the file holds anything else.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object of settings, got a {type(content).__name__}.")
    return content
