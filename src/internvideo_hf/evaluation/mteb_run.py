"""Evaluation by mteb's benchmarks and tasks, with results in mteb's own files."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mteb
import torch
from mteb.abstasks import AbsTask, AbsTaskRetrieval
from mteb.benchmarks.benchmark import Benchmark
from mteb.cache import ResultCache
from mteb.types import PromptType

from internvideo_hf.data.failures import TooManyFailuresError
from internvideo_hf.evaluation.mteb_encoder import load
from internvideo_hf.inference.runner import RunSettings
from internvideo_hf.utils.files import DiskFullError, check_output
from internvideo_hf.utils.locks import lock_file
from internvideo_hf.utils.names import did_you_mean, nearest, reason_of

RESULTS = "results"
"""The folder of mteb's result files in the output folder."""


@dataclass(frozen=True)
class Score:
    """The main score of a model on a task.

    Args:
        task: name of the task.
        kind: of the task, such as "VideoClassification".
        metric: name of the main score, such as "accuracy".
        value: the score, between 0 and 1 for nearly all of them.
    """

    task: str
    kind: str
    metric: str
    value: float


@dataclass
class Outcome:
    """What became of the tasks.

    Args:
        model: name of the model in mteb.
        scores: of the tasks that ran, now or before.
        failed: task -> why it did not end.
        left_out: task -> what it needs, and the model does not take.
        damaged: why videos could not be read; they count as resembling nothing.
    """

    model: str
    scores: list[Score] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)


def find_tasks(name: str, only: Sequence[str] = ()) -> list[AbsTask]:
    """Return tasks of mteb by name.

    Args:
        name: of a benchmark or of a task, such as "MVEB"; capitals do not matter.
        only: names of the benchmark's tasks to take; all if empty.

    Raises:
        ValueError: if a name is unknown; the message names the nearest ones, or the benchmarks that have the task.
    """
    benchmarks = {
        alias: benchmark
        for benchmark in mteb.get_benchmarks()
        for alias in (benchmark.name, *(benchmark.aliases or ()))
    }
    by_lower_case = {alias.lower(): benchmark for alias, benchmark in benchmarks.items()}
    if name.lower() in by_lower_case:
        benchmark = by_lower_case[name.lower()]
        tasks = _by_name(benchmark.tasks)
        names = [_of_benchmark(one, benchmark, list(tasks), by_lower_case.values()) for one in only]
        return [tasks[one] for one in names or tasks]
    tasks = _by_name(mteb.get_tasks(exclude_superseded=False))
    found = _known(name, [*tasks, *benchmarks], "mteb has no benchmark or task")
    if only:
        raise ValueError(f"{found} is a task of mteb, not a benchmark: leave out --tasks (only).")
    return [tasks[found]]


def _by_name(tasks: Iterable[AbsTask]) -> dict[str, AbsTask]:
    return {task.metadata.name: task for task in tasks}


def _of_benchmark(name: str, benchmark: Benchmark, tasks: Sequence[str], others: Iterable[Benchmark]) -> str:
    """Return the name of a benchmark's task as it is spelled, or tell which benchmarks have it."""
    lower, lack = name.lower(), f"{benchmark.name} has no task"
    if lower in map(str.lower, tasks):
        return _known(name, tasks, lack)
    owners = {one.name: one for one in others if lower in map(str.lower, _by_name(one.tasks))}
    if owners:
        named = " and ".join(f'"mteb/{min((one.name, *(one.aliases or ())), key=len)}"' for one in owners.values())
        raise ValueError(f"{lack} {name!r}, which is in {named}. Name that benchmark, or the task alone, mteb/{name}.")
    if lower in map(str.lower, _by_name(mteb.get_tasks(exclude_superseded=False))):
        raise ValueError(f"{lack} {name!r}, nor has another benchmark. Name the task alone, mteb/{name}.")
    return _known(name, tasks, lack)


def _known(name: str, known: Sequence[str], lack: str) -> str:
    """Return a known name as it is spelled."""
    for spelled in known:
        if spelled.lower() == name.lower():
            return spelled
    raise ValueError(f"{lack} {name!r}.{did_you_mean(nearest(name, known, n=3))} `mteb available-tasks` lists all.")


def evaluate_on_mteb(
    model: str | Path,
    tasks: AbsTask | Iterable[AbsTask],
    out: str | Path,
    *,
    batch_size: int = 8,
    workers: int | None = None,
    device: str | torch.device | None = None,
    dtype: str | None = None,
    max_damaged: float = 0.01,
    quiet: bool = False,
    on_task: Callable[[str, int, int], object] = lambda name, number, total: None,
) -> Outcome:
    """Evaluate a model on tasks of mteb, and leave mteb's result files in a folder.

    A task that has its result there is not run again; the same call goes on after an interruption. A task that fails,
    as without a network, does not end the others. `mteb.ResultCache(out)` reads the folder.

    Args:
        model: folder or name, see `resolve_model`.
        tasks: of mteb, as from `find_tasks` or `mteb.get_tasks`.
        out: the folder.
        batch_size: videos per forward pass.
        workers: decoding processes; one for each core, at most 8, if None; 0 decodes in this process.
        device: where the model runs; the accelerator if there is one.
        dtype: number type of weights and pixels, under which mteb keeps the results apart; as saved if None.
        max_damaged: fraction of the videos of a task that may be unreadable, in [0, 1).
        quiet: no progress bars.
        on_task: called before each task with its name, its number and the number of tasks.

    Raises:
        ValueError: if the model takes none of the tasks.
        OSError: if the folder cannot be written.
    """
    tasks, out = [tasks] if isinstance(tasks, AbsTask) else list(tasks), Path(out)
    check_output(out)
    encoder = load(model, device, dtype, RunSettings(batch_size, workers, max_damaged, quiet))
    outcome = Outcome(str(encoder.mteb_model_meta.name))
    lacking = {task.metadata.name: _lacking(task, encoder.mteb_model_meta.modalities) for task in tasks}
    outcome.left_out = {name: ", ".join(sorted(needs)) for name, needs in lacking.items() if needs}
    fitting = [task for task in tasks if task.metadata.name not in outcome.left_out]
    if not fitting:
        name, needs = next(iter(outcome.left_out.items()))
        known = encoder.mteb_model_meta.modalities
        advice = f'Take others, such as those of "mteb/MVEB({"text, video" if "text" in known else "video"})"'
        advice += ", or a model of video and text." if "text" in needs else "."
        raise ValueError(f"{model} takes none of the tasks: {name} needs {needs}. {advice}")
    out.mkdir(parents=True, exist_ok=True)
    with lock_file(out / RESULTS):
        _remove_torn(out / RESULTS)
        for number, task in enumerate(fitting, 1):
            name = task.metadata.name
            on_task(name, number, len(fitting))
            try:
                found = mteb.evaluate(
                    encoder,
                    task,
                    cache=ResultCache(out),
                    encode_kwargs={"batch_size": batch_size, "show_progress_bar": not quiet},
                    show_progress_bar=False,
                    co2_tracker=False,
                )
            except TooManyFailuresError as error:
                outcome.failed[name] = str(error)
            except DiskFullError:
                raise  # as the others would
            except Exception as error:  # noqa: BLE001  # of the data set, the network or the task
                outcome.failed[name] = f"{type(error).__name__}: {reason_of(error)}"
            else:
                outcome.scores += [_score(task, result) for result in found.task_results]
    outcome.damaged = encoder.causes
    return outcome


def table(outcome: Outcome) -> str:
    """Return the scores as lines, in percent.

    Args:
        outcome: of `evaluate_on_mteb`.
    """
    width = max((len(score.task) for score in outcome.scores), default=4)
    metric = max((len(score.metric) for score in outcome.scores), default=6)
    lines = [f"{outcome.model} on mteb {mteb.__version__}"]
    if outcome.scores:
        lines.append(f"{'task':{width}}  {'metric':{metric}}   score")
    lines += [f"{score.task:{width}}  {score.metric:{metric}}  {100 * score.value:6.2f}" for score in outcome.scores]
    if len(outcome.scores) > 1:
        mean = sum(score.value for score in outcome.scores) / len(outcome.scores)
        lines.append(f"{f'mean of {len(outcome.scores)}':{width}}  {'':{metric}}  {100 * mean:6.2f}")
    lines += [f"left out: {name}, which needs {needs}" for name, needs in outcome.left_out.items()]
    return "\n".join(lines)


def _score(task: AbsTask, result: Any) -> Score:
    return Score(result.task_name, task.metadata.type, task.metadata.main_score, float(result.get_score()))


def _lacking(task: AbsTask, modalities: Sequence[str]) -> set[str]:
    """Return what a task needs, and a model does not take, by mteb's rule; empty if the task can run."""
    known = set(modalities)
    if not isinstance(task, AbsTaskRetrieval):
        return set(task.metadata.modalities) - known
    sides = [set(task.metadata.get_modalities(side)) for side in (PromptType.query, PromptType.document)]
    return set() if all(side & known for side in sides) else set().union(*sides) - known


def _remove_torn(folder: Path) -> None:
    """Remove results that a kill has left half written, which mteb could not read; their tasks run again."""
    for file in folder.rglob("*.json"):
        try:
            json.loads(file.read_bytes())
        except ValueError:
            file.unlink()
