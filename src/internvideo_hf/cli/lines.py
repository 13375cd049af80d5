"""JSON lines of the answers to a list of videos, by one worker or several: the option --out of several commands."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internvideo_hf.cli.options import OR_STORED_OUTPUT, engine_of, parse_device
from internvideo_hf.cli.reporting import report_failures, say, silence_transformers
from internvideo_hf.utils.pretrained import load_pretrained
from internvideo_hf.utils.storage import AnyPath, as_path

if TYPE_CHECKING:
    import torch

    from internvideo_hf.inference.answer_sets import AnswerSet
    from internvideo_hf.inference.answering import Question

Lines = Annotated[
    Path | None,
    typer.Option(
        help=f"File for JSON lines, such as answers.jsonl ({OR_STORED_OUTPUT}): one line a video, in the order of the "
        "list, `error` where it failed. The models then run in processes of their own (--gpus, --engine), and the "
        "same command continues after an interruption. Failures are also rows of FILE.failures.jsonl."
    ),
]

Dataset = Annotated[
    Path | None,
    typer.Option(
        "--dataset",
        help="Also write the answers as a data set for `datasets.load_dataset` (extra `train`): a folder with parquet "
        "and a card, which takes the place of an earlier one.",
    ),
]


@dataclass(frozen=True)
class Workers:
    """The options that say where models run.

    Args:
        engine: value of --engine.
        address: value of --address.
        gpus: value of --gpus.
        timeout: value of --video-timeout.
        device: value of --device.
        retry: value of --retry.
    """

    engine: str
    address: str | None
    gpus: int | None
    timeout: float | None
    device: str | None
    retry: bool = False

    def check(self, out: Path | None, others: dict[str, Any]) -> None:
        """Refuse options that do not go with --out, or not without it, before anything is loaded.

        Args:
            out: value of --out.
            others: names and values of the options that write answers elsewhere.
        """
        if out is None:
            if self.engine != "local" or self.retry or (self.address, self.gpus, self.timeout) != (None, None, None):
                raise ValueError(
                    "--engine, --address, --gpus, --video-timeout and --retry are for answers as JSON lines. Add "
                    "--out FILE.jsonl."
                )
            return
        for option, value in others.items():
            if value:
                raise ValueError(f"--out writes the answers as JSON lines. Leave out {option}, or --out.")
        from internvideo_hf.utils.files import check_output_file

        check_output_file(as_path(out))


def write_list(
    out: Path,
    videos: Sequence[str],
    question: "Question",
    workers: Workers,
    *,
    quiet: bool,
    description: str,
    failed: Sequence[str] = (),
    dataset: "AnswerSet | None" = None,
) -> None:
    """Write the answers to videos as JSON lines, list failures, and exit with their exit code.

    Args:
        out: value of --out.
        videos: paths and addresses.
        question: what is asked about each.
        workers: where models run.
        quiet: value of --quiet.
        description: of the progress bar.
        failed: messages about what failed before.
        dataset: to write, too.
    """
    from internvideo_hf.data.folders import check_some_exist
    from internvideo_hf.inference.answering import write_lines

    check_some_exist(videos)
    place = as_path(out)
    check_no_source([place], list(videos), "--out")
    engine = engine_of(workers.engine, workers.address, workers.gpus, None, workers.device, apart=True)
    assert engine is not None  # for one model, too
    failures = list(failed)
    how: dict[str, Any] = {"timeout": workers.timeout, "retry": workers.retry, "quiet": quiet}
    failures += write_lines(place, videos, question, engine, **how, description=description)
    if not quiet:
        say(f"Wrote {place}: {len(videos)} lines.")
    if dataset is not None:
        from internvideo_hf.inference.answer_sets import read_answers

        write_dataset(dataset, read_answers(place), quiet)
    report_failures(failures, len(videos) + len(failed))


def check_dataset(folder: Path | None) -> None:
    """Refuse a value of --dataset that cannot be written, before the work begins."""
    if folder is not None:
        from internvideo_hf.inference.answer_sets import check_answer_folder

        check_answer_folder(folder)


def answer_set_of(
    folder: Path | None,
    model: str,
    classes: Sequence[str] | None,
    settings: Mapping[str, Any],
    numbers: tuple[str, ...] = (),
) -> "AnswerSet | None":
    """Return what --dataset asks for; None without it.

    Args:
        folder: value of --dataset.
        model: that answers.
        classes: names that answers may be; None for texts.
        settings: for the card.
        numbers: as of `AnswerSet`.
    """
    if folder is None:
        return None
    from internvideo_hf.inference.answer_sets import AnswerSet

    return AnswerSet(folder, model, classes, settings, numbers)


def write_dataset(dataset: "AnswerSet", answers: Iterable[Mapping[str, Any]], quiet: bool) -> None:
    """Write answers as a data set, and say so.

    Args:
        dataset: to write.
        answers: as of `AnswerSet.write`.
        quiet: value of --quiet.
    """
    rows = dataset.write(answers)
    if not quiet:
        say(f"Wrote {dataset.folder}: {rows} rows and a card.", err=True)


class PipelineAnswerer:
    """Asks a pipeline about each video.

    Args:
        pipe: the pipeline.
        seed: from which every video starts, of pipelines that draw; None for none.
        questions: of which the pipeline answers each; None for pipelines without.
    """

    def __init__(self, pipe: Any, seed: int | None = None, questions: Sequence[str] | None = None):
        self._pipe, self._seed, self._questions = pipe, seed, questions

    def reader(self) -> Any:
        """Return what decodes a video; see `answering.Answerer`."""
        return self._pipe.video_reader()

    def answer(self, video: str, inputs: Any) -> dict[str, Any]:
        """Return the results for a video; see `answering.Answerer`."""
        if self._seed is not None:
            from transformers import set_seed

            set_seed(self._seed)  # so that an answer does not depend on the videos before it
        found = self._pipe(video) if inputs is None else self._pipe.answer(inputs)
        if self._questions is not None:
            pairs = zip(self._questions, found, strict=True)
            found = [{"question": question, "answers": answers} for question, answers in pairs]
        return {"results": found}


def pipeline_question(
    task: str,
    auto_class: str,
    model: str,
    dtype: str | None,
    options: Mapping[str, Any],
    *,
    processor: str = "processor",
    seed: int | None = None,
    files: Sequence[Path] = (),
    decodes_apart: bool = True,
) -> "Question":
    """Return what asks a pipeline about each video.

    Args:
        task: as of `load_pipeline`.
        auto_class: the same.
        model: the same.
        dtype: the same.
        options: of the pipeline, as JSON.
        processor: the same.
        seed: as of `PipelineAnswerer`.
        files: others than the model's that answers depend on.
        decodes_apart: as of `answering.Question`.
    """
    from internvideo_hf.inference.answering import Question
    from internvideo_hf.inference.rows import Loader

    facts: dict[str, str | int | None] = {"task": task, "auto_class": auto_class, "dtype": dtype, "seed": seed}
    facts |= {"processor": processor, "options": json.dumps(options, sort_keys=True)}
    loader = Loader(_load_pipeline, model, tuple(facts.items()))
    return Question(loader, (model,), tuple(map(str, files)), decodes_apart)


def _load_pipeline(
    name: str,
    *,
    device: "torch.device | str | None",
    task: str,
    auto_class: str,
    dtype: str | None,
    processor: str,
    seed: int | None,
    options: str,
) -> PipelineAnswerer:
    given = json.loads(options)
    where = None if device is None else str(device)
    pipe = load_pipeline(task, auto_class, name, where, dtype, processor, **given)
    if hasattr(pipe, "embed_labels"):
        pipe.embed_labels()  # whose mistakes are none of a video's
    return PipelineAnswerer(pipe, seed, given.get("question"))


def load_pipeline(
    task: str,
    auto_class: str,
    model: str,
    device: str | None,
    dtype: Any,
    processor: str = "processor",
    **options: Any,
) -> Any:
    """Load a model and its processor into a pipeline.

    Args:
        task: name of the pipeline.
        auto_class: name of the Auto class that loads the model.
        model: its folder, or its name on the Hub.
        device: value of --device.
        dtype: of `parse_dtype`.
        processor: "processor", or "video_processor" of a model that reads no text.
        options: of the pipeline.
    """
    silence_transformers()
    import transformers

    from internvideo_hf.inference.runner import load_model

    loaded = load_model(getattr(transformers, auto_class), model, parse_device(device), dtype)
    kind = {"processor": transformers.AutoProcessor, "video_processor": transformers.AutoVideoProcessor}[processor]
    parts = {"model": loaded, "device": loaded.device, processor: load_pretrained(kind, model)}
    return transformers.pipeline(task, **parts, **options)  # type: ignore[call-overload]  # its stub knows own tasks


def check_no_source(files: Sequence[AnyPath], sources: list[str], option: str) -> None:
    """Refuse an output that would replace a file that is read.

    Args:
        files: to write.
        sources: files to read, and addresses.
        option: that names the output.
    """
    read = set(map(os.path.realpath, sources))
    for file in files:
        if os.path.realpath(file) in read:
            raise ValueError(f"{option} would replace {file}, which is read. Name another place.")
