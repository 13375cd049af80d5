"""`zero-shot`, `classify`, `extract` and `reconstruct`: commands that run a model on videos."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from internvideo_hf.cli.options import AsJson, Device, Quiet, TopK, Videos, known_model, read_text, torch_device
from internvideo_hf.cli.reporting import attempt, quieten_transformers, report_failures


def zero_shot(
    videos: Videos,
    model: Annotated[str, typer.Option(help="A converted model folder, or its name on the Hub.")],
    labels: Annotated[str | None, typer.Option(help='The labels to choose from: "a dog, a cat".')] = None,
    labels_file: Annotated[Path | None, typer.Option(help="A text file with one label a line, instead.")] = None,
    template: Annotated[
        str | None, typer.Option(help='The sentence around a label; "A video of {}." by default.')
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help='Several sentences around each label: "kinetics", or "viclip", as published.')
    ] = None,
    top_k: TopK = 5,
    num_clips: Annotated[int, typer.Option(min=1, help="Clips taken from each video; scores are averaged.")] = 1,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Choose labels for videos, with labels that you name now.

    Example: internvideo zero-shot clip.mp4 --model internvideo-mm-l14 --labels "a dog runs, a car stops"
    """
    if (labels is None) == (labels_file is None):
        raise ValueError("Give the labels by --labels or by --labels-file, one of the two.")
    if labels_file is not None:
        candidates = [line.strip() for line in read_text(labels_file).splitlines() if line.strip()]
    else:
        candidates = [label.strip() for label in labels.split(",") if label.strip()]
    options = {"hypothesis_template": template, "prompts": prompts}
    model = known_model(model)
    quieten_transformers()
    from transformers import AutoModel, AutoProcessor, pipeline

    from internvideo_hf.models.common.loading import load_strict

    answer = pipeline(
        "zero-shot-video-classification",
        model=load_strict(AutoModel, model),
        processor=AutoProcessor.from_pretrained(model),
        device=torch_device(device),
        candidate_labels=candidates,
        top_k=top_k,
        num_clips=num_clips,
        **{name: value for name, value in options.items() if value is not None},
    )
    _answer_each(videos, answer, as_json, quiet)


def classify(
    videos: Videos,
    model: Annotated[str, typer.Option(help="The folder of a converted classifier, or its name on the Hub.")],
    views: Annotated[
        str | None, typer.Option(help="Clips x crops of each video, such as 5x3, whose scores are averaged.")
    ] = None,
    merge: Annotated[str, typer.Option(help='What is averaged over views: "prob", or "score" for logits.')] = "prob",
    top_k: TopK = 5,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Name the class of videos, among those that a fine-tuned model knows.

    Example: internvideo classify clip.mp4 --model vit-b-k400 --views 5x3
    """
    clips_and_crops = _views(views)
    model = known_model(model)
    quieten_transformers()
    from transformers import AutoModelForVideoClassification, AutoVideoProcessor, pipeline

    from internvideo_hf.models.common.loading import load_strict

    answer = pipeline(
        "multi-view-video-classification",
        model=load_strict(AutoModelForVideoClassification, model),
        video_processor=AutoVideoProcessor.from_pretrained(model),
        device=torch_device(device),
        merge=merge,
        top_k=top_k,
        **clips_and_crops,
    )
    _answer_each(videos, answer, as_json, quiet)


def extract(
    videos: Videos,
    model: Annotated[str, typer.Option(help="The folder of a converted model, or its name on the Hub.")],
    out: Annotated[Path, typer.Option(help="The folder for NAME.safetensors and NAME.json of each video.")],
    window: Annotated[int, typer.Option(min=1, help="Frames of a window.")] = 16,
    stride: Annotated[int, typer.Option(min=1, help="Frames from one window's start to the next one's.")] = 4,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows that go through the model at once.")] = 8,
    npy: Annotated[bool, typer.Option("--npy", help="Write NAME.npy besides.")] = False,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Write sliding-window features of long videos, each frame decoded once.

    What was done is kept: run the same command again after a kill. NAME.json tells fps, stride and the time of each
    row.

    Example: internvideo extract match.mp4 --model vit-h --window 16 --stride 4 --out features
    """
    names = [Path(video).name for video in videos]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"Several videos are called {', '.join(sorted(doubled))}: extract them to different folders.")
    model = known_model(model)
    quieten_transformers()
    from tqdm import tqdm

    from internvideo_hf import FeatureExtractor, VideoDecodeError
    from internvideo_hf.inference.features import extract_to_file

    extractor = FeatureExtractor(model, window, stride, batch_size, torch_device(device))
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file. Give the name of a folder.")
    out.mkdir(parents=True, exist_ok=True)
    failures = []
    for video, name in zip(videos, names, strict=True):
        path = out / f"{name}.safetensors"
        with tqdm(desc=name, unit="row", disable=quiet) as bar:

            def show(done: int, total: int, bar=bar) -> None:
                bar.total = total
                bar.update(done - bar.n)

            try:
                new = extract_to_file(extractor, video, path, as_npy=npy, on_rows=show)
            except (VideoDecodeError, FileExistsError) as error:
                failures.append(str(error))
                continue
        if not quiet:
            typer.echo(str(path) if new else f"{path} (was there already)")
    report_failures(failures, len(videos))


def reconstruct(
    video: Annotated[str, typer.Argument(help="A video file, a folder of frames, or an http(s) address.")],
    model: Annotated[str, typer.Option(help="The folder of a converted pretrained VideoMAE, or its name on the Hub.")],
    out: Annotated[Path, typer.Option(help="The picture to write, such as grid.png.")],
    mask: Annotated[str, typer.Option(help="How cubes are hidden: tube, random, running_cell, ...")] = "tube",
    mask_ratio: Annotated[float, typer.Option(help="Share of the cubes to hide, above 0 and below 1.")] = 0.9,
    columns: Annotated[int, typer.Option(min=1, help="Frames to draw.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the mask.")] = 0,
) -> None:
    """Draw a video, the part of it that a masked autoencoder sees, and what it makes of that.

    Example: internvideo reconstruct clip.mp4 --model vit-h-pretrained --out grid.png
    """
    model = known_model(model)
    quieten_transformers()
    from internvideo_hf.inference.reconstruction import reconstruct
    from internvideo_hf.utils.pictures import check_picture, save_picture

    check_picture(out)
    save_picture(reconstruct(video, model, mask=mask, mask_ratio=mask_ratio, columns=columns, seed=seed), out)
    typer.echo(f"Wrote {out}: original, masked and reconstructed frames.")


def _answer_each(
    videos: list[str], pipeline: Callable[[str], list[dict[str, Any]]], as_json: bool, quiet: bool
) -> None:
    """Print a pipeline's answer for each video that can be read, and list the others at the end."""
    from tqdm import tqdm

    answers, failures = [], []
    for video in tqdm(videos, desc="Classifying", unit="video", disable=quiet or len(videos) == 1):
        results = attempt(pipeline, video, failures)
        if results is None:
            answers.append({"video": video, "error": failures[-1]})
            continue
        answers.append({"video": video, "results": results})
        if not as_json:
            tqdm.write("\n".join([video, *map(_line, results)]))
    if as_json:
        typer.echo(json.dumps(answers, indent=2, ensure_ascii=False, allow_nan=False))
    report_failures(failures, len(videos))


def _line(result: dict[str, Any]) -> str:
    cosine = f"  (cosine {result['similarity']:.3f})" if "similarity" in result else ""
    return f"  {result['score']:6.1%}  {result['label']}{cosine}"


def _views(text: str | None) -> dict[str, int]:
    """`5x3` as the processor's options."""
    if text is None:
        return {}
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise ValueError(f"--views {text}: expected clips x crops, such as 5x3.")
    return {"num_clips": int(match[1]), "num_crops": int(match[2])}
