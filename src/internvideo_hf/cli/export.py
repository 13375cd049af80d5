"""The command that exports a model for other runtimes: `export`."""

from pathlib import Path
from typing import Annotated

import typer

from internvideo_hf.cli.completion import model_names
from internvideo_hf.cli.inference import named_videos
from internvideo_hf.cli.options import MODEL_HELP, Quiet, resolve_model
from internvideo_hf.cli.reporting import say, silence_transformers


def export(
    model: Annotated[str, typer.Argument(help=MODEL_HELP, autocompletion=model_names)],
    out: Annotated[Path, typer.Argument(help="Folder to write; it appears only when complete.")],
    format: Annotated[  # noqa: A002  # the option's name
        str, typer.Option(help='"onnx", for onnxruntime, "openvino", or "pt2", of torch.export, for other programs.')
    ] = "onnx",
    dtype: Annotated[
        str,
        typer.Option(
            help='Number type of the weights: "float32"; "float16"; "bfloat16" for openvino and pt2; "int8" (of the '
            "video tower, see --calibrate) for onnx and openvino."
        ),
    ] = "float32",
    calibrate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIST",
            help="int8: video, folder of videos or list, on which the ranges of activations are measured; may be "
            "repeated. Take about 100 of the kind that the model will see.",
        ),
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="List of videos with labels (classifiers) or captions (models of video and text), or a folder of "
            "clips by class: report top-1 or R@1, in torch and after the export.",
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Frames of a clip (default: the processor's).")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, max=4096, help="Height and width in pixels (default: the processor's)."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it holds a model.")] = False,
    quiet: Quiet = False,
) -> None:
    """Export a model for runtimes other than torch, on the CPU.

    Classifiers, encoders, models of video and text or of captions, and ActionFormers are exported. OUT is a model's
    folder for every command that runs such a model, with processor and labels: `classify`, `zero-shot`, `index`,
    `extract`, `evaluate`, `caption`, `localize`. Batches are of any size; the size of frames is fixed, and so is their
    number in models that have an embedding for each (VideoMAE, ViCLIP). Each output is compared with torch's on drawn
    clips, and OUT is not written where it differs by more than rounding. No command takes OUT of pt2, since opening
    such files runs code that they hold.

    Example: internvideo export vit-b-k400 vit-b-k400-onnx --format onnx

    Example: internvideo export vit-b-k400 vit-b-k400-int8 --dtype int8 --calibrate train.csv --evaluate val.csv
    """
    silence_transformers()
    from internvideo_hf.export.run import Settings, export_model

    videos = [video for video, _ in named_videos(calibrate, quiet)] if calibrate else []
    settings = Settings(format, dtype, frames, size, tuple(videos), evaluate)
    manifest = export_model(
        resolve_model(model), out, settings, overwrite=overwrite, say=(lambda text: None) if quiet else say
    )
    if quiet:
        return
    for name, found in manifest.agreement.items():
        say(f"  {name}: cosine {found.cosine:.6f}, largest difference {found.difference:.2g} of {found.scale:.2g}")
    for name, score in manifest.scores.items():
        say(f"  {name} of {score.videos:,} videos: {score.after:.1f} %, in torch {score.before:.1f} %")
    total = sum(int(entry["bytes"]) for entry in manifest.files.values())
    say(f"Wrote {out}: {', '.join(manifest.functions)} as {manifest.format}, {manifest.dtype}, {total / 1e6:,.1f} MB.")
