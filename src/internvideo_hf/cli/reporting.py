"""What a command prints beside its results: failures, and nothing of transformers' own."""

from collections.abc import Callable
from typing import Any

import typer

DONE_IN_PART, REFUSED = 1, 2


def attempt(answer: Callable[[str], Any], video: str, failures: list[str]) -> Any:
    """An answer about a video; None where it cannot be had, with the cause among `failures`.

    One video must not cost the answers for the others, whatever it does to decoder or memory.
    """
    from internvideo_hf import VideoDecodeError

    try:
        return answer(video)
    except VideoDecodeError as error:
        failures.append(str(error))  # names the video
    except (ValueError, RuntimeError, MemoryError) as error:
        failures.append(f"{video}: {error}")
    return None


def report_failures(failures: list[str], asked: int) -> None:
    """List what failed, last, and leave with the exit code that it means."""
    if not failures:
        return
    typer.echo(f"{len(failures)} of {asked} failed:", err=True)
    for failure in failures:
        typer.echo(f"  {failure}", err=True)
    raise typer.Exit(DONE_IN_PART if len(failures) < asked else REFUSED)


def quieten_transformers() -> None:
    """Leave the terminal to our own bar: transformers shows several, and remarks that are none of the user's."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
