"""Commands that need no videos and no weights from elsewhere: `demo`, `make-demo-data`."""

import contextlib
import threading
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internvideo_hf.cli.options import SAVED, AsJson, Device, Dtype, Jobs, Quiet, check_folder, is_given, worker_count
from internvideo_hf.cli.reporting import attempt, print_json, remarks, report_failures, say, silence_transformers
from internvideo_hf.cli.search import open_index

if TYPE_CHECKING:
    from internvideo_hf.search.index import VideoIndex


def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the clips and the contact sheet.")] = Path("demo"),
    clips: Annotated[int, typer.Option(min=1, max=240, help="Clips to draw, all different; none with --video.")] = 12,
    seed: Annotated[int, typer.Option(min=1, help="Seed of the clips.")] = 1,
    video: Annotated[
        list[str] | None,
        typer.Option(
            help="Label this video (file, folder, list, URL) instead; repeatable. Its sheet is OUT/videos.png "
            "(videos-2.png, ... if that exists); the sheet of the tour stays."
        ),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(help="Folder that `internvideo index` wrote: serve a page to search it, instead of the tour."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="With --index: address to listen on; 0.0.0.0 shows the videos to the network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="With --index: port to listen on.")] = 7860,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="With --index: name of this machine or of a proxy to answer to; repeatable."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="With --index: new folder of the index's model, if it was moved.")
    ] = None,
    dtype: Dtype = SAVED,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run every task on clips drawn for it, with bundled toy models, and draw one contact sheet.

    Shows labels, captions and answers; search; the actions in a long video; what each of several shapes does; and
    videos without a known action. With --video: labels, captions and answers only.

    The models are small and were trained on drawn shapes: on real videos their answers are meaningless. For real
    videos, use released checkpoints with `internvideo convert`, `classify`, `zero-shot`, `index` and `search`.

    With --index, serve a web page that searches an index of yours, plays the hits and labels clips (needs the extra
    `demo`); --device and --dtype are for its model. Only this machine can open it, unless --host says otherwise;
    Ctrl-C stops it.

    Example: internvideo demo --out demo

    Example: internvideo demo --index demo.index
    """
    _check_demo_options(context)
    silence_transformers()
    if index is not None:
        _serve_page(open_index(index, model, device, dtype), host, port, allow_host or [], quiet)
    else:
        check_folder(out)
        _give_tour(out, clips, seed, video, as_json, quiet)


def _check_demo_options(context: typer.Context) -> None:
    """Refuse options of the tour beside --index, and those of the page without it."""
    of_tour = {"out": "--out", "clips": "--clips", "seed": "--seed", "video": "--video", "as_json": "--json"}
    of_page = {
        "host": "--host",
        "port": "--port",
        "allow_host": "--allow-host",
        "model": "--model",
        "device": "--device",
        "dtype": "--dtype",
    }
    has_index = context.params["index"] is not None
    for name, option in (of_tour if has_index else of_page).items():
        if not is_given(context, name):
            continue
        if has_index:
            raise ValueError(f"{option} belongs to the tour, but --index serves a page. Leave out one of the two.")
        raise ValueError(f"{option} needs --index, the folder of an index to search.")


def _serve_page(gallery: "VideoIndex", host: str, port: int, names: list[str], quiet: bool) -> None:
    """Serve the page of an index until Ctrl-C."""
    from internvideo_hf.demo import web

    with web.serving(gallery, host, port, names) as address:
        if not quiet:
            say(f"{web.about(gallery)}\nOpen {address} in a browser. Ctrl-C stops the server.")
        _wait_for_ctrl_c()


def _wait_for_ctrl_c() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _give_tour(out: Path, clips: int, seed: int, videos: list[str] | None, as_json: bool, quiet: bool) -> None:
    """Label videos, or clips drawn for this, which are searched, too; write a contact sheet."""
    from tqdm import tqdm

    from internvideo_hf.data.folders import name_videos
    from internvideo_hf.demo import sheet, tour
    from internvideo_hf.demo.synthetic import QUESTIONS, Clip
    from internvideo_hf.utils.pictures import save_picture

    found_in = name_videos(videos or (), on_left_out=remarks(quiet), keep_empty=True)
    files: list[tuple[str, Clip | None]] = [(video, None) for video, _ in found_in]
    if not files:
        with tqdm(total=clips, desc="Drawing", unit="clip", disable=quiet) as bar:
            drawn = tour.draw_clips(out, clips, seed, on_done=bar.update)
        files = [(str(out / clip.video), clip) for clip in drawn]
    label = tour.Labeler()
    labeled: list[tour.Labeled] = []
    failures: list[str] = []
    for number, (file, clip) in enumerate(tqdm(files, "Labeling", disable=quiet)):
        # In turn, from one further on in each round: clips take the actions in turn, too, and would share a question.
        asked = list(QUESTIONS)[(number + number // len(QUESTIONS)) % len(QUESTIONS)]
        if (answers := attempt(partial(label, clip=clip, asked=asked), file, failures)) is not None:
            labeled.append(answers)
    if not labeled:
        report_failures(failures, len(files))
    parts = [sheet.labels_part(labeled)]
    if not videos:
        parts += sheet.search_part(labeled), sheet.actions_part(out, seed), sheet.boxes_part(out, seed)
        parts.append(sheet.unknown_part(label, out, seed))
    picture = _free(out / "videos.png") if videos else out / "contact_sheet.png"
    save_picture(sheet.stacked(parts), picture)
    if as_json:
        content: dict[str, Any] = {"limits": tour.LIMITS, "search": [], "actions": None, "boxes": None, "unknown": []}
        for part in parts:
            content |= part.values
        print_json(content)
    else:
        tables = "\n\n".join(table for part in parts for table in part.tables.values())
        say(f"{tables}\n\nWrote {picture}.\n{tour.LIMITS}")
    report_failures(failures, len(files))


def _free(path: Path) -> Path:
    """Return a path that does not exist: the given one, or else with a number, such as `videos-2.png`."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
    return next(candidate for candidate in chain([path], numbered) if not candidate.exists())


def make_demo_data(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    clips: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Training videos (default: 4000; --untrimmed: 200; --queries: 150; --boxed: 2000; --future: 3000; "
            "--close-ups: 6000); more to test.",
            show_default=False,
        ),
    ] = None,
    untrimmed: Annotated[
        bool,
        typer.Option("--untrimmed", help="Long videos in which actions begin and end, annotated as ActivityNet is."),
    ] = False,
    queries: Annotated[
        bool, typer.Option("--queries", help="Long videos of several shapes, with sentences and when each is true.")
    ] = False,
    boxed: Annotated[
        bool, typer.Option("--boxed", help="Videos of several shapes, with a box and an action of each, as in AVA.")
    ] = False,
    future: Annotated[
        bool, typer.Option("--future", help="Videos of a shape whose way can be foreseen, annotated as Ego4D's hands.")
    ] = False,
    close_ups: Annotated[
        bool,
        typer.Option(
            "--close-ups", help="Stills of a shape, from near to far, labeled with shape, color, background and size."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the videos.")] = 0,
    jobs: Jobs = None,
    quiet: Quiet = False,
) -> None:
    """Make a small data set of drawn videos to try training with: labels, sentences, actions in time or boxes.

    Resumable: rerun the same command after an interruption. OUT/README.md describes the files.

    Example: internvideo make-demo-data shapes --clips 4000

    Example: internvideo make-demo-data long-shapes --untrimmed

    Example: internvideo make-demo-data asked-shapes --queries

    Example: internvideo make-demo-data many-shapes --boxed

    Example: internvideo make-demo-data foreseen --future

    Example: internvideo make-demo-data close-ups --close-ups
    """
    from tqdm import tqdm

    from internvideo_hf.demo import boxed as videos_of_several
    from internvideo_hf.demo import close_ups as stills
    from internvideo_hf.demo import future as foreseen_videos
    from internvideo_hf.demo import queried as asked_videos
    from internvideo_hf.demo import synthetic
    from internvideo_hf.demo import untrimmed as long_videos

    asked = {
        "--untrimmed": (untrimmed, long_videos),
        "--queries": (queries, asked_videos),
        "--boxed": (boxed, videos_of_several),
        "--future": (future, foreseen_videos),
        "--close-ups": (close_ups, stills),
    }
    chosen = {option: kind for option, (is_chosen, kind) in asked.items() if is_chosen}
    if len(chosen) > 1:
        raise typer.BadParameter(f"{' and '.join(chosen)} make different data sets. Run the command once for each.")
    kind: Any = next(iter(chosen.values()), synthetic)
    sizes = kind.split_sizes() if clips is None else kind.split_sizes(clips)
    total = sum(sizes.values())
    with tqdm(total=total, desc="Drawing", unit="video", disable=quiet) as bar:
        existing = kind.make_data_set(
            out, next(iter(sizes.values())), seed=seed, jobs=worker_count(jobs, total), on_done=bar.update
        )
    if not quiet:
        say(f"Wrote {total - existing} videos to {out}; {existing} already existed.")
