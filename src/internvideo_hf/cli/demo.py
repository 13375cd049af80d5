"""`demo` and `make-demo-data`: commands that need no videos and no weights of the user's."""

import contextlib
import json
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from internvideo_hf.cli.options import AsJson, Jobs, Quiet, processes
from internvideo_hf.cli.reporting import attempt, quieten_transformers, report_failures
from internvideo_hf.cli.search import open_index


def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The folder for the clips and the contact sheet.")] = Path("demo"),
    clips: Annotated[
        int, typer.Option(min=1, max=240, help="Clips to draw, each with something else in it; none with --video.")
    ] = 12,
    seed: Annotated[int, typer.Option(min=1, help="Another seed, other clips.")] = 1,
    video: Annotated[
        list[str] | None,
        typer.Option(help="A video of yours to label instead (file, folder of frames, address); several are allowed."),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(help="A folder that `internvideo index` wrote: open a page to search it, instead of the tour."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="With --index: the address to listen on; 0.0.0.0 shows the videos to the network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="With --index: the port to listen on.")] = 7860,
    model: Annotated[
        str | None, typer.Option(help="With --index: where its model is now, if not where it was.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help='With --index: such as "cuda", "cpu"; the accelerator if there is one.')
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show on a fresh machine what the package does: draw clips, label them, and search them by sentences.

    The two models that it shows come with the package. They are small, were trained on drawn shapes, and know nothing
    else: on videos of the world their answers mean nothing. Released checkpoints do the same by `internvideo convert`,
    `classify`, `zero-shot`, `index` and `search`.

    With --index, a page in the browser searches an index of yours and plays what it finds, and labels clips (needs the
    extra `demo`). It is on this machine only, unless --host says otherwise, and ends with Ctrl-C.

    Example: internvideo demo --out demo

    Example: internvideo demo --index demo.index
    """
    _check_demo_options(context)
    quieten_transformers()
    if index is not None:
        _show_page(index, model, device, host, port, quiet)
        return
    from tqdm import tqdm

    from internvideo_hf.demo import tour
    from internvideo_hf.utils.pictures import save_picture

    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file. Give the name of a folder.")
    drawn = None
    if not video:
        with tqdm(total=clips, desc="Drawing", unit="clip", disable=quiet) as bar:
            drawn = tour.draw_clips(out, clips, seed, on_done=bar.update)
    videos = video or [str(out / clip.video) for clip in drawn]
    label, labelled, failures = tour.Labeller(), [], []
    for file, clip in tqdm(list(zip(videos, drawn or [None] * len(videos), strict=True)), "Labelling", disable=quiet):
        answer = attempt(lambda file, clip=clip: label(file, clip), file, failures)
        if answer is not None:
            labelled.append(answer)
    if not labelled:
        report_failures(failures, len(videos))
    found = [] if drawn is None else tour.search(labelled)
    sheet = out / "contact_sheet.png"
    save_picture(tour.contact_sheet(labelled), sheet)
    if as_json:
        content = {
            "limits": tour.LIMITS,
            "labels": [asdict(entry) for entry in labelled],
            "search": [hits.to_dict() for hits in found],
        }
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        typer.echo(tour.label_table(labelled))
        if found:
            typer.echo(f"\n{tour.search_table(found, labelled)}")
        typer.echo(f"\nWrote {sheet}.\n{tour.LIMITS}")
    report_failures(failures, len(videos))


def make_demo_data(
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    clips: Annotated[
        int, typer.Option(min=1, help="Videos to train on; those to evaluate on come besides, 720 from 4000 on.")
    ] = 4000,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other videos.")] = 0,
    jobs: Jobs = None,
    quiet: Quiet = False,
) -> None:
    """Make a small data set of drawn videos with sentences and labels, to try training with.

    What was done is kept: run the same command again after a kill. OUT/README.md says what is where.

    Example: internvideo make-demo-data shapes --clips 4000
    """
    from tqdm import tqdm

    from internvideo_hf.demo.synthetic import make_data_set, split_sizes

    count = sum(split_sizes(clips).values())
    with tqdm(total=count, desc="Drawing", unit="video", disable=quiet) as bar:
        already = make_data_set(out, clips, seed=seed, jobs=processes(jobs, count), on_done=bar.update)
    if not quiet:
        typer.echo(f"Wrote {count - already} videos to {out}; {already} were there already.")


def _check_demo_options(context: typer.Context) -> None:
    """Refuse options of the tour beside --index, and those of the page without it."""
    of_tour = {"out": "--out", "clips": "--clips", "seed": "--seed", "video": "--video", "as_json": "--json"}
    of_page = {"host": "--host", "port": "--port", "model": "--model", "device": "--device"}
    has_index = context.params["index"] is not None
    for name, option in (of_tour if has_index else of_page).items():
        if context.get_parameter_source(name).name != "COMMANDLINE":
            continue
        if has_index:
            raise ValueError(f"{option} is of the tour, and --index opens a page instead. Leave one of the two out.")
        raise ValueError(f"{option} needs --index, the folder of an index to search.")


def _show_page(index: Path, model: str | None, device: str | None, host: str, port: int, quiet: bool) -> None:
    """Serve the page of an index until Ctrl-C."""
    from internvideo_hf.demo import web

    gallery = open_index(index, model, device)
    with web.serving(gallery, host, port) as address:
        if not quiet:
            typer.echo(f"{web.about(gallery)}\nOpen {address} in a browser. Ctrl-C ends it.")
        _wait_for_ctrl_c()


def _wait_for_ctrl_c() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
