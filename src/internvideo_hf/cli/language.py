"""Commands that answer in words: `caption`, `ask`."""

from typing import Annotated, Any

import typer

from internvideo_hf.cli.inference import answer_each, named_videos
from internvideo_hf.cli.kinds import ANSWERER, CAPTIONER
from internvideo_hf.cli.options import (
    AUTO,
    AsJson,
    Device,
    Dtype,
    Quiet,
    TopK,
    Videos,
    parse_device,
    parse_dtype,
    resolve_model,
)
from internvideo_hf.cli.reporting import remark_on_scripts, silence_transformers
from internvideo_hf.utils.pretrained import load_pretrained


def caption(
    videos: Videos,
    model: Annotated[str, typer.Option(help="Converted folder with a caption decoder, or Hub repository id.")],
    text: Annotated[str | None, typer.Option(help="Beginning of every caption.")] = None,
    beams: Annotated[int, typer.Option(min=1, help="Captions kept while searching for the best; 1 is greedy.")] = 3,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The most tokens to write (default: as many as the model has places).")
    ] = None,
    sample: Annotated[bool, typer.Option("--sample", help="Draw each token by its probability.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of --sample.")] = 0,
    dtype: Dtype = AUTO,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Describe videos in words.

    Example: internvideo caption clip.mp4 --model internvideo-mm-l14
    """
    number_type = parse_dtype(dtype)
    named, model = named_videos(videos, quiet), resolve_model(model, CAPTIONER)
    options: dict[str, Any] = {"num_beams": 1 if sample else beams, "do_sample": sample}
    if text is not None:
        remark_on_scripts([text])
        options["text"] = text
    if max_tokens is not None:
        options["max_new_tokens"] = max_tokens
    silence_transformers()
    from transformers import AutoModelForMultimodalLM, AutoProcessor, pipeline, set_seed

    from internvideo_hf.inference.runner import load_model

    set_seed(seed)
    loaded = load_model(AutoModelForMultimodalLM, model, parse_device(device), number_type)
    describe = pipeline(  # type: ignore[call-overload]  # the stub knows transformers' own tasks only
        "video-to-text",
        model=loaded,
        processor=load_pretrained(AutoProcessor, model),
        device=loaded.device,
        **options,
    )
    answer_each([video for video, _ in named], describe, as_json, quiet, "Describing")


def ask(
    video: Annotated[str, typer.Argument(help="Video file, folder or list of videos, or http(s) URL.")],
    questions: Annotated[list[str], typer.Argument(help="One question or several.")],
    model: Annotated[str, typer.Option(help="Converted question-answering folder or Hub repository id.")],
    top_k: TopK = 5,
    dtype: Dtype = AUTO,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Answer questions about videos, each decoded once, out of the answers that the model was trained on.

    Example: internvideo ask clip.mp4 "what does the man do?" "who sings?" --model internvideo-mm-l14-msrvtt-qa
    """
    if not all(question.strip() for question in questions):
        raise ValueError('A question is empty. Give it in quotes, such as "what does the man do?".')
    number_type = parse_dtype(dtype)
    named, model = named_videos([video], quiet), resolve_model(model, ANSWERER)
    remark_on_scripts(questions)
    silence_transformers()
    from transformers import AutoModelForVisualQuestionAnswering, AutoProcessor, pipeline

    from internvideo_hf.inference.runner import load_model

    loaded = load_model(AutoModelForVisualQuestionAnswering, model, parse_device(device), number_type)
    pipe = pipeline(  # type: ignore[call-overload]  # the stub knows transformers' own tasks only
        "video-question-answering",
        model=loaded,
        processor=load_pretrained(AutoProcessor, model),
        device=loaded.device,
        question=questions,
        top_k=top_k,
    )

    def answer(video: str) -> list[dict[str, Any]]:
        return [
            {"question": question, "answers": answers}
            for question, answers in zip(questions, pipe(video), strict=True)
        ]

    answer_each([video for video, _ in named], answer, as_json, quiet, "Answering")
