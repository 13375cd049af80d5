"""Scripts and processes of distributed runs, as forks of a process that has imported torch and transformers once.

A new interpreter takes five seconds of a core to import them. The tests' own process is not forked: threads and locks
of earlier tests would be missing from a fork, and `internvideo_hf` would be imported.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from torch import multiprocessing

PROGRAM = "from internvideo_hf.cli import main; main()"
HEAVY = [
    "torch",
    "torchvision",
    "transformers.modeling_utils",
    "transformers.processing_utils",
    "transformers.trainer",
]


# Read when the first process is started.
multiprocessing.get_context("forkserver").set_forkserver_preload(HEAVY)


def run_ranks(work: Callable[..., None], arguments: tuple[object, ...], ranks: int) -> None:
    """Call `work(rank, *arguments)` in several processes at once, and raise what the first that fails raised.

    Args:
        work: importable by its name.
        arguments: picklable.
        ranks: number of processes.
    """
    multiprocessing.start_processes(work, arguments, ranks, start_method="forkserver")


def start(code: str, *arguments: object, folder: Path, environment: Mapping[str, str] | None = None) -> BaseProcess:
    """Start a script in a session of its own; it reads `stdin` of a folder, and leaves `stdout` and `stderr` there.

    Args:
        code: what `python -c` would run.
        arguments: `sys.argv` behind the name of the script.
        folder: what it writes goes there.
        environment: variables to set; `PYTHONPATH` counts as for a new interpreter.
    """
    work = (code, list(map(str, arguments)), str(folder), dict(environment or {}))
    process = multiprocessing.get_context("forkserver").Process(target=_be_script, args=work)
    process.start()
    return process


def run(
    code: str,
    *arguments: object,
    stdin: str = "",
    timeout: float = 200,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess:
    """Run a script to its end; see `start`."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "stdin").write_text(stdin)
        process = start(code, *arguments, folder=Path(folder), environment=environment)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(code, timeout)
        out, err = (Path(folder, name).read_text() for name in ("stdout", "stderr"))
    return subprocess.CompletedProcess(code, process.exitcode, out, err)


def _be_script(code: str, arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Be a new interpreter, as far as a script can tell."""
    os.setsid()
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if (given := Path(folder, "stdin")).exists():
        sys.stdin = given.open()
        os.dup2(sys.stdin.fileno(), 0)
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = ["-c", *arguments]
    assert "internvideo_hf" not in sys.modules
    exec(compile(code, "<script>", "exec"), {"__name__": "__main__"})
