"""Commands that answer in words: `caption`, `ask`."""

from typing import Annotated, Any

import typer

from internvideo_hf.cli.completion import model_names
from internvideo_hf.cli.inference import answer_each, named_videos
from internvideo_hf.cli.lines import (
    Dataset,
    Lines,
    Workers,
    answer_set_of,
    check_dataset,
    load_pipeline,
    pipeline_question,
    write_list,
)
from internvideo_hf.cli.options import (
    ANSWERER_HELP,
    CAPTIONER_HELP,
    SAVED,
    Address,
    AsJson,
    Device,
    Dtype,
    EngineName,
    Gpus,
    Quiet,
    Retry,
    Videos,
    VideoTimeout,
    parse_dtype,
    resolve_model,
)
from internvideo_hf.cli.reporting import remark_on_scripts, say
from internvideo_hf.inference.kinds import ANSWERER, CAPTIONER


def caption(
    videos: Videos,
    model: Annotated[str, typer.Option(help=CAPTIONER_HELP, autocompletion=model_names)],
    text: Annotated[str | None, typer.Option(help='Beginning of every caption, such as "a man".')] = None,
    beams: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Captions kept in the search for the best; 1 is the fastest (default: 3, of --sample 1).",
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The most tokens to write (default: all that fit, 76 of a released model).",
        ),
    ] = None,
    sample: Annotated[
        bool,
        typer.Option("--sample", help="Draw each token by its probability; with --beams, in a search."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of --sample; every video starts from it.")] = 0,
    dtype: Dtype = SAVED,
    out: Lines = None,
    dataset: Dataset = None,
    engine: EngineName = "local",
    address: Address = None,
    gpus: Gpus = None,
    video_timeout: VideoTimeout = None,
    retry: Retry = False,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Describe videos in words.

    The model needs the caption decoder that InternVideo-MM was pretrained with: `internvideo convert` keeps it where
    the released file holds it.

    Example: internvideo caption clip.mp4 --model internvideo-mm-l14

    Example: internvideo caption clips --model internvideo-mm-l14 --text "a photo of" --json

    Example: internvideo caption clips --model internvideo-mm-l14 --out captions.jsonl --gpus 8
    """
    workers = Workers(engine, address, gpus, video_timeout, device, retry)
    workers.check(out, {"--json": as_json})
    check_dataset(dataset)
    number_type = parse_dtype(dtype, device, model)
    named, model = named_videos(videos, quiet), resolve_model(model, CAPTIONER)
    options: dict[str, Any] = {"num_beams": beams or (1 if sample else 3), "do_sample": sample}
    if text is not None:
        remark_on_scripts([text])
        options["text"] = text
    if max_new_tokens is not None:
        options["max_new_tokens"] = max_new_tokens
    kind = ("video-to-text", "AutoModelForMultimodalLM", model)
    answer_set = answer_set_of(dataset, model, None, {**options, "seed": seed, "dtype": dtype})
    if out is not None:
        asked, listed = pipeline_question(*kind, number_type, options, seed=seed), [video for video, _ in named]
        write_list(out, listed, asked, workers, quiet=quiet, description="Describing", dataset=answer_set)
        return
    pipe = load_pipeline(*kind, device, number_type, **options)
    from transformers import set_seed

    def describe(video: str) -> list[dict[str, Any]]:
        set_seed(seed)  # so that a caption does not depend on the videos before it
        found: list[dict[str, Any]] = pipe(video)
        return found

    answer_each([video for video, _ in named], describe, as_json, quiet, "Describing", dataset=answer_set)


def ask(
    video: Annotated[str, typer.Argument(help="Video file, folder or list of videos, or http(s) URL.")],
    questions: Annotated[list[str], typer.Argument(help="One question or several, each in quotes.")],
    model: Annotated[str, typer.Option(help=ANSWERER_HELP, autocompletion=model_names)],
    top_k: Annotated[int, typer.Option(min=1, help="Answers to show per question.")] = 5,
    dtype: Dtype = SAVED,
    out: Lines = None,
    engine: EngineName = "local",
    address: Address = None,
    gpus: Gpus = None,
    video_timeout: VideoTimeout = None,
    retry: Retry = False,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Answer questions about videos, out of the list of answers that the model was trained on.

    Each video is decoded once for all questions. The percentages are probabilities over the model's answers: the best
    is wrong where none of them is right.

    Example: internvideo ask clip.mp4 "what does the man do?" "who sings?" --model internvideo-mm-l14-msrvtt-qa

    Example: internvideo ask clips "what is it?" --model internvideo-mm-l14-msrvtt-qa --top-k 1 --json

    Example: internvideo ask clips "what is it?" --model internvideo-mm-l14-msrvtt-qa --out answers.jsonl --gpus 8
    """
    workers = Workers(engine, address, gpus, video_timeout, device, retry)
    workers.check(out, {"--json": as_json})
    from internvideo_hf.processing.processing import clean_text

    asked = [question for question in questions if clean_text(question)]
    if not asked:
        raise ValueError('The question is empty. Give it in quotes, such as "what does the man do?".')
    number_type = parse_dtype(dtype, device, model)
    named, model = named_videos([video], quiet), resolve_model(model, ANSWERER)
    remark_on_scripts(asked)
    kind = ("video-question-answering", "AutoModelForVisualQuestionAnswering", model)
    options: dict[str, Any] = {"question": asked, "top_k": top_k}
    empty = ["a question is empty; the others are answered"] * (len(questions) - len(asked))
    if out is not None:
        question = pipeline_question(*kind, number_type, options)
        paths = [video for video, _ in named]
        write_list(out, paths, question, workers, quiet=quiet, description="Answering", failed=empty)
        return
    pipe = load_pipeline(*kind, device, number_type, **options)
    from internvideo_hf.data.answers import numbered_answer
    from internvideo_hf.models.common.loading import classes_of

    if classes_of(pipe.model.config)[0] == numbered_answer(0):
        say(f"{model} names its answers by numbers. Convert the released file again with --answers LIST.", err=True)

    def answer(video: str) -> list[dict[str, Any]]:
        return [
            {"question": question, "answers": answers} for question, answers in zip(asked, pipe(video), strict=True)
        ]

    answer_each([video for video, _ in named], answer, as_json, quiet, "Answering", empty)
