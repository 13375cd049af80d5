"""The command that finds when a video shows what a sentence says: `ground`."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internvideo_hf.cli.completion import model_names
from internvideo_hf.cli.inference import unique_videos
from internvideo_hf.cli.lines import Lines, Workers, write_list
from internvideo_hf.cli.localization import extract_video
from internvideo_hf.cli.options import (
    MODEL_HELP,
    SAVED,
    Address,
    AnswerTimeout,
    AsJson,
    BatchSize,
    Device,
    Dtype,
    EngineName,
    Gpus,
    Quiet,
    Retry,
    parse_device,
    parse_dtype,
    resolve_model,
)
from internvideo_hf.cli.reporting import VideoReport, remark_on_scripts, silence_transformers
from internvideo_hf.inference.kinds import GROUNDER
from internvideo_hf.utils.names import clock

if TYPE_CHECKING:
    import torch

    from internvideo_hf.inference.answering import Question
    from internvideo_hf.inference.untrimmed import VideoFeatures
    from internvideo_hf.tasks.temporal_grounding.grounding import Answer, Grounder


def ground(
    video: Annotated[str, typer.Argument(help="Video file, folder or list of videos, or http(s) URL.")],
    queries: Annotated[list[str], typer.Argument(help="One sentence or several, each in quotes.")],
    model: Annotated[
        str,
        typer.Option(help=MODEL_HELP.replace("converted model", "head, such as a VSLNet"), autocompletion=model_names),
    ],
    encoder: Annotated[
        str | None, typer.Option(help="Model that makes the head's features of videos (default: its own).")
    ] = None,
    text_encoder: Annotated[
        str | None, typer.Option(help="Model that makes the head's features of words (default: its own).")
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Stretches to show per sentence, the best first.")] = 5,
    keep_features: Annotated[
        bool, typer.Option("--keep-features", help="Keep the features beside each video, for the next call.")
    ] = False,
    batch_size: BatchSize = 8,
    dtype: Dtype = SAVED,
    out: Lines = None,
    engine: EngineName = "local",
    address: Address = None,
    gpus: Gpus = None,
    video_timeout: AnswerTimeout = None,
    retry: Retry = False,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find when a video shows what a sentence says, such as "a man opens the door" or "where did I put my keys?".

    Windows of a video become features by the encoder of the head, and words by its text encoder; the head finds the
    stretch. A video is read once for all sentences. The percentage is the probability of both ends of a stretch; one
    of the stretches is always the best, whether or not the video shows such a thing. Two of them overlap by less than
    half. Resumable: rerun the same command after an interruption.

    A head is trained by `internvideo train temporal_grounding/custom`, on features that `internvideo extract` writes
    and a list of video, query, start and end.

    Example: internvideo ground kitchen.mp4 "the woman cuts a tomato" --model run/final

    Example: internvideo ground videos "a goal" "the referee shows a card" --model run/final --top-k 1 --json

    Example: internvideo ground videos "a goal" --model run/final --out goals.jsonl --gpus 8 --video-timeout 3600
    """
    workers = Workers(engine, address, gpus, video_timeout, device, retry)
    workers.check(out, {"--json": as_json})
    asked = [query.strip() for query in queries]
    if not all(asked):
        raise ValueError('A sentence is empty. Give it in quotes, such as "a man opens the door".')
    number_type, named = parse_dtype(dtype, device, encoder), unique_videos([video], quiet)
    head = resolve_model(model, GROUNDER)
    remark_on_scripts(asked)
    how: dict[str, Any] = {"encoder": encoder, "text_encoder": text_encoder, "batch_size": batch_size}
    how |= {"dtype": number_type, "keep": keep_features, "title": model}
    if out is not None:
        question = _question(head, {**how, "queries": tuple(asked), "top_k": top_k})
        write_list(out, [path for path, _ in named], question, workers, quiet=quiet, description="Grounding")
        return
    grounder, read = _load(head, parse_device(device), quiet=quiet, **how)
    answers = _Answers(asked, as_json)
    for path, name in named:
        answers.add(path, name, lambda path: grounder.ground(read(path, name), asked, top_k, path))  # noqa: B023
    answers.end()


def _load(
    head: str,
    device: "torch.device | None",
    *,
    encoder: str | None,
    text_encoder: str | None,
    batch_size: int,
    dtype: str | None,
    keep: bool,
    title: str,
    quiet: bool,
) -> "tuple[Grounder, Callable[[str, str], VideoFeatures]]":
    """Return the head with what reads its words, and what extracts the features of a video for it."""
    silence_transformers()
    from internvideo_hf.auto import auto_class
    from internvideo_hf.inference.runner import load_model
    from internvideo_hf.inference.untrimmed import extractor_for
    from internvideo_hf.tasks.temporal_grounding.grounding import Grounder, text_encoder_of

    where: dict[str, Any] = {"device": device, "dtype": dtype}
    loaded = load_model(auto_class("AutoModelForTemporalGrounding"), head, **where)
    words, videos = (
        None if name is None else resolve_model(name, any_family=True) for name in (text_encoder, encoder)
    )
    grounder = Grounder(loaded, text_encoder_of(loaded.config, words, title, **where))
    extractor = extractor_for(loaded.config, videos, title, batch_size=batch_size, **where)
    return grounder, partial(extract_video, extractor, loaded.config, keep=keep, quiet=quiet)


def _question(head: str, how: dict[str, Any]) -> "Question":
    """Return what a worker asks about each video; see `_Grounder`."""
    from transformers import AutoConfig

    from internvideo_hf.inference.answering import Question
    from internvideo_hf.inference.rows import Loader
    from internvideo_hf.inference.untrimmed import encoder_of
    from internvideo_hf.utils.pretrained import load_pretrained

    config: Any = load_pretrained(AutoConfig, head)
    names = (how["encoder"] or encoder_of(config), how["text_encoder"] or getattr(config, "text_encoder", None))
    models = (resolve_model(str(name), any_family=True) for name in names if name is not None)
    return Question(Loader(_Grounder, head, tuple(how.items())), (head, *models), decodes_apart=False)


class _Grounder:
    """Finds the stretches of each video in a worker; see `answering.Answerer`.

    Args:
        head: folder of the head.
        device: of the worker.
        queries: the sentences.
        top_k: stretches of each.
        how: other options of the command, see `_load`.
    """

    def __init__(self, head: str, *, device: str | None, queries: tuple[str, ...], top_k: int, **how: Any):
        self._queries, self._top_k = queries, top_k
        self._grounder, self._read = _load(head, parse_device(device), quiet=True, **how)

    def reader(self) -> None:
        """Return none: windows are decoded where they are embedded."""

    def answer(self, video: str, inputs: None) -> dict[str, Any]:
        """Return the stretches of a video."""
        found = self._grounder.ground(self._read(video, video), self._queries, self._top_k, video)
        return _entry(self._queries, found)


def _entry(queries: Sequence[str], found: "list[list[Answer]]") -> dict[str, Any]:
    pairs = zip(queries, found, strict=True)
    return {"queries": [{"query": query, "answers": [own._asdict() for own in answers]} for query, answers in pairs]}


class _Answers(VideoReport["list[list[Answer]]"]):
    """Prints the stretches of each sentence."""

    def __init__(self, queries: list[str], as_json: bool):
        super().__init__(as_json)
        self._queries = queries

    def entry(self, found: "list[list[Answer]]") -> dict[str, Any]:
        return _entry(self._queries, found)

    def lines(self, found: "list[list[Answer]]") -> list[str]:
        lines = []
        for query, answers in zip(self._queries, found, strict=True):
            lines.append(f"  {query}")
            lines += [f"    {clock(own.start)} - {clock(own.end)}  {own.score:6.1%}" for own in answers]
        return lines
