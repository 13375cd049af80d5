"""Commands that find clips in folders of videos: `index`, `search`."""

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internvideo_hf.cli.completion import model_names
from internvideo_hf.cli.kinds import not_of_kind
from internvideo_hf.cli.options import (
    ANY_MODEL_HELP,
    OR_STORED,
    OR_STORED_OUTPUT,
    SAVED,
    Address,
    AsJson,
    BatchSize,
    Device,
    Dtype,
    EngineName,
    Gpus,
    Quiet,
    Retry,
    VideoTimeout,
    engine_of,
    parse_device,
    parse_dtype,
    resolve_model,
    worker_count,
)
from internvideo_hf.cli.reporting import (
    print_json,
    remark_on_scripts,
    remarks,
    report_failures,
    say,
    show_progress,
    silence_transformers,
)
from internvideo_hf.inference.kinds import DUAL_ENCODER, kind_of, serves
from internvideo_hf.utils.names import printable
from internvideo_hf.utils.passwords import without_passwords
from internvideo_hf.utils.storage import StoragePath, as_path

if TYPE_CHECKING:
    from internvideo_hf.search.index import VideoIndex

STORES = "lance:PATH, or postgresql://user@host/database#schema"


def index(
    videos: Annotated[list[str], typer.Argument(help=f"Folders, video files, URLs, lists of videos; {OR_STORED}.")],
    out: Annotated[
        Path | None, typer.Option(help=f"Folder of the index, {OR_STORED_OUTPUT}; an existing index is updated.")
    ] = None,
    store: Annotated[str | None, typer.Option(help=f"Keep the index elsewhere: {STORES}. In place of --out.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help=f"{ANY_MODEL_HELP[:-1]}; an existing index names its own.", autocompletion=model_names),
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="Cut videos into windows of this length, such as 8s (default: no cuts).")
    ] = None,
    stride: Annotated[str | None, typer.Option(help="Seconds between window starts (default: the window).")] = None,
    store_dtype: Annotated[
        str | None,
        typer.Option(help="Number type of stored embeddings: float32 (default), or float16 at half the size."),
    ] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Also build an approximate index, for a million clips and more.")
    ] = False,
    batch_size: BatchSize = 8,
    dtype: Dtype = SAVED,
    jobs: Annotated[int | None, typer.Option(min=1, help="Decoding processes (default: one per core).")] = None,
    engine: EngineName = "local",
    address: Address = None,
    gpus: Gpus = None,
    video_timeout: VideoTimeout = None,
    retry: Retry = False,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Embed videos, so that `internvideo search` finds them by text, by video or by image.

    Incremental: rerun it after an interruption, or after files were added, changed, moved or deleted; only changes are
    embedded. Videos that were deleted below a named folder leave the index; videos elsewhere stay in it. A folder
    without any video is refused, since its disk may not be mounted. An index keeps its window, its stride and its
    number types, also that of the model. Videos that fail are rows of OUT.failures.jsonl beside it.

    Other columns of a list (csv, json, ...) go along with its videos, for `internvideo search --where`.

    On a Ray cluster of several machines the same command takes --engine ray --address auto; the index is the same.

    With --store, the index is in LanceDB (extra `lance`) or in PostgreSQL with pgvector (extra `postgres`); leave the
    password of a server to PGPASSWORD or ~/.pgpass.

    Example: internvideo index holidays --model internvideo-mm-l14 --out holidays.index --window 8s

    Example: internvideo index holidays --model internvideo-mm-l14 --store postgresql://me@host/videos#holidays
    """
    if (out is None) == (store is None):
        raise ValueError("Say where the index is: a folder by --out, or the address of a store by --store.")
    place = _place_of(out, store)
    options = {
        "window": _parse_seconds("--window", window),
        "stride": _parse_seconds("--stride", stride),
        "store-dtype": store_dtype,
        "dtype": parse_dtype(dtype, device, model),
    }
    if model is not None:
        named, model = model, resolve_model(model, any_family=True)
        if not quiet:
            _remark_on_texts(named, model)
    silence_transformers()
    from tqdm import tqdm

    from internvideo_hf.search.stores.nearest import require_faiss

    workers = engine_of(engine, address, gpus, jobs, device)
    if approximate and store is None:
        require_faiss()
    attempts = _count_videos(videos, quiet)
    gallery = _open_or_new_index(place, model, options, parse_device(device))
    # The delay has the bar wait for a first video: the model may be refused before.
    with tqdm(desc="Indexing", unit="video", delay=0.1, disable=quiet) as bar:
        change = gallery.update(
            videos,
            jobs=worker_count(jobs, attempts),
            engine=workers,
            timeout=video_timeout,
            batch_size=batch_size,
            retry=retry,
            on_done=partial(show_progress, bar),
        )
    if not quiet:
        if gallery.remark:
            say(gallery.remark, err=True)
        counts = {name: len(value) for name, value in vars(change).items() if name != "failures" and value}
        summary = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing to do"
        say(f"{gallery.place or place}: {len(gallery.videos)} videos in {len(gallery)} clips ({summary}).")
    failures = [str(error) for error in change.failures]
    if approximate:
        try:
            gallery.build_approximate()
        except ValueError as error:  # the exact index exists
            failures.append(str(error))
            attempts += 1
    report_failures(failures, attempts)


def search(
    index: Annotated[
        str, typer.Argument(help=f"Folder that `internvideo index` wrote ({OR_STORED_OUTPUT}), or {STORES}.")
    ],
    text: Annotated[str | None, typer.Argument(help="Description of the clips to find.")] = None,
    video: Annotated[str | None, typer.Option(help="Find clips similar to this video instead.")] = None,
    image: Annotated[str | None, typer.Option(help="Find clips similar to this image instead.")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Hits to show.")] = 5,
    per_video: Annotated[int | None, typer.Option(min=1, help="Maximum number of hits per video.")] = None,
    where: Annotated[
        str | None,
        typer.Option(
            help="Search only clips for which this holds, such as \"camera = 'door' and start > 60\": columns of the "
            "list that was indexed, video, start, end (seconds); = != < <= > >=, in (...), is null, and, or, not."
        ),
    ] = None,
    montage: Annotated[Path | None, typer.Option(help="Image of the hits to write, such as hits.png.")] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Use the approximate index built by `index --approximate`.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="New folder of the index's model, if it was moved.")] = None,
    dtype: Dtype = SAVED,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Find clips by text, by video or by image; say so if nothing matches.

    The model runs in the number type of the index, unless --dtype names another.

    The lines after the table explain its columns.

    Example: internvideo search holidays.index "a dog catches a frisbee" --montage hits.png
    """
    if sum(query is not None for query in (text, video, image)) != 1:
        raise ValueError('Give one query: a text, such as "a dog runs", or --video FILE, or --image FILE.')
    from internvideo_hf.utils.pictures import check_picture, save_picture

    if montage is not None:
        check_picture(montage)
    silence_transformers()
    from internvideo_hf.search import hits
    from internvideo_hf.search.where import WhereError

    gallery = open_index(index, model, device, dtype)
    if text is not None:
        _check_texts(index, gallery.model)
        remark_on_scripts([text])
    options: dict[str, Any] = {"top_k": top_k, "per_video": per_video, "approximate": approximate, "where": where}
    try:
        found = gallery.search(text, video=video, image=image, **options)
    except WhereError as error:
        raise ValueError(f"--where {error}") from error
    if montage is not None and found:
        save_picture(hits.montage(found, title=found.query), montage)
    if as_json:
        print_json(found.to_dict())
        return
    if not found:
        say(f"There is no clip for which this holds: {where}")
        return
    if found.matches is False:
        say(found.verdict)
    calibrated = found.calibration is not None
    say("      cosine  " + ("   z  above  " if calibrated else "") + "choice           time  video")
    for place, hit in enumerate(found, 1):
        scores = f"{hit.z:+5.1f} {hit.share:6.0%} " if calibrated else ""
        scores = f"{hit.similarity:6.3f} {scores} {hit.probability:6.1%}"
        say(f"{'*' if hit.matches else ' '}{place:3}. {scores}  {hit.time:>13}  {printable(hit.video)}")
    if found.matches:
        say(found.verdict)
    say(found.explanation)


def dedup(
    index: Annotated[
        str, typer.Argument(help=f"Folder that `internvideo index` wrote ({OR_STORED_OUTPUT}), or {STORES}.")
    ],
    threshold: Annotated[
        float | None,
        typer.Option(help="Least cosine of near-copies (default: above that of unrelated clips here)."),
    ] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Use the approximate index built by `index --approximate`.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List clips of different videos that are near-copies of each other: re-encoded, resized, cut from one another.

    All clips are compared with each other, without the model; of a hundred thousand clips this takes minutes. With
    windows (`index --window`), parts of longer videos are found as well. No file is changed.

    Example: internvideo dedup holidays.index
    """
    from dataclasses import asdict

    from tqdm import tqdm

    from internvideo_hf.search.duplicates import find_copies
    from internvideo_hf.search.hits import time_span
    from internvideo_hf.search.stores.opening import load_store

    store = load_store(index)
    with tqdm(desc="Comparing", unit="clip", disable=quiet) as bar:
        progress = partial(show_progress, bar)
        copies = find_copies(store, threshold=threshold, approximate=approximate, on_done=progress)
    if as_json:
        print_json(asdict(copies))
        return
    for number, group in enumerate(copies.groups, 1):
        say(f"{number}.")
        for copy in group:
            say(f"  {copy.similarity:6.3f}  {time_span(copy.start, copy.end):>13}  {printable(copy.video)}")
    say(
        f"{len(copies.groups)} groups of near-copies among {copies.clips} clips: cosines of "
        f"{copies.threshold:.3f} or more."
    )


def _count_videos(sources: list[str], quiet: bool) -> int:
    """Return how many videos there are to index; their list, which may be long, is not kept."""
    from internvideo_hf.data.folders import check_some_exist, find_videos

    found = find_videos(sources, on_left_out=remarks(quiet), metadata={})
    check_some_exist(found)
    return len(found)


def _remark_on_texts(named: str, model: str) -> None:
    """Say before videos are embedded that an index of them will not be found by text."""
    found = kind_of(Path(model))
    if found is not None and not serves(found[0], DUAL_ENCODER):
        about = not_of_kind(named, found[1], DUAL_ENCODER)
        say(f"{about} Its index can be searched by --video and --image, not by text.", err=True)


def _check_texts(index: str, model: str) -> None:
    """Refuse a search by text in an index of a model without texts, before the model is loaded."""
    found = kind_of(Path(model))
    if found is not None and not serves(found[0], DUAL_ENCODER):
        place = without_passwords(index)
        raise ValueError(
            f"The model of {place}: {not_of_kind(model, found[1], DUAL_ENCODER)} Search by video, `internvideo search "
            f"{place} --video FILE`, or by --image; or make an index for texts: `internvideo index FOLDER --model "
            "InternVideo-MM-L-14 --out INDEX`."
        )


def open_index(folder: str | Path, model: str | None, device: str | None, dtype: str) -> "VideoIndex":
    """Load an index and check that its model is there.

    Args:
        folder: the folder of the index, or the address of its store.
        model: where its model is now; None for where it was.
        device: the value of --device.
        dtype: the value of --dtype.
    """
    from internvideo_hf.search.index import VideoIndex

    number_type = parse_dtype(dtype, device, model)
    where: dict[str, Any] = {"model": model, "device": parse_device(device)}
    gallery = VideoIndex.load(folder, **where, model_dtype=number_type)
    if dtype == "auto" and parse_dtype(dtype, device, gallery.model) != number_type:  # its own model is exported
        gallery = VideoIndex.load(folder, **where)
    _check_model_of(folder, gallery)
    return gallery


def _check_model_of(folder: str | Path, index: "VideoIndex") -> None:
    try:
        resolve_model(index.model, any_family=True)
    except ValueError as error:
        place = without_passwords(str(folder))
        raise ValueError(f"The model of {place}: {error} If it was moved, give its new folder by --model.") from error


def _place_of(out: Path | None, store: str | None) -> str | Path:
    """Return where an index is to be written, of --out and --store, after checking the address."""
    from internvideo_hf.search.stores.opening import is_store_address
    from internvideo_hf.utils.transfers import check_scheme

    if out is not None:
        if re.match(r"lance:|postgres(ql)?:/", str(out)):
            address = without_passwords(str(out).replace(":/", "://", 1))  # of two slashes, a path keeps one
            raise ValueError(f"--out {address}: --out names a folder. Give the address of a store by --store.")
        check_scheme(stored := as_path(out))
        return str(stored) if isinstance(stored, StoragePath) else out
    if store is None or not is_store_address(store):
        raise ValueError(f"--store {without_passwords(str(store))}: expected {STORES}. A folder is named by --out.")
    check_scheme(as_path(store.removeprefix("lance:")))
    return store


def _open_or_new_index(folder: str | Path, model: str | None, options: dict[str, Any], device: Any) -> "VideoIndex":
    """Load the index in a folder or store, if its settings agree with the options, or make a new one."""
    from internvideo_hf.search.index import VideoIndex
    from internvideo_hf.search.stores.opening import holds_index
    from internvideo_hf.utils.settings import changed_settings

    place = without_passwords(str(folder))
    if not holds_index(folder):
        if model is None:
            raise ValueError(f"{place} holds no index yet. Name the model to make one with, by --model.")
        windowing = {"window": options["window"], "stride": options["stride"]}
        dtypes = {"dtype": options["store-dtype"] or "float32", "model_dtype": options["dtype"]}
        return VideoIndex(model, folder=folder, device=device, **windowing, **dtypes)
    index = VideoIndex.load(folder, model=model, device=device)
    made = {
        "--window": index.windowing.window,
        "--stride": index.windowing.stride,
        "--store-dtype": index.dtype,
        "--dtype": index.store.settings.get("model_dtype", SAVED),
    }
    asked = {f"--{name}": value for name, value in options.items() if value is not None}
    if changes := changed_settings({name: made[name] for name in asked}, asked):
        raise ValueError(
            f"{place} was made with other settings ({changes}). Leave these options out to add to it, or make a new "
            "index elsewhere (--out, --store)."
        )
    if model is None:
        _check_model_of(folder, index)
    return index


def _parse_seconds(option: str, text: str | None) -> float | None:
    """Parse a duration such as `8s`, `0.5` or `2min`."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(s|sec|m|min)?", text.strip())
    if match is None:
        raise ValueError(f"{option} {text}: expected seconds, such as 8s or 0.5s, or minutes, such as 2min.")
    return float(match[1]) * (60 if (match[2] or "s").startswith("m") else 1)
