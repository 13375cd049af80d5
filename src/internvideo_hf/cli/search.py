"""`index` and `search`: commands that find clips in folders of videos."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from internvideo_hf.cli.options import AsJson, Device, Quiet, known_model, processes, torch_device
from internvideo_hf.cli.reporting import quieten_transformers, report_failures


def index(
    videos: Annotated[list[str], typer.Argument(help="Folders, video files, addresses, lists of videos.")],
    out: Annotated[Path, typer.Option(help="The folder of the index; one that is there is brought up to date.")],
    model: Annotated[
        str | None, typer.Option(help="A converted model folder, or its name on the Hub; an index knows its own.")
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="Cut videos into windows of so many seconds, such as 8s; whole by default.")
    ] = None,
    stride: Annotated[
        str | None, typer.Option(help="Seconds from a window's start to the next one's; as the window by default.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="How embeddings are kept: float32 (the default), or float16 in half the room.")
    ] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Build an approximate index besides, for a million clips and more.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips that go through the model at once.")] = 8,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that decode; one for each core by default.")
    ] = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Embed videos, so that `internvideo search` finds them by text, by video or by image.

    Run it again after a kill, or when files came, changed, moved or went: only what changed is embedded. What was
    indexed below a named folder, and is gone, leaves the index; videos elsewhere stay in it. A folder without any
    video is refused, since its disk may be away.

    Example: internvideo index holidays --model internvideo-mm-l14 --out holidays.index --window 8s
    """
    options = {"window": _seconds("--window", window), "stride": _seconds("--stride", stride), "dtype": dtype}
    if model is not None:
        model = known_model(model)
    quieten_transformers()
    from tqdm import tqdm

    from internvideo_hf.data.folders import find_videos
    from internvideo_hf.search.index import VideoIndex
    from internvideo_hf.search.nearest import require_faiss

    if approximate:
        require_faiss()
    found = len(find_videos(videos))
    gallery = _open_or_new_index(VideoIndex, out, model, options, torch_device(device))
    with tqdm(desc="Indexing", unit="video", disable=quiet) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        change = gallery.update(videos, jobs=processes(jobs, found), batch_size=batch_size, on_done=show)
    if not quiet:
        counts = {name: len(value) for name, value in vars(change).items() if name != "failures" and value}
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        typer.echo(f"{out}: {len(gallery.videos)} videos in {len(gallery)} clips ({told or 'nothing to do'}).")
    failures = [str(error) for error in change.failures]
    if approximate:
        try:
            gallery.build_approximate()
        except ValueError as error:  # the index itself is there
            failures.append(str(error))
            found += 1
    report_failures(failures, found)


def search(
    index: Annotated[Path, typer.Argument(help="A folder that `internvideo index` wrote.")],
    text: Annotated[str | None, typer.Argument(help="What the clips should show.")] = None,
    video: Annotated[str | None, typer.Option(help="Find clips like this video, instead.")] = None,
    image: Annotated[str | None, typer.Option(help="Find clips like this image, instead.")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Hits to show.")] = 5,
    per_video: Annotated[int | None, typer.Option(min=1, help="The most hits of one video.")] = None,
    montage: Annotated[Path | None, typer.Option(help="A picture of the hits to write, such as hits.png.")] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Use the approximate index that `index --approximate` built.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="Where the index's model is now, if not where it was.")] = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Find clips by what they show; says so where nothing matches.

    z tells how far a clip's cosine lies above those of neutral captions with the same clip, in standard deviations.

    Example: internvideo search holidays.index "a dog catches a frisbee" --montage hits.png
    """
    if sum(query is not None for query in (text, video, image)) != 1:
        raise ValueError('Give one query: a text, such as "a dog runs", or --video FILE, or --image FILE.')
    from internvideo_hf.utils.pictures import check_picture, save_picture

    if montage is not None:
        check_picture(montage)
    quieten_transformers()
    from internvideo_hf.search import hits

    gallery = open_index(index, model, device)
    found = gallery.search(text, video=video, image=image, top_k=top_k, per_video=per_video, approximate=approximate)
    if montage is not None:
        save_picture(hits.montage(found, title=found.query), montage)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
        return
    if found.matches is False:
        typer.echo(found.verdict)
    for place, hit in enumerate(found, 1):
        mark = "*" if hit.matches else " "
        typer.echo(f"{mark}{place:3}. {hits.scores_line(hit)}  {hit.probability:6.1%}  {hit.time:>13}  {hit.video}")
    if found.matches:
        typer.echo(found.verdict)


def open_index(folder: Path, model: str | None, device: str | None) -> Any:
    """The index in a folder, after a check that its model is where it was, or where `model` says that it is."""
    from internvideo_hf.demo.weights import resolve_demo_name
    from internvideo_hf.search.index import VideoIndex

    gallery = VideoIndex.load(
        folder, model=None if model is None else resolve_demo_name(model), device=torch_device(device)
    )
    _check_model_of(folder, gallery)
    return gallery


def _check_model_of(folder: Path, index: Any) -> None:
    try:
        known_model(index.model)
    except ValueError as error:
        raise ValueError(f"The model of {folder}: {error} --model names where it is now.") from error


def _open_or_new_index(kind: Any, folder: Path, model: str | None, options: dict[str, Any], device: Any) -> Any:
    """The index in a folder, if what is asked suits it, or a new one."""
    if not (folder / "index.json").exists():
        if model is None:
            raise ValueError(f"{folder} holds no index yet. Name the model to make one with, by --model.")
        return kind(model, folder=folder, device=device, **options | {"dtype": options["dtype"] or "float32"})
    index = kind.load(folder, model=model, device=device)
    has = {"window": index.cut.window, "stride": index.cut.stride, "dtype": index.dtype}
    for name, value in options.items():
        if value is not None and value != has[name]:
            made = f"without --{name}" if has[name] is None else f"with --{name} {has[name]}"
            raise ValueError(f"{folder} was made {made}, not {value}. Leave the option out, or make a new index.")
    if model is None:
        _check_model_of(folder, index)
    return index


def _seconds(option: str, text: str | None) -> float | None:
    """`8s`, `0.5` or `2min` in seconds."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(s|sec|m|min)?", text.strip())
    if match is None:
        raise ValueError(f"{option} {text}: expected seconds, such as 8s or 0.5s, or minutes, such as 2min.")
    return float(match[1]) * (60 if (match[2] or "s").startswith("m") else 1)
