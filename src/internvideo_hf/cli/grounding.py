"""The command that finds when a video shows what a sentence says: `ground`."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internvideo_hf.cli.inference import unique_videos
from internvideo_hf.cli.localization import extract_video
from internvideo_hf.cli.options import (
    AUTO,
    MODEL_HELP,
    AsJson,
    BatchSize,
    Device,
    Dtype,
    Quiet,
    parse_device,
    parse_dtype,
    resolve_model,
)
from internvideo_hf.cli.reporting import VideoReport, remark_on_scripts, silence_transformers
from internvideo_hf.inference.kinds import GROUNDER
from internvideo_hf.utils.names import clock

if TYPE_CHECKING:
    from internvideo_hf.tasks.temporal_grounding.grounding import Answer


def ground(
    video: Annotated[str, typer.Argument(help="Video file, folder or list of videos, or http(s) URL.")],
    queries: Annotated[list[str], typer.Argument(help="One sentence or several, each in quotes.")],
    model: Annotated[str, typer.Option(help=MODEL_HELP.replace("converted model", "head, such as a VSLNet"))],
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
    dtype: Dtype = AUTO,
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
    """
    asked = [query.strip() for query in queries]
    if not all(asked):
        raise ValueError('A sentence is empty. Give it in quotes, such as "a man opens the door".')
    number_type, named = parse_dtype(dtype), unique_videos([video], quiet)
    head = resolve_model(model, GROUNDER)
    remark_on_scripts(asked)
    silence_transformers()
    from internvideo_hf.auto import auto_class
    from internvideo_hf.inference.runner import load_model
    from internvideo_hf.inference.untrimmed import extractor_for
    from internvideo_hf.tasks.temporal_grounding.grounding import Grounder, text_encoder_of

    where: dict[str, Any] = {"device": parse_device(device), "dtype": number_type}
    loaded = load_model(auto_class("AutoModelForTemporalGrounding"), head, **where)
    words = None if text_encoder is None else resolve_model(text_encoder, any_family=True)
    grounder = Grounder(loaded, text_encoder_of(loaded.config, words, model, **where))
    named_encoder = None if encoder is None else resolve_model(encoder, any_family=True)
    extractor = extractor_for(loaded.config, named_encoder, model, batch_size=batch_size, **where)
    read = partial(extract_video, extractor, loaded.config, keep=keep_features, quiet=quiet)
    answers = _Answers(asked, as_json)
    for path, name in named:
        answers.add(path, name, lambda path: grounder.ground(read(path, name), asked, top_k, path))  # noqa: B023
    answers.end()


class _Answers(VideoReport["list[list[Answer]]"]):
    """Prints the stretches of each sentence."""

    def __init__(self, queries: list[str], as_json: bool):
        super().__init__(as_json)
        self._queries = queries

    def entry(self, found: "list[list[Answer]]") -> dict[str, Any]:
        pairs = zip(self._queries, found, strict=True)
        return {
            "queries": [{"query": query, "answers": [own._asdict() for own in answers]} for query, answers in pairs]
        }

    def lines(self, found: "list[list[Answer]]") -> list[str]:
        lines = []
        for query, answers in zip(self._queries, found, strict=True):
            lines.append(f"  {query}")
            lines += [f"    {clock(own.start)} - {clock(own.end)}  {own.score:6.1%}" for own in answers]
        return lines
