"""Options that several commands share, and the reading of their values."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

Videos = Annotated[list[str], typer.Argument(help="Video files, folders of frames, or http(s) addresses.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars and no remarks.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Device = Annotated[str | None, typer.Option(help='Such as "cuda", "cpu"; the accelerator if there is one.')]
Jobs = Annotated[int | None, typer.Option(min=1, help="Processes; one for each core by default.")]
DataRoot = Annotated[Path | None, typer.Option(help="The folder that relative paths of lists begin in.")]
TopK = Annotated[int, typer.Option(min=1, help="Labels to show for each video.")]


def known_model(model: str) -> str:
    """The folder or Hub name of a model, after a check that it may be one.

    A mistyped folder is refused at once; transformers would look for it on the Hub, for a minute if that is away.
    """
    from internvideo_hf.demo.weights import DEMO_MODELS, resolve_demo_name

    model = resolve_demo_name(model)
    is_hub_name = model.count("/") == 1 and not model.startswith((".", "/", "~"))
    if not Path(model).is_dir() and not is_hub_name:
        raise ValueError(
            f"{model} is no folder, and no name on the Hub (owner/name). Give the folder that `internvideo convert` "
            f"wrote, or one of {', '.join(DEMO_MODELS)}, which come with the package and know drawn shapes only."
        )
    if Path(model).is_dir():
        from internvideo_hf.auto import FAMILIES

        config = Path(model) / "config.json"
        family = read_json(config).get("model_type") if config.is_file() else None
        if family is None:
            raise ValueError(f"{model} holds no model: there is no config.json that names one. Convert it again.")
        if family not in FAMILIES:
            raise ValueError(
                f"{model} holds a {family!r} model of other classes than ours ({', '.join(FAMILIES)}). If it comes "
                "from `convert --to transformers-...`, it is meant for transformers' own pipelines."
            )
    return model


def torch_device(name: str | None) -> Any:
    import torch

    try:
        return None if name is None else torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device {name}: {error}") from error


def processes(asked: int | None, tasks: int) -> int:
    """One process for each core, but no more than there is work for."""
    return max(1, min(asked or os.cpu_count() or 1, tasks))


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # editors on Windows begin files with a mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8: {error}.") from error


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object of settings, got a {type(content).__name__}.")
    return content
