"""The program `internvideo`, also `python -m internvideo_hf.cli`.

Exit codes: 0 done, 1 done in part (the failures are listed last), 2 refused (bad arguments, bad file).
Nothing here imports torch before a command needs it, so that `--help` answers at once.
"""

import contextlib
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

DONE, DONE_IN_PART, REFUSED = 0, 1, 2

app = typer.Typer(
    name="internvideo",
    help="The InternVideo family of video foundation models, native in Hugging Face transformers.",
    epilog="Exit codes: 0 done, 1 done in part (failures listed last), 2 refused (bad arguments or a bad file).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars and no remarks.")]


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A released file (.ckpt, .pth, .bin, .safetensors).")],
    output: Annotated[Path, typer.Argument(help="The folder to write; it appears whole or not at all.")],
    config: Annotated[
        Path | None,
        typer.Option(help="JSON file with configuration values that no shape tells, nested as in config.json."),
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="Data set of the head's classes, such as k400; a K710 head gives it too.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(help='"transformers-videomae": a folder for transformers\' own VideoMAE classes.')
    ] = None,
    processor: Annotated[
        str | None, typer.Option(help='ViCLIP: whose pixels the processor makes, "training" or "demo".')
    ] = None,
    dtype: Annotated[str, typer.Option(help="Number type to store: float32, float16 or bfloat16.")] = "float32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT if it is there.")] = False,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Run the code that the file may hold. Only for files you trust.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Convert a released checkpoint into a folder that from_pretrained loads.

    Family and sizes are recognised from the tensors; every tensor is used or named as left out.

    Example: internvideo convert InternVideo-MM-L-14.ckpt internvideo-mm-l14
    """
    overrides = _read_json(config) if config is not None else {}
    _quieten_transformers()
    from internvideo_hf.checkpoints import convert_checkpoint

    report = convert_checkpoint(
        checkpoint,
        output,
        config_overrides=overrides,
        head=head,
        to=to,
        processor=processor,
        dtype=dtype,
        trust_pickle=trust_pickle,
        overwrite=overwrite,
    )
    if quiet:
        return
    typer.echo(f"{checkpoint}: recognised as {report.family}.")
    if report.head is not None:
        typer.echo(f"Its classes are those of {report.head}.")
    elif report.num_labels is not None:
        typer.echo(f"Its {report.num_labels} classes keep their numbers for names: {_heads(report.num_labels)}.")
    for name, reason in report.left_out.items():
        typer.echo(f"left out  {name}  ({reason})")
    typer.echo(
        f"Wrote {report.num_tensors} tensors ({report.num_parameters:,} parameters, {dtype}) to {output}; "
        f"{len(report.left_out)} tensors of the file were left out."
    )


@app.command()
def merge(
    base: Annotated[Path, typer.Argument(help="The folder of the model as it was before training.")],
    finetuned: Annotated[list[Path], typer.Argument(help="The folder of the trained model; of several, their mean.")],
    out: Annotated[Path, typer.Option(help="The folder to write; it appears whole or not at all.")],
    weight: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of BASE.")] = 0.5,
    variant: Annotated[
        str | None,
        typer.Option(help='Which tensors are averaged: "internvideo_mm", "retrieval", "viclip"; the family\'s own.'),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Average a model with what it became by training (WiSE-FT), as the released evaluations do.

    Example: internvideo merge viclip-from-clip viclip-trained --weight 0.5 --out viclip-merged
    """
    _quieten_transformers()
    from internvideo_hf.checkpoints import merge_checkpoints
    from internvideo_hf.demo.weights import resolve_demo_name

    averaged = merge_checkpoints(
        resolve_demo_name(base),
        [resolve_demo_name(folder) for folder in finetuned],
        out,
        weight=weight,
        variant=variant,
        overwrite=overwrite,
    )
    if not quiet:
        typer.echo(f"Wrote the average of {averaged} tensors to {out}; the others are those of {finetuned[0]}.")


@app.command()
def fuse(
    internvideo_mae: Annotated[str, typer.Argument(help="The folder of a VideoMAE classifier.")],
    uniformerv2: Annotated[str, typer.Argument(help="The folder of a UniFormerV2 classifier of the same classes.")],
    out: Annotated[Path, typer.Option(help="The folder to write; it appears whole or not at all.")],
    adapters_only: Annotated[
        bool, typer.Option("--adapters-only", help="Refer to the two folders, and leave out what is frozen.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Make one model of two classifiers, which attend to each other once they are trained to (InternVideo's CMA).

    At first its score is the mean of both, and `internvideo train internvideo/cma_k400 --start-from OUT` trains it.
    Frames, sizes and statistics stay those of each.

    Example: internvideo fuse vit-h-k400 uniformerv2-l-k400 --out internvideo-k400
    """
    internvideo_mae, uniformerv2 = _known_model(internvideo_mae), _known_model(uniformerv2)
    _quieten_transformers()
    from internvideo_hf.checkpoints import fuse_encoders

    model = fuse_encoders(internvideo_mae, uniformerv2, out, adapters_only=adapters_only, overwrite=overwrite)
    if not quiet:
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        exchanges = ", ".join(map(str, model.config.exchange_layers))
        typer.echo(
            f"Wrote {out}: {model.config.num_labels} classes, exchanges behind the layers {exchanges} of the masked "
            f"encoder; {trained:,} of {model.num_parameters():,} parameters are to be trained."
        )


@app.command("zero-shot")
def zero_shot(
    videos: Annotated[list[str], typer.Argument(help="Video files, folders of frames, or http(s) addresses.")],
    model: Annotated[str, typer.Option(help="A converted model folder, or its name on the Hub.")],
    labels: Annotated[str | None, typer.Option(help='The labels to choose from: "a dog, a cat".')] = None,
    labels_file: Annotated[Path | None, typer.Option(help="A text file with one label a line, instead.")] = None,
    template: Annotated[
        str | None, typer.Option(help='The sentence around a label; "A video of {}." by default.')
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help='Several sentences around each label: "kinetics", or "viclip", as published.')
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Labels to show for each video.")] = 5,
    num_clips: Annotated[int, typer.Option(min=1, help="Clips taken from each video; scores are averaged.")] = 1,
    device: Annotated[str | None, typer.Option(help='Such as "cuda", "cpu"; the accelerator if there is one.')] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quiet: Quiet = False,
) -> None:
    """Choose labels for videos, with labels that you name now.

    Example: internvideo zero-shot clip.mp4 --model internvideo-mm-l14 --labels "a dog runs, a car stops"
    """
    if (labels is None) == (labels_file is None):
        raise ValueError("Give the labels by --labels or by --labels-file, one of the two.")
    if labels_file is not None:
        candidates = [line.strip() for line in _read_text(labels_file).splitlines() if line.strip()]
    else:
        candidates = [label.strip() for label in labels.split(",") if label.strip()]
    options = {"hypothesis_template": template, "prompts": prompts}
    model = _known_model(model)
    _quieten_transformers()
    from transformers import AutoModel, AutoProcessor, pipeline

    from internvideo_hf.models.common.loading import load_strict

    answer = pipeline(
        "zero-shot-video-classification",
        model=load_strict(AutoModel, model),
        processor=AutoProcessor.from_pretrained(model),
        device=_device(device),
        candidate_labels=candidates,
        top_k=top_k,
        num_clips=num_clips,
        **{name: value for name, value in options.items() if value is not None},
    )
    _answer_each(videos, answer, as_json, quiet)


@app.command()
def classify(
    videos: Annotated[list[str], typer.Argument(help="Video files, folders of frames, or http(s) addresses.")],
    model: Annotated[str, typer.Option(help="The folder of a converted classifier, or its name on the Hub.")],
    views: Annotated[
        str | None, typer.Option(help="Clips x crops of each video, such as 5x3, whose scores are averaged.")
    ] = None,
    merge: Annotated[str, typer.Option(help='What is averaged over views: "prob", or "score" for logits.')] = "prob",
    top_k: Annotated[int, typer.Option(min=1, help="Labels to show for each video.")] = 5,
    device: Annotated[str | None, typer.Option(help='Such as "cuda", "cpu"; the accelerator if there is one.')] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quiet: Quiet = False,
) -> None:
    """Name the class of videos, among those that a fine-tuned model knows.

    Example: internvideo classify clip.mp4 --model vit-b-k400 --views 5x3
    """
    clips_and_crops = _views(views)
    model = _known_model(model)
    _quieten_transformers()
    from transformers import AutoModelForVideoClassification, AutoVideoProcessor, pipeline

    from internvideo_hf.models.common.loading import load_strict

    answer = pipeline(
        "multi-view-video-classification",
        model=load_strict(AutoModelForVideoClassification, model),
        video_processor=AutoVideoProcessor.from_pretrained(model),
        device=_device(device),
        merge=merge,
        top_k=top_k,
        **clips_and_crops,
    )
    _answer_each(videos, answer, as_json, quiet)


@app.command()
def extract(
    videos: Annotated[list[str], typer.Argument(help="Video files, folders of frames, or http(s) addresses.")],
    model: Annotated[str, typer.Option(help="The folder of a converted model, or its name on the Hub.")],
    out: Annotated[Path, typer.Option(help="The folder for NAME.safetensors and NAME.json of each video.")],
    window: Annotated[int, typer.Option(min=1, help="Frames of a window.")] = 16,
    stride: Annotated[int, typer.Option(min=1, help="Frames from one window's start to the next one's.")] = 4,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows that go through the model at once.")] = 8,
    npy: Annotated[bool, typer.Option("--npy", help="Write NAME.npy besides.")] = False,
    device: Annotated[str | None, typer.Option(help='Such as "cuda", "cpu"; the accelerator if there is one.')] = None,
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
    model = _known_model(model)
    _quieten_transformers()
    from tqdm import tqdm

    from internvideo_hf import FeatureExtractor, VideoDecodeError
    from internvideo_hf.inference.features import extract_to_file

    extractor = FeatureExtractor(model, window, stride, batch_size, _device(device))
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
    _report_failures(failures, len(videos))


@app.command()
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
    model = _known_model(model)
    _quieten_transformers()
    from internvideo_hf.inference.reconstruction import reconstruct
    from internvideo_hf.utils.pictures import check_picture, save_picture

    check_picture(out)
    save_picture(reconstruct(video, model, mask=mask, mask_ratio=mask_ratio, columns=columns, seed=seed), out)
    typer.echo(f"Wrote {out}: original, masked and reconstructed frames.")


@app.command()
def scan(
    videos: Annotated[list[str], typer.Argument(help="Lists of videos (csv, json, ...), files, folders, addresses.")],
    data_root: Annotated[Path | None, typer.Option(help="The folder that relative paths of lists begin in.")] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Decode every frame, not only the first, middle and last.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="A JSON file for the bad ones, such as bad.json.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; one for each core by default.")] = None,
    quiet: Quiet = False,
) -> None:
    """Find missing and damaged videos before a training does.

    Exit code 1 where some are bad, 2 where all are.

    Example: internvideo scan train.csv --data-root kinetics400 --out bad.json
    """
    from tqdm import tqdm

    from internvideo_hf.data.executors.processes import find_videos
    from internvideo_hf.data.verification import scan, write_report

    found = find_videos(videos, data_root)
    with tqdm(total=len(found), desc="Scanning", unit="video", disable=quiet) as bar:
        bad = scan(found, jobs=_jobs(jobs, len(found)), whole=whole, on_done=bar.update)
    if out is not None:
        write_report(out, len(found), bad)
    if not quiet:
        typer.echo(f"{len(found) - len(bad)} of {len(found)} videos can be read.")
    _report_failures([str(error) for error in bad], len(found))


@app.command()
def shrink(
    videos: Annotated[list[str], typer.Argument(help="Lists of videos (csv, json, ...), files, folders.")],
    out: Annotated[Path, typer.Option(help="The folder for the small videos; their paths below it stay.")],
    data_root: Annotated[Path | None, typer.Option(help="The folder that relative paths of lists begin in.")] = None,
    short_side: Annotated[int, typer.Option(min=16, help="Pixels of the shorter side; nothing is enlarged.")] = 320,
    keyframe_interval: Annotated[int, typer.Option(min=1, help="Frames from a keyframe to the next.")] = 12,
    quality: Annotated[int, typer.Option(min=0, max=51, help="x264's rate factor: less is better and larger.")] = 23,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; one for each core by default.")] = None,
    quiet: Quiet = False,
) -> None:
    """Encode videos anew for training: small, quick to reach at any frame, without sound.

    What was done is kept: run the same command again after a kill. All files end in .mp4 (H.264).

    Example: internvideo shrink train.csv --data-root kinetics400 --out kinetics400-320
    """
    from tqdm import tqdm

    from internvideo_hf.data.executors.processes import find_videos
    from internvideo_hf.data.transcoding import ShrinkSettings, shrink, targets_of

    settings = ShrinkSettings(short_side, keyframe_interval, quality)
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file. Give the name of a folder.")
    targets = targets_of(find_videos(videos, data_root), out, data_root)
    with tqdm(total=len(targets), desc="Shrinking", unit="video", disable=quiet) as bar:
        already, failures = shrink(targets, settings, jobs=_jobs(jobs, len(targets)), on_done=bar.update)
    if not quiet:
        new = len(targets) - already - len(failures)
        typer.echo(f"Wrote {new} videos to {out}; {already} were there already.")
    _report_failures(failures, len(targets))


@app.command()
def index(
    videos: Annotated[list[str], typer.Argument(help="Folders, video files, addresses, lists of videos.")],
    out: Annotated[Path, typer.Option(help="The folder of the index; one that is there is brought up to date.")],
    model: Annotated[
        str | None, typer.Option(help="A converted model folder, or its name on the Hub; an index knows its own.")
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="Cut videos into windows of so many seconds, such as 8s; whole by default.")
    ] = None,
    stride: Annotated[
        str | None, typer.Option(help="Seconds from a window's start to the next one's; as the window by default.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="How embeddings are kept: float32 (the default), or float16 in half the room.")
    ] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Build an approximate index besides, for a million clips and more.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips that go through the model at once.")] = 8,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that decode; one for each core by default.")
    ] = None,
    device: Annotated[str | None, typer.Option(help='Such as "cuda", "cpu"; the accelerator if there is one.')] = None,
    quiet: Quiet = False,
) -> None:
    """Embed videos, so that `internvideo search` finds them by text, by video or by image.

    Run it again after a kill, or when files came, changed, moved or went: only what changed is embedded. What was
    indexed below a named folder, and is gone, leaves the index; videos elsewhere stay in it. A folder without any
    video is refused, since its disk may be away.

    Example: internvideo index holidays --model internvideo-mm-l14 --out holidays.index --window 8s
    """
    options = {"window": _seconds("--window", window), "stride": _seconds("--stride", stride), "dtype": dtype}
    if model is not None:
        model = _known_model(model)
    _quieten_transformers()
    from tqdm import tqdm

    from internvideo_hf.data.executors.processes import find_videos
    from internvideo_hf.search.index import VideoIndex
    from internvideo_hf.search.nearest import require_faiss

    if approximate:
        require_faiss()
    found = len(find_videos(videos))
    gallery = _open_or_new_index(VideoIndex, out, model, options, _device(device))
    with tqdm(desc="Indexing", unit="video", disable=quiet) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        change = gallery.update(videos, jobs=_jobs(jobs, found), batch_size=batch_size, on_done=show)
    if not quiet:
        counts = {name: len(value) for name, value in vars(change).items() if name != "failures" and value}
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        typer.echo(f"{out}: {len(gallery.videos)} videos in {len(gallery)} clips ({told or 'nothing to do'}).")
    failures = [str(error) for error in change.failures]
    if approximate:
        try:
            gallery.build_approximate()
        except ValueError as error:  # the index itself is there
            failures.append(str(error))
            found += 1
    _report_failures(failures, found)


@app.command()
def search(
    index: Annotated[Path, typer.Argument(help="A folder that `internvideo index` wrote.")],
    text: Annotated[str | None, typer.Argument(help="What the clips should show.")] = None,
    video: Annotated[str | None, typer.Option(help="Find clips like this video, instead.")] = None,
    image: Annotated[str | None, typer.Option(help="Find clips like this image, instead.")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Hits to show.")] = 5,
    per_video: Annotated[int | None, typer.Option(min=1, help="The most hits of one video.")] = None,
    montage: Annotated[Path | None, typer.Option(help="A picture of the hits to write, such as hits.png.")] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Use the approximate index that `index --approximate` built.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="Where the index's model is now, if not where it was.")] = None,
    device: Annotated[str | None, typer.Option(help='Such as "cuda", "cpu"; the accelerator if there is one.')] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Find clips by what they show; says so where nothing matches.

    z tells how far a clip's cosine lies above those of neutral captions with the same clip, in standard deviations.

    Example: internvideo search holidays.index "a dog catches a frisbee" --montage hits.png
    """
    if sum(query is not None for query in (text, video, image)) != 1:
        raise ValueError('Give one query: a text, such as "a dog runs", or --video FILE, or --image FILE.')
    from internvideo_hf.utils.pictures import check_picture, save_picture

    if montage is not None:
        check_picture(montage)
    _quieten_transformers()
    from internvideo_hf.search import hits

    gallery = _open_index(index, model, device)
    found = gallery.search(text, video=video, image=image, top_k=top_k, per_video=per_video, approximate=approximate)
    if montage is not None:
        save_picture(hits.montage(found, title=found.query), montage)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
        return
    if found.matches is False:
        typer.echo(found.verdict)
    for place, hit in enumerate(found, 1):
        mark = "*" if hit.matches else " "
        typer.echo(f"{mark}{place:3}. {hits.scores_line(hit)}  {hit.probability:6.1%}  {hit.time:>13}  {hit.video}")
    if found.matches:
        typer.echo(found.verdict)


@app.command()
def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The folder for the clips and the contact sheet.")] = Path("demo"),
    clips: Annotated[
        int, typer.Option(min=1, max=240, help="Clips to draw, each with something else in it; none with --video.")
    ] = 12,
    seed: Annotated[int, typer.Option(min=1, help="Another seed, other clips.")] = 1,
    video: Annotated[
        list[str] | None,
        typer.Option(help="A video of yours to label instead (file, folder of frames, address); several are allowed."),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(help="A folder that `internvideo index` wrote: open a page to search it, instead of the tour."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="With --index: the address to listen on; 0.0.0.0 shows the videos to the network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="With --index: the port to listen on.")] = 7860,
    model: Annotated[
        str | None, typer.Option(help="With --index: where its model is now, if not where it was.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help='With --index: such as "cuda", "cpu"; the accelerator if there is one.')
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quiet: Quiet = False,
) -> None:
    """Show on a fresh machine what the package does: draw clips, label them, and search them by sentences.

    The two models that it shows come with the package. They are small, were trained on drawn shapes, and know nothing
    else: on videos of the world their answers mean nothing. Released checkpoints do the same by `internvideo convert`,
    `classify`, `zero-shot`, `index` and `search`.

    With --index, a page in the browser searches an index of yours and plays what it finds, and labels clips (needs the
    extra `demo`). It is on this machine only, unless --host says otherwise, and ends with Ctrl-C.

    Example: internvideo demo --out demo

    Example: internvideo demo --index demo.index
    """
    _check_demo_options(context)
    _quieten_transformers()
    if index is not None:
        _show_page(index, model, device, host, port, quiet)
        return
    from tqdm import tqdm

    from internvideo_hf.demo import tour
    from internvideo_hf.utils.pictures import save_picture

    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file. Give the name of a folder.")
    drawn = None
    if not video:
        with tqdm(total=clips, desc="Drawing", unit="clip", disable=quiet) as bar:
            drawn = tour.draw_clips(out, clips, seed, on_done=bar.update)
    videos = video or [str(out / clip.video) for clip in drawn]
    label, labelled, failures = tour.Labeller(), [], []
    for file, clip in tqdm(list(zip(videos, drawn or [None] * len(videos), strict=True)), "Labelling", disable=quiet):
        answer = _attempt(lambda file, clip=clip: label(file, clip), file, failures)
        if answer is not None:
            labelled.append(answer)
    if not labelled:
        _report_failures(failures, len(videos))
    found = [] if drawn is None else tour.search(labelled)
    sheet = out / "contact_sheet.png"
    save_picture(tour.contact_sheet(labelled), sheet)
    if as_json:
        content = {
            "limits": tour.LIMITS,
            "labels": [asdict(entry) for entry in labelled],
            "search": [hits.to_dict() for hits in found],
        }
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        typer.echo(tour.label_table(labelled))
        if found:
            typer.echo(f"\n{tour.search_table(found, labelled)}")
        typer.echo(f"\nWrote {sheet}.\n{tour.LIMITS}")
    _report_failures(failures, len(videos))


@app.command("make-demo-data")
def make_demo_data(
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    clips: Annotated[
        int, typer.Option(min=1, help="Videos to train on; those to evaluate on come besides, 720 from 4000 on.")
    ] = 4000,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other videos.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; one for each core by default.")] = None,
    quiet: Quiet = False,
) -> None:
    """Make a small data set of drawn videos with sentences and labels, to try training with.

    What was done is kept: run the same command again after a kill. OUT/README.md says what is where.

    Example: internvideo make-demo-data shapes --clips 4000
    """
    from tqdm import tqdm

    from internvideo_hf.demo.synthetic import make_data_set, split_sizes

    count = sum(split_sizes(clips).values())
    with tqdm(total=count, desc="Drawing", unit="video", disable=quiet) as bar:
        already = make_data_set(out, clips, seed=seed, jobs=_jobs(jobs, count), on_done=bar.update)
    if not quiet:
        typer.echo(f"Wrote {count - already} videos to {out}; {already} were there already.")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A name that `internvideo recipes` lists, or a .yaml file.")],
    changes: Annotated[
        list[str] | None, typer.Argument(help="Values to change, such as training.learning_rate=1e-4.")
    ] = None,
    data_root: Annotated[
        Path, typer.Option(help="The folder that the recipe's lists, and the paths in them, begin in.")
    ] = Path("."),
    output_dir: Annotated[Path, typer.Option(help="The folder of the run.")] = Path("run"),
    grad_cache: Annotated[
        int | None,
        typer.Option(min=1, help="Pairs that go through a dual encoder at once; the loss still compares the batch."),
    ] = None,
    start_from: Annotated[  # torchrun takes --start-from for one of its own
        str | None,
        typer.Option(help='Weights to start from: a converted folder, CLIP\'s folder or file; "random" for none.'),
    ] = None,
    report_to: Annotated[str, typer.Option(help='Where to report too: "tensorboard", "wandb", ...')] = "none",
    quiet: Quiet = False,
) -> None:
    """Train a model as a recipe says, on one GPU, many, or none.

    On several GPUs: torchrun --nproc-per-node 8 -m internvideo_hf.cli train RECIPE ..., or accelerate launch.
    What was done is kept: run the same command again after a kill, and it goes on to the same weights.

    Example: internvideo train videomae/finetune_base --data-root videos --start-from vit-b-pretrained
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # of every file that is read and written; the Trainer's own stays
    if quiet:
        import datasets

        datasets.disable_progress_bars()
    from internvideo_hf.demo.weights import resolve_demo_name
    from internvideo_hf.training.recipes import load_recipe
    from internvideo_hf.training.run import train

    start = None if start_from is None else resolve_demo_name(start_from)
    changes = [*(changes or []), *([] if grad_cache is None else [f"training.grad_cache={grad_cache}"])]
    loaded = load_recipe(recipe, changes)
    final = train(loaded, data_root, output_dir, start=start, report_to=report_to, quiet=quiet)
    if int(os.environ.get("RANK", 0)) == 0:
        typer.echo(f"The model is in {final}.")


@app.command()
def evaluate(
    protocol: Annotated[str | None, typer.Argument(help="A name that --list shows, or a .yaml file.")] = None,
    changes: Annotated[
        list[str] | None, typer.Argument(help="Values to change, such as processor.num_frames=16.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A converted model folder, or its name on the Hub.")] = None,
    ensemble: Annotated[
        list[str] | None,
        typer.Option(help="A member of an ensemble, once for each: a classifier's folder, or a file of its scores."),
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="A folder that keeps each member's scores, and takes them up again.")
    ] = None,
    data_root: Annotated[
        Path, typer.Option(help="The folder that the protocol's lists begin in, and that holds the videos.")
    ] = Path("."),
    out: Annotated[Path | None, typer.Option(help="A JSON file for the result, such as result.json.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Videos (of ensembles, views) in a model at once.")] = 8,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode; one for each core, 8 at most, by default.")
    ] = None,
    max_damaged: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Share of the videos that may be damaged.")
    ] = 0.01,
    device: Annotated[str | None, typer.Option(help='Such as "cuda", "cpu"; the accelerator if there is one.')] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the protocols.")] = False,
    quiet: Quiet = False,
) -> None:
    """Score a model by a published protocol, and show the published numbers beside.

    Retrieval, zero-shot classification and multiple choice, by one model. Retrieval is scored plain and by dual
    softmax. Damaged videos are listed last and never count as correct.

    With --ensemble, several classifiers, whose probabilities are summed: internvideo_d and internvideo_t as in the
    paper, or any, on data.list=..., with weights=[0.6,0.4], or weights=fitted data.validation=... Without a protocol
    it is "classifiers": your own list, val.csv.

    Example: internvideo evaluate retrieval/msrvtt --model internvideo-mm-merged --data-root msrvtt --out result.json

    Example: internvideo evaluate internvideo_d --ensemble vit-h-k400 --ensemble uniformerv2-l-k400 --data-root k400
    """
    from internvideo_hf.evaluation.protocols import ensemble_names, load_ensemble, load_protocol, protocol_names

    if list_all:
        titles = {name: load_protocol(name).title for name in protocol_names()}
        titles |= {name: load_ensemble(name).title for name in ensemble_names()}
        for name, title in sorted(titles.items()):
            typer.echo(f"{name:32} {title}")
        return
    if ensemble:
        if model is not None:
            raise ValueError("--model is for one model alone; name each member of an ensemble by --ensemble.")
        options = {"batch_size": batch_size, "max_damaged": max_damaged, "device": _device(device), "quiet": quiet}
        _evaluate_ensemble(protocol, changes or [], ensemble, data_root, out, scores, workers, options)
        return
    if scores is not None:
        raise ValueError("--scores keeps the scores of an ensemble's members: name them by --ensemble.")
    if protocol is None or model is None:
        raise ValueError(
            "Give a protocol and --model, or members of an ensemble by --ensemble; `internvideo evaluate --list` "
            "shows the protocols."
        )
    loaded = load_protocol(protocol, changes or [])
    model = _known_model(model)
    _quieten_transformers()
    from internvideo_hf.evaluation.report import table
    from internvideo_hf.evaluation.run import evaluate

    result = evaluate(
        loaded,
        model,
        data_root,
        out,
        name=" ".join([protocol, *(changes or [])]),
        batch_size=batch_size,
        workers=workers,
        device=_device(device),
        max_damaged=max_damaged,
        quiet=quiet,
    )
    typer.echo(table(result))
    _report_failures([entry["cause"] for entry in result["damaged"]], result["data"]["videos"])


def _evaluate_ensemble(
    protocol: str | None,
    changes: list[str],
    members: list[str],
    data_root: Path,
    out: Path | None,
    scores: Path | None,
    workers: int | None,
    options: dict[str, Any],
) -> None:
    from internvideo_hf.evaluation.protocols import load_ensemble

    if protocol is not None and "=" in protocol:  # a change, with the protocol left out
        protocol, changes = None, [protocol, *changes]
    protocol = protocol or "classifiers"
    loaded = load_ensemble(protocol, changes)
    members = [member if Path(member).is_file() else _known_model(member) for member in members]
    _quieten_transformers()
    from internvideo_hf.evaluation.ensemble_run import evaluate_ensemble
    from internvideo_hf.evaluation.report import ensemble_table
    from internvideo_hf.utils.devices import default_workers

    result = evaluate_ensemble(
        loaded,
        members,
        data_root,
        out,
        scores=scores,
        name=" ".join([protocol, *changes]),
        workers=default_workers(workers),
        **options,
    )
    typer.echo(ensemble_table(result))
    _report_failures([entry["cause"] for entry in result["damaged"]], result["data"]["videos"])


@app.command()
def recipes(
    recipe: Annotated[str | None, typer.Argument(help="One of them, to be shown whole.")] = None,
) -> None:
    """List the recipes that `internvideo train` knows, or show one with all that it extends.

    Example: internvideo recipes videomae/finetune_base_k400
    """
    from internvideo_hf.training.recipes import load_recipe, read_recipe, recipe_names

    if recipe is not None:
        import yaml

        load_recipe(recipe)
        typer.echo(yaml.safe_dump(read_recipe(recipe), sort_keys=False, allow_unicode=True).rstrip())
        return
    for name in recipe_names():
        typer.echo(f"{name:45} {load_recipe(name).title}")


@app.command("doctor")
def run_doctor() -> None:
    """Show what really works on this machine: decoders, attention kernels, optional extras.

    Exit code 1 where something broken is needed by the core of the package.
    """
    from internvideo_hf.cli.doctor import examine, table

    checks = examine()
    typer.echo(table(checks))
    broken = [check.name for check in checks if check.needed and not check.works]
    if broken:
        typer.echo(f"The package cannot work here: {', '.join(broken)}.", err=True)
        raise typer.Exit(1)


def _check_demo_options(context: typer.Context) -> None:
    """Refuse options of the tour beside --index, and those of the page without it."""
    of_tour = {"out": "--out", "clips": "--clips", "seed": "--seed", "video": "--video", "as_json": "--json"}
    of_page = {"host": "--host", "port": "--port", "model": "--model", "device": "--device"}
    has_index = context.params["index"] is not None
    for name, option in (of_tour if has_index else of_page).items():
        if context.get_parameter_source(name).name != "COMMANDLINE":
            continue
        if has_index:
            raise ValueError(f"{option} is of the tour, and --index opens a page instead. Leave one of the two out.")
        raise ValueError(f"{option} needs --index, the folder of an index to search.")


def _show_page(index: Path, model: str | None, device: str | None, host: str, port: int, quiet: bool) -> None:
    """Serve the page of an index until Ctrl-C."""
    from internvideo_hf.demo import web

    gallery = _open_index(index, model, device)
    with web.serving(gallery, host, port) as address:
        if not quiet:
            typer.echo(f"{web.about(gallery)}\nOpen {address} in a browser. Ctrl-C ends it.")
        _wait_for_ctrl_c()


def _wait_for_ctrl_c() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _answer_each(
    videos: list[str], pipeline: Callable[[str], list[dict[str, Any]]], as_json: bool, quiet: bool
) -> None:
    """Print a pipeline's answer for each video that can be read, and list the others at the end."""
    from tqdm import tqdm

    answers, failures = [], []
    for video in tqdm(videos, desc="Classifying", unit="video", disable=quiet or len(videos) == 1):
        results = _attempt(pipeline, video, failures)
        if results is None:
            answers.append({"video": video, "error": failures[-1]})
            continue
        answers.append({"video": video, "results": results})
        if not as_json:
            tqdm.write("\n".join([video, *map(_line, results)]))
    if as_json:
        typer.echo(json.dumps(answers, indent=2, ensure_ascii=False, allow_nan=False))
    _report_failures(failures, len(videos))


def _attempt(answer: Callable[[str], Any], video: str, failures: list[str]) -> Any:
    """An answer about a video; None where it cannot be had, with the cause among `failures`.

    One video must not cost the answers for the others, whatever it does to decoder or memory.
    """
    from internvideo_hf import VideoDecodeError

    try:
        return answer(video)
    except VideoDecodeError as error:
        failures.append(str(error))  # names the video
    except (ValueError, RuntimeError, MemoryError) as error:
        failures.append(f"{video}: {error}")
    return None


def _line(result: dict[str, Any]) -> str:
    cosine = f"  (cosine {result['similarity']:.3f})" if "similarity" in result else ""
    return f"  {result['score']:6.1%}  {result['label']}{cosine}"


def _report_failures(failures: list[str], asked: int) -> None:
    """List what failed, last, and leave with the exit code that it means."""
    if not failures:
        return
    typer.echo(f"{len(failures)} of {asked} failed:", err=True)
    for failure in failures:
        typer.echo(f"  {failure}", err=True)
    raise typer.Exit(DONE_IN_PART if len(failures) < asked else REFUSED)


def _jobs(asked: int | None, tasks: int) -> int:
    """One process for each core, but no more than there is work for."""
    return max(1, min(asked or os.cpu_count() or 1, tasks))


def _open_index(folder: Path, model: str | None, device: str | None) -> Any:
    """The index in a folder, after a check that its model is where it was, or where `model` says that it is."""
    from internvideo_hf.demo.weights import resolve_demo_name
    from internvideo_hf.search.index import VideoIndex

    gallery = VideoIndex.load(
        folder, model=None if model is None else resolve_demo_name(model), device=_device(device)
    )
    _check_model_of(folder, gallery)
    return gallery


def _check_model_of(folder: Path, index: Any) -> None:
    try:
        _known_model(index.model)
    except ValueError as error:
        raise ValueError(f"The model of {folder}: {error} --model names where it is now.") from error


def _open_or_new_index(kind: Any, folder: Path, model: str | None, options: dict[str, Any], device: Any) -> Any:
    """The index in a folder, if what is asked suits it, or a new one."""
    if not (folder / "index.json").exists():
        if model is None:
            raise ValueError(f"{folder} holds no index yet. Name the model to make one with, by --model.")
        return kind(model, folder=folder, device=device, **options | {"dtype": options["dtype"] or "float32"})
    index = kind.load(folder, model=model, device=device)
    has = {"window": index.cut.window, "stride": index.cut.stride, "dtype": index.dtype}
    for name, value in options.items():
        if value is not None and value != has[name]:
            made = f"without --{name}" if has[name] is None else f"with --{name} {has[name]}"
            raise ValueError(f"{folder} was made {made}, not {value}. Leave the option out, or make a new index.")
    if model is None:
        _check_model_of(folder, index)
    return index


def _seconds(option: str, text: str | None) -> float | None:
    """`8s`, `0.5` or `2min` in seconds."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(s|sec|m|min)?", text.strip())
    if match is None:
        raise ValueError(f"{option} {text}: expected seconds, such as 8s or 0.5s, or minutes, such as 2min.")
    return float(match[1]) * (60 if (match[2] or "s").startswith("m") else 1)


def _heads(classes: int) -> str:
    """What can be done about classes without names."""
    from internvideo_hf.recipes.labels import LABEL_SETS, load_labels

    fitting = [name for name in LABEL_SETS if len(load_labels(name)) == classes]
    return f"say --head {' or '.join(fitting)}" if fitting else "no list of as many is known"


def _device(name: str | None) -> Any:
    import torch

    try:
        return None if name is None else torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device {name}: {error}") from error


def _views(text: str | None) -> dict[str, int]:
    """`5x3` as the processor's options."""
    if text is None:
        return {}
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise ValueError(f"--views {text}: expected clips x crops, such as 5x3.")
    return {"num_clips": int(match[1]), "num_crops": int(match[2])}


def _known_model(model: str) -> str:
    """The folder or Hub name of a model, after a check that it may be one.

    A mistyped folder is refused at once; transformers would look for it on the Hub, for a minute if that is away.
    """
    from internvideo_hf.demo.weights import DEMO_MODELS, resolve_demo_name

    model = resolve_demo_name(model)
    is_hub_name = model.count("/") == 1 and not model.startswith((".", "/", "~"))
    if not Path(model).is_dir() and not is_hub_name:
        raise ValueError(
            f"{model} is no folder, and no name on the Hub (owner/name). Give the folder that `internvideo convert` "
            f"wrote, or one of {', '.join(DEMO_MODELS)}, which come with the package and know drawn shapes only."
        )
    if Path(model).is_dir():
        from internvideo_hf.auto import FAMILIES

        config = Path(model) / "config.json"
        family = _read_json(config).get("model_type") if config.is_file() else None
        if family is None:
            raise ValueError(f"{model} holds no model: there is no config.json that names one. Convert it again.")
        if family not in FAMILIES:
            raise ValueError(
                f"{model} holds a {family!r} model of other classes than ours ({', '.join(FAMILIES)}). If it comes "
                "from `convert --to transformers-...`, it is meant for transformers' own pipelines."
            )
    return model


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # editors on Windows begin files with a mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8: {error}.") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object of settings, got a {type(content).__name__}.")
    return content


def _quieten_transformers() -> None:
    """Leave the terminal to our own bar: transformers shows several, and remarks that are none of the user's."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def main() -> None:
    """Run the program; a user's mistake ends in one line and exit code 2, never in a traceback.

    `INTERNVIDEO_DEBUG=1` shows the traceback all the same.
    """
    # As on Ctrl-C: what is unfinished is cleared away.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if os.environ.get("INTERNVIDEO_DEBUG"):
        app()
    try:
        app()
    except Exception as error:
        # Some messages of transformers hold a traceback of their own.
        message = str(error).split("Traceback")[0].strip() or type(error).__name__
        if "DataLoader worker process" in message:  # what went wrong there stands at the end
            message = str(error).strip().splitlines()[-1].partition(": ")[2] or message
        plain = isinstance(error, ValueError | OSError | ImportError)
        typer.echo(f"internvideo: {message if plain else f'{type(error).__name__}: {message}'}", err=True)
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
