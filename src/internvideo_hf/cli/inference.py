"""Commands that run a model on videos: `zero-shot`, `classify`, `extract`, `reconstruct`."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internvideo_hf.cli.completion import model_names
from internvideo_hf.cli.lines import (
    Dataset,
    Lines,
    Workers,
    answer_set_of,
    check_dataset,
    check_no_source,
    load_pipeline,
    pipeline_question,
    write_dataset,
    write_list,
)
from internvideo_hf.cli.options import (
    ANY_MODEL_HELP,
    AUTOENCODER_HELP,
    CLASSIFIER_HELP,
    MODEL_HELP,
    OR_STORED_OUTPUT,
    SAVED,
    Address,
    AsJson,
    BatchSize,
    Device,
    Dtype,
    EngineName,
    Gpus,
    Quiet,
    Retry,
    TopK,
    Videos,
    VideoTimeout,
    check_folder,
    engine_of,
    has_limit,
    parse_device,
    parse_dtype,
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
from internvideo_hf.inference.kinds import AUTOENCODER, CLASSIFIER, DUAL_ENCODER
from internvideo_hf.utils.names import printable
from internvideo_hf.utils.pretrained import MOST_VIEWS
from internvideo_hf.utils.storage import as_path

if TYPE_CHECKING:
    from internvideo_hf.data.executors.parts import Engine
    from internvideo_hf.inference.answer_sets import AnswerSet
    from internvideo_hf.inference.extraction import Extraction
    from internvideo_hf.utils.storage import AnyPath


def zero_shot(
    videos: Videos,
    model: Annotated[str, typer.Option(help=MODEL_HELP, autocompletion=model_names)],
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
    num_clips: Annotated[
        int, typer.Option(min=1, max=MOST_VIEWS, help="Clips per video; their scores are averaged.")
    ] = 1,
    batch_size: BatchSize = 8,
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
    """Classify videos with labels of your choice.

    Example: internvideo zero-shot clip.mp4 --model internvideo-mm-l14 --labels "a dog runs, a car stops"

    Example: internvideo zero-shot clips --model internvideo-mm-l14 --labels labels.txt --out answers.jsonl --gpus 8
    """
    workers = Workers(engine, address, gpus, video_timeout, device, retry)
    workers.check(out, {"--json": as_json})
    check_dataset(dataset)
    candidates = _labels(labels, labels_file)
    if template is not None and prompts is not None:
        raise ValueError("Give --template or --prompts, not both.")
    options = {"hypothesis_template": template, "prompts": prompts}
    number_type = parse_dtype(dtype, device, model)
    named, model = named_videos(videos, quiet), resolve_model(model, DUAL_ENCODER)
    remark_on_scripts(candidates)
    given: dict[str, Any] = {
        "candidate_labels": candidates,
        "top_k": top_k,
        "max_views": batch_size,
        "num_clips": num_clips,
    }
    given |= {name: value for name, value in options.items() if value is not None}
    kind = ("zero-shot-video-classification", "AutoModel", model)
    answer_set = answer_set_of(dataset, model, candidates, {**given, "dtype": dtype}, ("similarity",))
    if out is not None:
        asked, listed = pipeline_question(*kind, number_type, given), [video for video, _ in named]
        write_list(out, listed, asked, workers, quiet=quiet, description="Classifying", dataset=answer_set)
        return
    answer = load_pipeline(*kind, device, number_type, **given)
    answer.embed_labels()  # whose mistakes are none of a video's
    answer_each([video for video, _ in named], answer, as_json, quiet, dataset=answer_set)


def named_videos(sources: list[str], quiet: bool) -> list[tuple[str, str]]:
    """Return the videos of files, folders and lists, each with its name; one that cannot be read fails alone."""
    from internvideo_hf.data.folders import name_videos

    return name_videos(sources, on_left_out=remarks(quiet), keep_empty=True)


def _labels(labels: str | None, file: Path | None) -> list[str]:
    """Return the labels of --labels, a list or the name of a file, or of --labels-file."""
    if labels is not None and file is None:
        is_file = Path(labels).suffix == ".txt" and "," not in labels
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
    model: Annotated[str, typer.Option(help=CLASSIFIER_HELP, autocompletion=model_names)],
    views: Annotated[
        str | None,
        typer.Option(help="Clips x crops per video, such as 1x1, averaged (default: those of the released test)."),
    ] = None,
    merge: Annotated[str, typer.Option(help='Averaged over views: "prob", or "score" for logits.')] = "prob",
    open_set: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help='Answer "unknown" where a video shows none of the classes, by what `internvideo calibrate` wrote: '
            "its --out, or the model's folder if it was left out.",
        ),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write a table, a line for each answer to a video.")] = None,
    top_k: TopK = 5,
    batch_size: BatchSize = 8,
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
    """Classify videos with the classes of a fine-tuned model.

    A classifier always names a class. With --open-set it may also answer "unknown": that answer comes first where the
    video is less known than the threshold allows, with the percentage of known videos that are better known, and last
    otherwise.

    Example: internvideo classify clip.mp4 --model vit-b-k400 --views 5x3

    Example: internvideo classify clips --model run/final --open-set run/final --csv answers.csv

    Example: internvideo classify videos.csv --model vit-b-k400 --out answers.jsonl --engine ray --address auto

    Example: internvideo classify data/test-*.parquet --model vit-b-k400 --dataset answers
    """
    workers = Workers(engine, address, gpus, video_timeout, device, retry)
    workers.check(out, {"--json": as_json, "--csv": csv})
    check_dataset(dataset)
    clips_and_crops, number_type = parse_views(views), parse_dtype(dtype, device, model)
    if csv is not None:
        from internvideo_hf.utils.files import check_output_file

        check_output_file(csv)
    named, model = named_videos(videos, quiet), resolve_model(model, CLASSIFIER)
    silence_transformers()
    from internvideo_hf.models.common.loading import check_classifier, classes_of

    classes = [*classes_of(check_classifier(model)), *(() if open_set is None else ("unknown",))]
    options: dict[str, Any] = {"merge": merge, "max_views": batch_size, "top_k": top_k, **clips_and_crops}
    options |= {} if open_set is None else {"open_set": open_set}
    kind = ("multi-view-video-classification", "AutoModelForVideoClassification", model)
    numbers = () if open_set is None else ("uncertainty", "threshold")
    answer_set = answer_set_of(dataset, model, classes, {**options, "dtype": dtype}, numbers)
    if out is not None:
        scorer = [] if open_set is None else [*Path(open_set).glob("open_set.*"), *Path(open_set).glob("*/open_set.*")]
        asked = pipeline_question(
            *kind,
            number_type,
            options,
            processor="video_processor",
            files=sorted(scorer),
            decodes_apart=open_set is None,
        )
        listed = [video for video, _ in named]
        write_list(out, listed, asked, workers, quiet=quiet, description="Classifying", dataset=answer_set)
        return
    answer = load_pipeline(*kind, device, number_type, processor="video_processor", **options)
    estimates = answer.model.config.problem_type == "regression"
    listed = [video for video, _ in named]
    answer_each(listed, answer, as_json, quiet, csv=csv, estimates=estimates, dataset=answer_set)


def parse_views(text: str | None) -> dict[str, int]:
    """Parse --views, such as `5x3`, into processor options."""
    if text is None:
        return {}
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise ValueError(f"--views {text}: expected clips x crops, such as 5x3.")
    clips, crops = int(match[1]), int(match[2])
    if max(clips, crops) > MOST_VIEWS:
        raise ValueError(f"--views {text}: expected at most {MOST_VIEWS} clips and crops.")
    return {"num_clips": clips, "num_crops": crops}


def answer_each(
    videos: list[str],
    pipeline: Callable[[str], list[dict[str, Any]]],
    as_json: bool,
    quiet: bool,
    description: str = "Classifying",
    failed: Sequence[str] = (),
    csv: Path | None = None,
    estimates: bool = False,
    dataset: "AnswerSet | None" = None,
) -> None:
    """Print a pipeline's answer for each readable video, and list the others, and what failed before, at the end.

    Args:
        videos: files or addresses.
        pipeline: answers for one.
        as_json: print one JSON document.
        quiet: no progress bar.
        description: of the progress bar.
        failed: messages about what failed before.
        csv: table of all answers to write; None for none.
        estimates: the scores are numbers of any size, not probabilities.
        dataset: of all answers to write; None for none.
    """
    from tqdm import tqdm

    answers: list[dict[str, Any]] = []
    failures = list(failed)
    for video in tqdm(videos, desc=description, unit="video", disable=quiet or len(videos) == 1):
        results = attempt(pipeline, video, failures)
        if results is None:
            answers.append({"video": video, "error": failures[-1]})
            continue
        answers.append({"video": video, "results": results})
        if not as_json:
            lines = [line for result in results for line in _lines(result, estimates)]
            tqdm.write("\n".join(map(printable, [video, *lines])))
    if csv is not None:
        _write_answers(csv, answers)
    if dataset is not None:
        write_dataset(dataset, answers, quiet)
    if as_json:
        print_json(answers)
    report_failures(failures, len(videos) + len(failed))


def _write_answers(path: Path, answers: list[dict[str, Any]]) -> None:
    """Write a table, atomically: a line for each answer to a video, or for why it failed."""
    from internvideo_hf.utils.files import atomic_write, write_table

    rows = [
        {"video": answer["video"], "rank": rank, **result}
        for answer in answers
        for rank, result in enumerate(answer.get("results", [{"error": answer.get("error")}]), 1)
    ]
    names = ("video", "rank", "label", "score", "uncertainty", "threshold", "error")
    used = [name for name in names if any(name in row for row in rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda file: write_table(file, [{name: row.get(name) for name in used} for row in rows]))


def _lines(result: dict[str, Any], estimates: bool = False) -> list[str]:
    if "generated_text" in result:
        return [f"  {result['generated_text']}"]
    if "question" in result:
        return [f"  {result['question']}", *(line for answer in result["answers"] for line in _lines(answer))]
    if "threshold" in result:  # its percentage is none of a class
        verdict = "unknown" if result["uncertainty"] > result["threshold"] else "known"
        numbers = f"uncertainty {result['uncertainty']:.4g}, threshold {result['threshold']:.4g}"
        return [f"  {verdict}: {result['score']:.1%} of the known videos are better known ({numbers})"]
    cosine = f"  (cosine {result['similarity']:.3f})" if "similarity" in result else ""
    score = f"{result['score']:10.4g}" if estimates else f"{result['score']:6.1%}"
    return [f"  {score}  {result.get('label', result.get('answer'))}{cosine}"]


def extract(
    videos: Videos,
    model: Annotated[str, typer.Option(help=ANY_MODEL_HELP, autocompletion=model_names)],
    out: Annotated[
        Path, typer.Option(help=f"Folder for NAME.safetensors and NAME.json of each video; {OR_STORED_OUTPUT}.")
    ],
    window: Annotated[str, typer.Option(help='Length of a window: frames, or seconds such as "2s".')] = "16",
    stride: Annotated[str, typer.Option(help="From one window's start to the next: frames, or seconds.")] = "4",
    fps: Annotated[
        float | None,
        typer.Option(help="Frames a second to sample (default: all; --window in seconds: what fills the model's)."),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(help="Layer whose tokens are pooled: 1 the first, -1 the last (default: the model's result)."),
    ] = None,
    pooling: Annotated[
        str,
        typer.Option(
            help='How the tokens of a window become its row: "auto" as the head of the model does, "mean" of all, '
            '"attention" where the model has it, or "tokens" for all of them.'
        ),
    ] = "auto",
    max_memory: Annotated[float, typer.Option(min=0.001, help="The most gigabytes of frames to hold at once.")] = 8.0,
    npy: Annotated[bool, typer.Option("--npy", help="Also write NAME.npy, for numpy.load.")] = False,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="Also write NAME.parquet: start, end and features of each row.")
    ] = False,
    gaps: Annotated[
        bool,
        typer.Option(
            "--gaps",
            help="Give NaN for windows with a damaged frame, and name the stretches in NAME.json, as localize does "
            "(default: the video fails).",
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace features in OUT that are of other settings, or of another video of that name."
        ),
    ] = False,
    engine: EngineName = "local",
    address: Address = None,
    gpus: Gpus = None,
    video_timeout: VideoTimeout = None,
    retry: Retry = False,
    batch_size: BatchSize = 8,
    dtype: Dtype = SAVED,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Extract sliding-window features of long videos, decoding each frame once.

    NAME is the file name of a video, or its path below the named folder or list, as in
    features/match.mp4.safetensors; of equal names, behind the folders that tell them apart. The file holds one tensor,
    `features`, a row per window: in Python, `safetensors.numpy.load_file(PATH)["features"]`, or with --npy
    `numpy.load(PATH)`. NAME.json holds fps, stride and `seconds`, the begin and end of each row.

    MODEL may also be a video encoder of transformers: VideoMAE, V-JEPA 2, VideoPrism, TimeSformer, ViViT, ...

    Resumable: rerun the same command after an interruption. With --gpus, --engine ray or --video-timeout, models and
    decoders run in processes of their own, and a video that kills one is a failure. Failures are rows of
    failures.jsonl in OUT.

    Example: internvideo extract match.mp4 --model vit-h --window 16 --stride 4 --out features

    Example: internvideo extract talk.mp4 --model facebook/vjepa2-vitl-fpc64-256 --window 4s --stride 2s --out features
    """
    number_type, named = parse_dtype(dtype, device, model), unique_videos(videos, quiet)
    model = resolve_model(model, any_family=True)
    if engine == "ray" and os.path.isdir(model):
        model = os.path.abspath(model)
    folder = as_path(out)
    check_folder(folder)
    from internvideo_hf.data.folders import check_some_exist

    check_some_exist([video for video, _ in named])
    silence_transformers()
    from tqdm import tqdm

    from internvideo_hf.data.failures import FailureTable
    from internvideo_hf.inference.extraction import Extraction
    from internvideo_hf.inference.features import FeatureExtractor, FeatureOptions, extract_to_file

    options: FeatureOptions = {"fps": fps, "layer": layer, "pooling": pooling}
    workers = engine_of(engine, address, gpus, None, device, apart=has_limit(video_timeout))
    where = parse_device(device) if workers is None else "cpu"  # the models are elsewhere
    extractor = FeatureExtractor(model, window, stride, batch_size, where, max_memory, number_type, **options)
    folder.mkdir(parents=True, exist_ok=True)
    if not quiet and (remark := extractor.rounding(window, stride)):
        say(remark, err=True)
    if workers is not None:
        known = {"window": window, "stride": stride, "batch_size": batch_size, "max_memory": max_memory}
        _extract_on_engine(
            named,
            folder,
            Extraction(
                {"model": model, **known, "dtype": number_type, **options},
                extractor.settings.revision,
                {"as_npy": npy, "as_parquet": parquet, "gaps": gaps, "overwrite": overwrite},
            ),
            workers,
            timeout=video_timeout,
            is_remote=engine == "ray",
            retry=retry,
            quiet=quiet,
        )
        return
    with FailureTable(folder / "failures.jsonl", "extract", retry=retry) as table:
        rest, held = table.divide(video for video, _ in named)
        failures, names = list(map(str, held.values())), dict(named)
        for video in rest:
            path = folder / f"{names[video]}.safetensors"
            with tqdm(desc=printable(names[video]), unit="row", disable=quiet) as bar:
                run = partial(extract_to_file, extractor, path=path, as_npy=npy, on_rows=partial(show_progress, bar))
                run = partial(run, overwrite=overwrite, as_parquet=parquet, gaps=gaps)
                new = attempt(run, video, failures, on_failed=table.add)
            if new is not None and not quiet:
                say(printable(path) + ("" if new else " (already existed)"))
    report_failures(failures, len(named))


def _extract_on_engine(
    named: list[tuple[str, str]],
    out: "AnyPath",
    settings: "Extraction",
    workers: "Engine",
    *,
    timeout: float | None,
    is_remote: bool,
    retry: bool,
    quiet: bool,
) -> None:
    """Extract features by several workers, those of other machines by absolute paths."""
    from tqdm import tqdm

    from internvideo_hf.data.failures import FailureTable
    from internvideo_hf.inference.extraction import Target, extract_on_engine
    from internvideo_hf.video.errors import VideoDecodeError
    from internvideo_hf.video.sources import is_url

    folder = out.absolute() if is_remote else out
    names = [os.path.abspath(video) if is_remote and not is_url(video) else video for video, _ in named]
    paths = {video: folder / f"{name}.safetensors" for video, (_, name) in zip(names, named, strict=True)}
    with (
        FailureTable(out / "failures.jsonl", "extract", retry=retry) as table,
        tqdm(total=len(paths), desc="Extracting", unit="video", disable=quiet) as bar,
    ):
        rest, held = table.divide(paths)
        failures = list(map(str, held.values()))
        bar.update(len(held))
        targets = [Target(video, paths[video]) for video in rest]
        for target, result in extract_on_engine(targets, settings, workers, timeout):
            bar.update()
            if isinstance(result, VideoDecodeError):
                table.add(result, target.video)
                failures.append(str(result))
            elif not quiet:
                bar.write(printable(target.path) + ("" if result else " (already existed)"))
    report_failures(failures, len(paths))


def reconstruct(
    videos: Videos,
    model: Annotated[str, typer.Option(help=AUTOENCODER_HELP, autocompletion=model_names)],
    out: Annotated[Path, typer.Option(help="Image to write, such as grid.png; of several videos a folder, NAME.png.")],
    mask: Annotated[str, typer.Option(help="Masking: tube, random, running_cell, ...")] = "tube",
    mask_ratio: Annotated[float, typer.Option(help="Ratio of masked tubelets, above 0 and below 1.")] = 0.9,
    columns: Annotated[int, typer.Option(min=1, help="Frames to draw.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the mask.")] = 0,
    batch_size: BatchSize = 8,
    dtype: Dtype = SAVED,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Draw a video as it is, masked, and reconstructed by a masked autoencoder.

    Example: internvideo reconstruct clip.mp4 --model vit-h-pretrained --out grid.png

    Example: internvideo reconstruct clips --model vit-h-pretrained --out grids
    """
    number_type, named = parse_dtype(dtype, device, model), unique_videos(videos, quiet)
    model = resolve_model(model, AUTOENCODER)
    pictures = output_files(out, videos, named, ".png")
    silence_transformers()
    from tqdm import tqdm

    from internvideo_hf.inference.reconstruction import Reconstructor
    from internvideo_hf.utils.pictures import save_picture

    drawer = Reconstructor(model, mask, mask_ratio, columns, seed, parse_device(device), number_type)
    failures: list[str] = []
    with tqdm(total=len(named), desc="Drawing", unit="video", disable=quiet or len(named) == 1) as bar:
        for first in range(0, len(named), batch_size):
            batch = range(first, min(first + batch_size, len(named)))
            clips = {place: attempt(drawer.read, named[place][0], failures) for place in batch}
            read = {place: clip for place, clip in clips.items() if clip is not None}
            for place, picture in zip(read, drawer.draw(list(read.values())), strict=True):
                save_picture(picture, pictures[place])
            bar.update(len(batch))
    if not quiet and len(failures) < len(named):
        say(f"Wrote {out}: original, masked and reconstructed frames.")
    report_failures(failures, len(named))


def unique_videos(sources: list[str], quiet: bool) -> list[tuple[str, str]]:
    """Return each video once, with a name for its output that no other one has."""
    from internvideo_hf.data import folders

    return folders.unique_videos(named_videos(sources, quiet))


def output_files(
    out: Path, sources: list[str], named: list[tuple[str, str]], suffix: str, option: str = "--out"
) -> list[Path]:
    """Return the file of each video: the option's own of one video, else files in it; refuse what cannot be written.

    Args:
        out: value of the option.
        sources: videos as the user has named them.
        named: videos with their names, from `unique_videos`.
        suffix: of the files, ".png" for any picture.
        option: its name.
    """
    from internvideo_hf.utils.files import check_output_file
    from internvideo_hf.utils.names import check_name
    from internvideo_hf.utils.pictures import PICTURES

    endings, kind = (PICTURES, "image") if suffix == ".png" else ((suffix,), "file")
    if [video for video, _ in named] == sources[:1]:
        check_name(out.suffix.lower(), endings, f"ending of {out}")
        check_output_file(out)
        check_no_source([out], sources[:1], option)
        return [out]
    if out.suffix.lower() in endings:
        raise ValueError(
            f"{option} {out} is one {kind}, and there are {len(named)} videos. Give the name of a folder."
        )
    check_folder(out, option)
    files = [out / f"{name}{suffix}" for _, name in named]
    check_no_source(files, [video for video, _ in named], option)
    return files


Writer = tuple[str, dict[str, Path]]
"""Suffix of an output -> its file for each video."""


def writers_of(
    sources: list[str], named: list[tuple[str, str]], wanted: Mapping[str, tuple[str, Path | None]]
) -> list[Writer]:
    """Return the outputs that are wanted, with the file of each video; refuse what cannot be written.

    Args:
        sources: videos as the user has named them.
        named: videos with their names, from `unique_videos`.
        wanted: option -> suffix of its files, and its value.
    """
    videos = [video for video, _ in named]
    return [
        (suffix, dict(zip(videos, output_files(out, sources, named, suffix, option), strict=True)))
        for option, (suffix, out) in wanted.items()
        if out is not None
    ]
