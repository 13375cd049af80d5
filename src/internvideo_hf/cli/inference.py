"""Commands that run a model on videos: `zero-shot`, `classify`, `extract`, `reconstruct`."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from internvideo_hf.cli.kinds import AUTOENCODER, CLASSIFIER, DUAL_ENCODER
from internvideo_hf.cli.options import (
    AsJson,
    Device,
    Quiet,
    TopK,
    Videos,
    check_folder,
    parse_device,
    read_text,
    resolve_model,
)
from internvideo_hf.cli.reporting import (
    attempt,
    print_json,
    remark_on_scripts,
    remarks,
    report_failures,
    say,
    show_progress,
    silence_transformers,
)
from internvideo_hf.utils.names import printable
from internvideo_hf.utils.pretrained import load_pretrained


def zero_shot(
    videos: Videos,
    model: Annotated[str, typer.Option(help="Converted model folder or Hub repository id.")],
    labels: Annotated[
        str | None, typer.Option(help='Comma-separated labels: "a dog, a cat"; or a .txt file, one a line.')
    ] = None,
    labels_file: Annotated[
        Path | None, typer.Option(help="Text file with one label per line, instead of --labels.")
    ] = None,
    template: Annotated[
        str | None, typer.Option(help='Sentence around each label (default: "A video of {}.").')
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help='Published set of several sentences per label: "kinetics" or "viclip".')
    ] = None,
    top_k: TopK = 5,
    num_clips: Annotated[int, typer.Option(min=1, help="Clips per video; their scores are averaged.")] = 1,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Classify videos with labels of your choice.

    Example: internvideo zero-shot clip.mp4 --model internvideo-mm-l14 --labels "a dog runs, a car stops"
    """
    candidates = _labels(labels, labels_file)
    if template is not None and prompts is not None:
        raise ValueError("Give --template or --prompts, not both.")
    options = {"hypothesis_template": template, "prompts": prompts}
    named, model = _named(videos, quiet), resolve_model(model, DUAL_ENCODER)
    remark_on_scripts(candidates)
    silence_transformers()
    from transformers import AutoModel, AutoProcessor, pipeline

    from internvideo_hf.models.common.loading import load_strict

    answer = pipeline(  # type: ignore[call-overload]  # the stub knows transformers' own tasks only
        "zero-shot-video-classification",
        model=load_strict(AutoModel, model),
        processor=load_pretrained(AutoProcessor, model),
        device=parse_device(device),
        candidate_labels=candidates,
        top_k=top_k,
        num_clips=num_clips,
        **{name: value for name, value in options.items() if value is not None},
    )
    answer.embed_labels()  # whose mistakes are none of a video's
    _answer_each([video for video, _ in named], answer, as_json, quiet)


def _named(sources: list[str], quiet: bool) -> list[tuple[str, str]]:
    """Return the videos of files, folders and lists, each with its name; one that cannot be read fails alone."""
    from internvideo_hf.data.folders import name_videos

    return name_videos(sources, on_left_out=remarks(quiet), keep_empty=True)


def _labels(labels: str | None, file: Path | None) -> list[str]:
    """Return the labels of --labels, a list or the name of a file, or of --labels-file."""
    if labels is not None and file is None:
        is_file = Path(labels).suffix == ".txt" and Path(labels).is_file()
        option, entries = "--labels", read_text(Path(labels)).splitlines() if is_file else labels.split(",")
    elif file is not None and labels is None:
        option, entries = "--labels-file", read_text(file).splitlines()
    else:
        raise ValueError("Give the labels by --labels or by --labels-file, one of the two.")
    names = [entry.strip() for entry in entries if entry.strip()]
    if not names:
        raise ValueError(
            f'{option} is empty, expected at least one label, such as --labels "a dog runs, a car stops".'
        )
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{option} has {', '.join(repeated)} twice; give each label once.")
    return names


def classify(
    videos: Videos,
    model: Annotated[str, typer.Option(help="Converted classifier folder or Hub repository id.")],
    views: Annotated[
        str | None,
        typer.Option(help="Clips x crops per video, such as 1x1, averaged (default: those of the released test)."),
    ] = None,
    merge: Annotated[str, typer.Option(help='Averaged over views: "prob", or "score" for logits.')] = "prob",
    top_k: TopK = 5,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Classify videos with the classes of a fine-tuned model.

    Example: internvideo classify clip.mp4 --model vit-b-k400 --views 5x3
    """
    clips_and_crops = _parse_views(views)
    named, model = _named(videos, quiet), resolve_model(model, CLASSIFIER)
    silence_transformers()
    from transformers import AutoModelForVideoClassification, AutoVideoProcessor, pipeline

    from internvideo_hf.models.common.loading import check_classifier, load_strict

    check_classifier(model)
    answer = pipeline(  # type: ignore[call-overload]  # the stub knows transformers' own tasks only
        "multi-view-video-classification",
        model=load_strict(AutoModelForVideoClassification, model),
        video_processor=load_pretrained(AutoVideoProcessor, model),
        device=parse_device(device),
        merge=merge,
        top_k=top_k,
        **clips_and_crops,
    )
    _answer_each([video for video, _ in named], answer, as_json, quiet)


def _parse_views(text: str | None) -> dict[str, int]:
    """Parse --views, such as `5x3`, into processor options."""
    if text is None:
        return {}
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise ValueError(f"--views {text}: expected clips x crops, such as 5x3.")
    return {"num_clips": int(match[1]), "num_crops": int(match[2])}


def _answer_each(
    videos: list[str], pipeline: Callable[[str], list[dict[str, Any]]], as_json: bool, quiet: bool
) -> None:
    """Print a pipeline's answer for each readable video, and list the others at the end."""
    from tqdm import tqdm

    answers: list[dict[str, Any]] = []
    failures: list[str] = []
    for video in tqdm(videos, desc="Classifying", unit="video", disable=quiet or len(videos) == 1):
        results = attempt(pipeline, video, failures)
        if results is None:
            answers.append({"video": video, "error": failures[-1]})
            continue
        answers.append({"video": video, "results": results})
        if not as_json:
            tqdm.write("\n".join(map(printable, [video, *map(_line, results)])))
    if as_json:
        print_json(answers)
    report_failures(failures, len(videos))


def _line(result: dict[str, Any]) -> str:
    cosine = f"  (cosine {result['similarity']:.3f})" if "similarity" in result else ""
    return f"  {result['score']:6.1%}  {result['label']}{cosine}"


def extract(
    videos: Videos,
    model: Annotated[str, typer.Option(help="Converted model folder or Hub repository id.")],
    out: Annotated[Path, typer.Option(help="Folder for NAME.safetensors and NAME.json of each video.")],
    window: Annotated[int, typer.Option(min=1, help="Frames per window.")] = 16,
    stride: Annotated[int, typer.Option(min=1, help="Frames between window starts.")] = 4,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows per forward pass.")] = 8,
    max_memory: Annotated[float, typer.Option(help="The most gigabytes of frames to hold at once.")] = 8.0,
    npy: Annotated[bool, typer.Option("--npy", help="Also write NAME.npy, for numpy.load.")] = False,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Extract sliding-window features of long videos, decoding each frame once.

    NAME is the file name of a video, or its path below the named folder, as in features/match.mp4.safetensors.
    It holds one tensor, `features`, a row per window: in Python, `safetensors.numpy.load_file(PATH)["features"]`, or
    with --npy `numpy.load(PATH)`. NAME.json holds fps, stride and `seconds`, the begin and end of each row.

    Resumable: rerun the same command after an interruption.

    Example: internvideo extract match.mp4 --model vit-h --window 16 --stride 4 --out features
    """
    named = _named(videos, quiet)
    names = [name for _, name in named]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"Several videos are called {', '.join(sorted(doubled))}: extract them to different folders.")
    model = resolve_model(model)
    check_folder(out)
    silence_transformers()
    from tqdm import tqdm

    from internvideo_hf import FeatureExtractor
    from internvideo_hf.inference.features import extract_to_file

    extractor = FeatureExtractor(model, window, stride, batch_size, parse_device(device), max_memory)
    out.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    for video, name in named:
        path = out / f"{name}.safetensors"
        with tqdm(desc=printable(name), unit="row", disable=quiet) as bar:
            run = partial(extract_to_file, extractor, path=path, as_npy=npy, on_rows=partial(show_progress, bar))
            new = attempt(run, video, failures)
        if new is not None and not quiet:
            say(printable(path) + ("" if new else " (already existed)"))
    report_failures(failures, len(named))


def reconstruct(
    video: Annotated[str, typer.Argument(help="Video file, folder of frames, or http(s) URL.")],
    model: Annotated[str, typer.Option(help="Converted folder of a pretrained VideoMAE, or Hub repository id.")],
    out: Annotated[Path, typer.Option(help="Image to write, such as grid.png.")],
    mask: Annotated[str, typer.Option(help="Masking: tube, random, running_cell, ...")] = "tube",
    mask_ratio: Annotated[float, typer.Option(help="Ratio of masked tubelets, above 0 and below 1.")] = 0.9,
    columns: Annotated[int, typer.Option(min=1, help="Frames to draw.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the mask.")] = 0,
    device: Device = None,
) -> None:
    """Draw a video as it is, masked, and reconstructed by a masked autoencoder.

    Example: internvideo reconstruct clip.mp4 --model vit-h-pretrained --out grid.png
    """
    model = resolve_model(model, AUTOENCODER)
    silence_transformers()
    from internvideo_hf.utils.pictures import check_picture, save_picture

    check_picture(out)
    from internvideo_hf.inference.reconstruction import reconstruct

    picture = reconstruct(video, model, mask, mask_ratio, columns, seed, device=parse_device(device))
    save_picture(picture, out)
    say(f"Wrote {out}: original, masked and reconstructed frames.")
