"""Answers to the videos of a list as JSON lines, by workers that each load the model."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from os import getcwd
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from tqdm import tqdm
from transformers import AutoConfig

from internvideo_hf.data.contents import stamp_if_there
from internvideo_hf.data.executors import processes
from internvideo_hf.data.executors.parts import Engine, Part, PartFolder, Shard, run_shards, shard_key
from internvideo_hf.data.failures import FailureTable, lost_among_others, one_video
from internvideo_hf.inference.rows import Loader, enter_worker, read_arrays, to_tensors
from internvideo_hf.models.common.loading import check_revision, revision
from internvideo_hf.utils.devices import default_device
from internvideo_hf.utils.files import atomic_path, check_output_file
from internvideo_hf.utils.fingerprints import file_sha256
from internvideo_hf.utils.locks import lock_file
from internvideo_hf.utils.pretrained import load_pretrained
from internvideo_hf.utils.storage import AnyPath
from internvideo_hf.video.errors import VideoDecodeError

SHARD_VIDEOS = 32  # what a lost worker costs; one where the model decodes, which a video may kill


class Answerer(Protocol):
    """What a worker loads, and asks about each video."""

    def reader(self) -> Callable[[Any], Any] | None:
        """Return what makes the inputs of a video in a decoder; None where `answer` reads the video itself."""

    def answer(self, video: str, inputs: Any) -> dict[str, Any]:
        """Return the entries of a video's line, as JSON.

        Args:
            video: path or address.
            inputs: of `reader`; None without one.
        """


@dataclass(frozen=True)
class Question:
    """What is asked about each video of a list.

    Args:
        loader: loads the `Answerer` in a worker.
        models: folders or names of all its models.
        files: others that it reads.
        decodes_apart: it has a `reader`, so that decoders beside the model read the videos.
    """

    loader: Loader
    models: tuple[str, ...]
    files: tuple[str, ...] = ()
    decodes_apart: bool = True


@dataclass(frozen=True)
class _Plan:
    question: Question
    engine: Engine
    revisions: tuple[str, ...]
    timeout: float | None
    threads: int
    folder: str
    held: Mapping[str, VideoDecodeError] = field(default_factory=dict)


def write_lines(
    out: AnyPath,
    videos: Sequence[str],
    question: Question,
    engine: Engine,
    *,
    timeout: float | None = None,
    retry: bool = False,
    quiet: bool = False,
    description: str = "Videos",
) -> list[str]:
    """Answer for the videos of a list, and write a JSON object a line, in the order of the list.

    A line has `video` and the answer, or `error`. Parts that are done lie in a folder beside the file, with which the
    same call continues after an interruption. Failures are rows of `OUT.failures.jsonl`, see `FailureTable`: what has
    killed or hung its decoder fails again without being tried.

    Args:
        out: the file, on a disk that all workers share, or an object of a store.
        videos: paths and addresses.
        question: what is asked.
        engine: runs the workers.
        timeout: seconds after which a decoder counts as hung, 600 by default; where the model decodes, a whole video,
            3600 by default. `math.inf` for no limit.
        retry: try again what has killed or hung its decoder.
        quiet: no progress bar.
        description: of the progress bar.

    Returns:
        The causes of failures.

    Raises:
        LockedError: if another process writes the file.
        ValueError: if a worker finds another model.
    """
    check_output_file(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    parts = PartFolder((out.parent / f".{out.name}.parts").absolute())
    with lock_file(out):
        with (
            FailureTable.beside(out, "answer", retry=retry) as table,
            atomic_path(out) as path,
            path.open("w", encoding="utf-8", errors="backslashreplace") as file,
        ):
            entries = answer_videos(videos, question, engine, parts, table, timeout)
            for video, entry in tqdm(entries, desc=description, unit="video", total=len(videos), disable=quiet):
                failures += [entry["error"]] if "error" in entry else []
                file.write(json.dumps({"video": video, **entry}, ensure_ascii=False, allow_nan=False) + "\n")
        parts.clear()
    return failures


def answer_videos(
    videos: Sequence[str],
    question: Question,
    engine: Engine,
    parts: PartFolder,
    table: FailureTable,
    timeout: float | None = None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Answer for the videos of a list; see `write_lines`.

    Args:
        videos: as of `write_lines`.
        question: as of `write_lines`.
        engine: as of `write_lines`.
        parts: keeps what is done.
        table: says which videos are not tried, and takes those that fail.
        timeout: as of `write_lines`.

    Yields:
        A video and its answer, or `error`.
    """
    size = SHARD_VIDEOS if question.decodes_apart else 1
    _, held = table.divide(dict.fromkeys(videos))
    if table.retry:
        parts.delete_if(lambda part: any("failure" in entry for entry in part.notes))
    plan = _Plan(
        question,
        engine,
        tuple(map(model_revision, question.models)),
        processes.time_limit(timeout, processes.TIMEOUT),
        torch.get_num_threads(),
        getcwd(),
        held,
    )
    about = [question.loader.options, plan.revisions, [file_sha256(file) for file in question.files]]
    groups = [tuple(videos[start : start + size]) for start in range(0, len(videos), size)]
    shards = [Shard(shard_key(map(_facts, group), about), group) for group in groups]
    whole = None if question.decodes_apart else processes.time_limit(timeout, processes.WHOLE_TIMEOUT)
    todo = [shard for shard in shards if any(video not in held for video in shard.items)]
    answered = run_shards(partial(answer_shard, plan=plan), todo, engine, parts, timeout=whole)
    for shard in shards:
        if all(video in held for video in shard.items):
            entries = [_failed(held[video]) for video in shard.items]
        else:
            _, part = next(answered)
            entries = _lost(shard, part) if isinstance(part, VideoDecodeError) else part.notes
        for video, entry in zip(shard.items, entries, strict=True):
            if "failure" in entry:
                error = VideoDecodeError(*entry["failure"])
                table.add(error, video)
                yield video, {"error": str(held.get(video, error))}
            else:
                yield video, entry


def _failed(error: VideoDecodeError) -> dict[str, Any]:
    """Return what stands for the entries of a video that failed."""
    return {"failure": [error.source, error.cause, error.advice]}


def _lost(shard: Shard[str], error: VideoDecodeError) -> list[dict[str, Any]]:
    """Return the failures of a shard that has no part; of several videos, nothing is known of any one."""
    if len(shard.items) > 1:
        return [_failed(lost_among_others(video, "answer")) for video in shard.items]
    return [_failed(VideoDecodeError(shard.items[0], error.cause, error.advice))]


def _facts(video: str) -> list[Any]:
    return [video, *stamp_if_there(video)]


def model_revision(model: str) -> str:
    """Return what identifies the weights of a model that is not loaded; see `models.common.loading.revision`.

    Args:
        model: folder, or name on the Hub.
    """
    config: Any = load_pretrained(AutoConfig, model)
    return revision(model, SimpleNamespace(config=config))  # type: ignore[arg-type]  # its files say the rest


def answer_shard(videos: Sequence[str], plan: _Plan) -> Part:
    """Answer for the videos of a shard; workers run this.

    Args:
        videos: of the shard, in order.
        plan: of the run.

    Returns:
        As notes, the entries of each video's line.

    Raises:
        ValueError: if the models are not those of the run.
    """
    device = enter_worker(plan.engine, plan.folder, plan.threads)
    answerer = _answerer(plan.question, plan.revisions, device)
    read, rest = answerer.reader(), [video for video in videos if video not in plan.held]
    if read is None:
        results: Any = ((video, None) for video in rest)
    else:
        task = partial(read_arrays, read=read, folder=plan.folder)
        results = plan.engine.executor().map_ordered(task, rest, plan.engine.decoders, str, timeout=plan.timeout)
    inputs = (plan.held[video] if video in plan.held else next(results)[1] for video in videos)
    return Part({}, [_entry(answerer, video, own, device) for video, own in zip(videos, inputs, strict=True)])


def _entry(answerer: Answerer, video: str, inputs: Any, device: str | None) -> dict[str, Any]:
    if isinstance(inputs, VideoDecodeError):
        return _failed(inputs)
    try:
        with one_video(video):
            return answerer.answer(video, to_tensors(inputs, default_device(device)))
    except VideoDecodeError as error:
        return _failed(error)


@lru_cache(maxsize=1)
def _answerer(question: Question, expected: tuple[str, ...], device: str | None) -> Any:
    for model, wanted in zip(question.models, expected, strict=True):
        check_revision(model, model_revision(model), wanted)
    return question.loader.function(question.loader.name, device=device, **dict(question.loader.options))
