"""Output that several commands share: exit codes, failures, JSON, progress."""

import json
import logging
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import typer

from internvideo_hf.utils.names import printable, sentence

if TYPE_CHECKING:
    from internvideo_hf.video.errors import VideoDecodeError

PARTIAL, REFUSED = 1, 2
"""Exit codes."""

UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # typer has click's, or a copy, by its version
"""A mistake in arguments that typer finds."""

T = TypeVar("T")
DAMAGED = "damaged: nothing is known"
"""What is said of a stretch of a video."""


def say(text: object, err: bool = False) -> None:
    """Print lines; what names and answers hold for a terminal is escaped.

    Args:
        text: lines. A name in it that others have given goes through `printable`, or it may add lines.
        err: on stderr.
    """
    typer.echo(printable(text, keep="\n"), err=err)


def usage_line(error: Any) -> str:
    """Return a `UsageError` in one line: which argument, what was given, what was expected, and where help is."""
    message = error.format_message().strip()
    of_pydantic: list[Any] = getattr(error.__cause__, "errors", list)()
    if of_pydantic:  # of newer typer, whose message does not repeat the value
        argument, found, expected = message.partition("Input should be ")
        if found:
            expected = expected.partition(", unable")[0]
            for long, short in (("greater than or equal to", "at least"), ("less than or equal to", "at most")):
                expected = expected.replace(long, short)
            message = f"{argument}got {of_pydantic[0]['input']!r}, expected {expected}"
    command = "internvideo" if error.ctx is None else error.ctx.command_path
    return f"{sentence(message)} See `{command} --help`."


def attempt(
    answer: Callable[[str], T],
    video: str,
    failures: list[str],
    on_failed: "Callable[[VideoDecodeError, str], object]" = lambda error, video: None,
) -> T | None:
    """Return the answer for a video, or None after adding the cause to `failures`, and calling `on_failed`.

    One video must not cost the answers for the others, whatever it does to decoder or memory.
    """
    from internvideo_hf import VideoDecodeError
    from internvideo_hf.data.failures import one_video

    try:
        with one_video(video):
            return answer(video)
    except VideoDecodeError as error:
        failures.append(str(error))
        on_failed(error, video)
    return None


def remarks(quiet: bool) -> Callable[[str], None]:
    """Return what prints a remark on stderr, or does nothing if the user wants none.

    Args:
        quiet: the value of --quiet.
    """
    return lambda line: None if quiet else say(line, err=True)


def remark_on_scripts(texts: Iterable[str]) -> None:
    """Say on stderr, before the work, if a text is not in English letters; the library then does not say it again."""
    from internvideo_hf.processing import scripts

    scripts.logger.setLevel(logging.ERROR)
    if remark := scripts.remark_on(texts):
        say(remark, err=True)


def report_failures(failures: list[str], total: int) -> None:
    """List failures on stderr, if there are any, and exit with their exit code.

    Args:
        failures: one message each.
        total: attempts, failed or not.
    """
    if not failures:
        return
    say(f"{len(failures)} of {total} failed:", err=True)
    for failure in failures:
        say(f"  {printable(failure)}", err=True)
    raise typer.Exit(PARTIAL if len(failures) < total else REFUSED)


def print_json(content: Any) -> None:
    """Print one JSON document; control characters and lone surrogates of names come out as JSON writes them."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    typer.echo(printable(text, keep="\n", escape=lambda character: json.dumps(character)[1:-1]))


def show_progress(bar: Any, done: int, total: int) -> None:
    """Set a tqdm bar whose total is known only once the work has begun."""
    bar.total = total
    bar.update(done - bar.n)


def silence_transformers() -> None:
    """Hide transformers' progress bars and warnings, also in workers that start later: the commands show their own."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


class VideoReport(Generic[T]):
    """Prints what is found in each video when it is, and lists the videos that could not be read at the end.

    A subclass implements `entry` and `lines`.

    Args:
        as_json: print one JSON document at the end instead.

    Attributes:
        found: id of a video -> what is found in it.
    """

    def __init__(self, as_json: bool):
        self.found: dict[str, T] = {}
        self._as_json = as_json
        self._json: list[dict[str, Any]] = []
        self._failures: list[str] = []

    def entry(self, found: T) -> dict[str, Any]:
        """Return what is found in a video, for JSON."""
        raise NotImplementedError

    def lines(self, found: T) -> list[str]:
        """Return what is found in a video, for people."""
        raise NotImplementedError

    def add(self, video: str, own_id: str, answer: Callable[[str], T]) -> None:
        """Answer for a video.

        Args:
            video: path or address.
            own_id: its id among the videos.
            answer: finds what is in it.
        """
        found = attempt(answer, video, self._failures)
        if found is None:
            self._json.append({"video": video, "error": self._failures[-1]})
            return
        self.found[own_id] = found
        self._json.append({"video": video} | (self.entry(found) if self._as_json else {}))
        if not self._as_json:
            say("\n".join(map(printable, [video, *self.lines(found)])))

    def end(self) -> None:
        """Print the JSON and the failures, and exit with their exit code."""
        if self._as_json:
            print_json(self._json)
        report_failures(self._failures, len(self._json))
