"""The program: its commands in the order of `--help`, and its exit."""

import contextlib
import functools
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

import internvideo_hf
from internvideo_hf.cli import (
    data,
    dataset,
    demo,
    detection,
    doctor,
    evaluation,
    export,
    grounding,
    inference,
    language,
    localization,
    models,
    open_set,
    probing,
    search,
    serving,
    training,
)
from internvideo_hf.cli.checks import EXTRAS
from internvideo_hf.cli.options import runs_models, takes_addresses, takes_videos
from internvideo_hf.cli.reporting import REFUSED, UsageError, say, usage_line
from internvideo_hf.utils.names import without_number
from internvideo_hf.utils.passwords import without_passwords


class _Program(typer.core.TyperGroup):
    """The commands; mistakes in arguments end as all others do, in one line."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _usage_in_one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _usage_in_one_line():
            return super().invoke(ctx)


@contextlib.contextmanager
def _usage_in_one_line() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the help of a group of commands that is called alone
            raise
        raise ValueError(usage_line(error)) from error


app = typer.Typer(
    name="internvideo",
    cls=_Program,
    help="The InternVideo family of video foundation models, native in Hugging Face transformers.",
    epilog="Exit codes: 0 success, 1 partial success (failures are listed last), 2 refused (bad arguments, bad file).",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
DEBUG = "--debug"
COMMANDS: tuple[Callable[..., None], ...] = (
    models.convert,
    models.released,
    models.merge,
    models.fuse,
    models.push,
    export.export,
    runs_models(takes_addresses(inference.zero_shot)),
    runs_models(takes_addresses(inference.classify)),
    runs_models(takes_addresses(open_set.calibrate)),
    runs_models(takes_addresses(language.caption)),
    runs_models(takes_addresses(language.ask)),
    runs_models(takes_addresses(inference.extract)),
    runs_models(takes_addresses(localization.localize)),
    runs_models(takes_addresses(grounding.ground)),
    runs_models(takes_addresses(detection.detect_actions)),
    runs_models(takes_addresses(inference.reconstruct)),
    takes_addresses(data.scan),
    takes_videos(data.shrink),
    runs_models(takes_addresses(search.index)),
    runs_models(takes_addresses(search.search)),
    search.dedup,
    runs_models(takes_videos(serving.serve)),
    runs_models(takes_addresses(demo.demo)),
    demo.make_demo_data,
    takes_addresses(training.train),
    takes_addresses(training.cache),
    runs_models(takes_addresses(evaluation.evaluate)),
    runs_models(takes_addresses(probing.probe)),
    training.recipes,
    doctor.doctor,
)
STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"internvideo {internvideo_hf.__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error; also behind a command.")] = False,
) -> None:
    """Options before the command."""


def _stoppable(command: Callable[..., None]) -> Callable[..., None]:
    """Let Ctrl-C end a command in one line; typer's own word for it is no help, and its exit code another."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            _end_stopped()

    return run


def _end_stopped() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would end in a traceback of the interpreter's exit
    if "tqdm" in sys.modules:  # a bar that is still open would stand on the same line
        for bar in list(getattr(sys.modules["tqdm"].tqdm, "_instances", ())):
            bar.close()
    say("stopped; run the same command to go on", err=True)
    sys.exit(STOPPED)


for command in COMMANDS:
    app.command()(_stoppable(command))
datasets = typer.Typer(name="dataset", help=dataset.HELP, no_args_is_help=True, rich_markup_mode=None)
for command in dataset.COMMANDS:
    datasets.command()(_stoppable(command))
app.add_typer(datasets)


def main() -> None:
    """Run the program; a user's mistake ends in one line and exit code 2, never in a traceback.

    `--debug`, anywhere on the line, or `INTERNVIDEO_DEBUG=1` shows the traceback all the same.
    """
    debug = DEBUG in sys.argv or bool(os.environ.get("INTERNVIDEO_DEBUG"))
    sys.argv = [argument for argument in sys.argv if argument != DEBUG]
    # Names of files may hold what the terminal's encoding lacks.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # As on Ctrl-C: unfinished files are removed.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        app(prog_name="internvideo")  # also as `python -m internvideo_hf`, whose completion would be that of python
    except Exception as error:
        if debug:
            traceback.print_exc()
        # Some messages of transformers hold a traceback of their own.
        message = (
            without_number(getattr(error, "in_shell", error)).split("Traceback")[0].strip() or type(error).__name__
        )
        if "DataLoader worker process" in message:  # the worker's own error stands at the end
            message = str(error).strip().splitlines()[-1].partition(": ")[2] or message
        if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
            message = f"{error.name} is not installed: pip install 'internvideo-hf[{EXTRAS[error.name]}]'."
        message = without_passwords(message)
        # Others' errors of rare kinds say little without their name; our own say it all.
        is_own = type(error).__module__.startswith(f"{internvideo_hf.__name__}.")
        plain = is_own or isinstance(error, ValueError | OSError | ImportError)
        say(f"internvideo: {message if plain else f'{type(error).__name__}: {message}'}", err=True)
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        _end_stopped()
