"""Output that several commands share: exit codes, failures, JSON, progress."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import typer

PARTIAL, REFUSED = 1, 2
"""Exit codes."""

T = TypeVar("T")


def attempt(answer: Callable[[str], T], video: str, failures: list[str]) -> T | None:
    """Return the answer for a video, or None after adding the cause to `failures`.

    One video must not cost the answers for the others, whatever it does to decoder or memory.
    """
    from internvideo_hf import VideoDecodeError
    from internvideo_hf.data.failures import one_video

    try:
        with one_video(video):
            return answer(video)
    except VideoDecodeError as error:
        failures.append(str(error))
    return None


def remarks(quiet: bool) -> Callable[[str], None]:
    """Return what prints a remark on stderr, or does nothing if the user wants none.

    Args:
        quiet: the value of --quiet.
    """
    return lambda line: None if quiet else typer.echo(line, err=True)


def report_failures(failures: list[str], total: int) -> None:
    """List failures on stderr, if there are any, and exit with their exit code.

    Args:
        failures: one message each.
        total: attempts, failed or not.
    """
    if not failures:
        return
    typer.echo(f"{len(failures)} of {total} failed:", err=True)
    for failure in failures:
        typer.echo(f"  {failure}", err=True)
    raise typer.Exit(PARTIAL if len(failures) < total else REFUSED)


def print_json(content: Any) -> None:
    """Print one JSON document; lone surrogates of names come out as JSON writes them."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))


def show_progress(bar: Any, done: int, total: int) -> None:
    """Set a tqdm bar whose total is known only once the work has begun."""
    bar.total = total
    bar.update(done - bar.n)


def silence_transformers() -> None:
    """Hide transformers' progress bars and warnings: the commands show their own."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
