"""Commands on data sets of clips: `dataset build`, and `div`, `flt`, `aes`, `training-list` on records."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from internvideo_hf.cli.options import (
    OR_STORED,
    OR_STORED_OUTPUT,
    SAVED,
    Address,
    DataRoot,
    Device,
    Dtype,
    EngineName,
    Gpus,
    Jobs,
    Quiet,
    VideoTimeout,
    check_folder,
    engine_of,
    has_limit,
    parse_device,
    parse_dtype,
    resolve_model,
    runs_models,
    worker_count,
)
from internvideo_hf.cli.reporting import PARTIAL, REFUSED, say, silence_transformers
from internvideo_hf.inference.kinds import DUAL_ENCODER
from internvideo_hf.utils.storage import AnyPath, StoragePath, as_path

if TYPE_CHECKING:
    from internvideo_hf.curation.build import BuildReport
    from internvideo_hf.data.subsets import ScoreCut, SubsetReport

HELP = """Build and select data sets of clips and captions.

Records are rows of a table (jsonl, json, csv, parquet) with YoutubeID, Start_timestamp, End_timestamp, Caption,
Aesthetic_Score, UMT_Score, as the public tables of InternVid have them, or with video and caption. Columns may be
missing where nothing needs them, and all are copied.

Example: internvideo dataset div internvid.jsonl --count 10000 --out div.jsonl
"""
Records = Annotated[list[Path], typer.Argument(help="Tables of records (jsonl, json, csv, parquet), in their order.")]
Out = Annotated[
    Path, typer.Option(help="File for the chosen records: .jsonl, .json or .parquet; appears when it is complete.")
]
Count = Annotated[
    int | None, typer.Option(min=1, help="Draw this many of what is left, as `div` does (default: all).")
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the draw; 42 in the released script.")]
Fraction = Annotated[float | None, typer.Option(help="Keep this fraction, with the highest scores.")]
MinScore = Annotated[float | None, typer.Option(help="Keep scores from this one on, instead of --fraction.")]
Score = Annotated[str | None, typer.Option(help="Column of the score, if it has another name.")]
MinSeconds = Annotated[float, typer.Option(min=0, help="Drop shorter clips.")]
Languages = Annotated[
    list[str] | None,
    typer.Option("--language", help="Keep records of this language, by the column Language; may be repeated."),
]

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="LIST...",
        help="Tables of InternVid, other lists of videos, video files, folders of videos, or http(s) URLs; "
        f"{OR_STORED}.",
    ),
]
Folder = Annotated[
    Path, typer.Option(help=f"Folder for the data set, {OR_STORED_OUTPUT}. Resumable: rerun the same command.")
]
Until = Annotated[str, typer.Option(help="Last step: plan, download, shots, clips, captions or scores.")]
Detector = Annotated[
    str,
    typer.Option(help="Shots: content, adaptive, histogram or hash of PySceneDetect, or fixed for equal parts."),
]
Threshold = Annotated[
    float | None,
    typer.Option(help="Of the detector (default: content 27, adaptive 3, histogram 0.2, hash 0.35)."),
]
Window = Annotated[float, typer.Option(help="Seconds of a clip of --detector fixed.")]
MaxSeconds = Annotated[float, typer.Option(help="Drop longer clips.")]
Cut = Annotated[
    str,
    typer.Option(help="exact encodes the frames of a clip again; keyframe copies them, from the keyframe before."),
]
ShortSide = Annotated[int, typer.Option(min=16, help="Pixels of the shorter side, of exact cuts.")]
CaptionModel = Annotated[
    str | None,
    typer.Option(help="Model for clips without a caption: of image-text-to-text, or an InternVideo-MM."),
]
Summarizer = Annotated[
    str | None,
    typer.Option(help="Model of text-generation: makes one text of the captions of --frames frames."),
]
Frames = Annotated[int, typer.Option(min=2, help="Frames of a clip for --summarizer.")]
SimilarityModel = Annotated[
    str | None, typer.Option(help="Model of video and text for the score Similarity: how well a caption fits.")
]
Clip = Annotated[str | None, typer.Option(help="CLIP of transformers for --aesthetic-head.")]
Head = Annotated[
    Path | None, typer.Option(help="LAION's aesthetic head for the score Aesthetic_Score (.pth, .safetensors).")
]
Height = Annotated[int, typer.Option(min=1, help="Downloads: the most pixels from top to bottom.")]
Downloads = Annotated[int, typer.Option(min=1, help="Downloads at a time; servers refuse those who hurry.")]
Pause = Annotated[float, typer.Option(min=0, help="Seconds before each download.")]


def div(
    records: Records,
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="Clips to draw; 10647458 in the released InternVid-10M-DIV.")],
    seed: Seed = 42,
    by: Annotated[
        str | None,
        typer.Option(help="Column of clips that belong together, such as a channel (default: the source video)."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Draw clips so that no source video crowds out the rest.

    A clip is drawn with a weight of 1 / clips of its source video, without replacement, by the draws of the released
    script: the same table, count and seed give the same records in the same order. The source is YoutubeID, or else
    the first 11 characters of the file name of video.

    Memory: about 100 bytes per record; a .json table is held whole.

    Example: internvideo dataset div internvid.jsonl --count 10647458 --out internvid-10m-div.jsonl
    """
    from internvideo_hf.data.subsets import div_subset

    _report(
        _with_bar(quiet, lambda on_record: div_subset(records, out, count, seed=seed, by=by, on_record=on_record)),
        out,
        quiet,
    )


def flt(
    records: Records,
    out: Out,
    fraction: Fraction = None,
    min_score: MinScore = None,
    score: Score = None,
    min_seconds: MinSeconds = 1.0,
    max_seconds: MaxSeconds = 120.0,
    language: Languages = None,
    count: Count = None,
    seed: Seed = 42,
    quiet: Quiet = False,
) -> None:
    """Keep the clips whose captions fit them best.

    As the maintainers describe InternVid-10M-FLT: clips shorter than 1 s or longer than 120 s are dropped, of the rest
    the 30 % with the highest score stay, and 10 million are drawn as by `div`. They name two scores: CLIP's on one
    frame, and UMT's, which the public tables have. The column is UMT_Score, UMT_Sim or Similarity, or that of --score.

    Memory: about 50 bytes per record, 80 with --count; a .json table is held whole.

    Example: internvideo dataset flt internvid.jsonl --out flt.jsonl

    Example: internvideo dataset flt internvid.jsonl --min-score 0.4 --count 10000000 --out internvid-10m-flt.jsonl
    """
    from internvideo_hf.data.subsets import ScoreCut

    if fraction is None and min_score is None:
        fraction = 0.3
    languages = None if language is None else tuple(language)
    cut = ScoreCut(score, ("umt_score", "similarity"), fraction, min_score, min_seconds, max_seconds, languages)
    _cut(records, out, cut, count, seed, quiet)


def aes(
    records: Records,
    out: Out,
    fraction: Fraction = None,
    min_score: MinScore = None,
    score: Score = None,
    min_seconds: MinSeconds = 0.0,
    language: Languages = None,
    count: Count = None,
    seed: Seed = 42,
    quiet: Quiet = False,
) -> None:
    """Keep the clips of the highest aesthetic score.

    Give --fraction or --min-score: the threshold of the released InternVid-Aesthetics-18M is not published. The column
    is Aesthetic_Score, or that of --score.

    Memory: about 50 bytes per record, 80 with --count; a .json table is held whole.

    Example: internvideo dataset aes internvid.jsonl --fraction 0.08 --out aes.jsonl

    Example: internvideo dataset aes internvid.parquet --min-score 5 --out aes.parquet
    """
    from internvideo_hf.data.subsets import ScoreCut

    languages = None if language is None else tuple(language)
    cut = ScoreCut(score, ("aesthetic_score",), fraction, min_score, min_seconds, languages=languages)
    _cut(records, out, cut, count, seed, quiet)


def training_list(
    records: Annotated[Path, typer.Argument(help="Table of records (jsonl, json, csv, parquet).")],
    data_root: Annotated[Path, typer.Option(help="Folder of the clips or videos.")],
    out: Out,
    file_name: Annotated[
        str | None,
        typer.Option(
            help="How a file is called, columns in braces, such as {YoutubeID}_{Start_timestamp}.mp4, a clip that is "
            "cut already (default: the column video, or {YoutubeID}.mp4, the whole video).",
        ),
    ] = None,
    language: Languages = None,
    quiet: Quiet = False,
) -> None:
    """Write the list that training takes, of clips that are there.

    Records without a file are counted and left out. A video that is not cut is listed with the start and the end of
    the clip. The recipes of ViCLIP also take the public table itself, with data.layout=internvid.

    Example: internvideo dataset training-list flt.jsonl --data-root videos --language en --out train.jsonl
    """
    from tqdm import tqdm

    from internvideo_hf.data.internvid import training_rows
    from internvideo_hf.data.record_files import write_records

    rows = training_rows(records, data_root, file_name=file_name, languages=language, skip_missing=True)
    with tqdm(rows, desc="Listing", unit=" clips", disable=quiet) as bar:
        count = write_records(out, bar)
    if not quiet:
        say(f"Wrote {count:,} rows to {out}; train on it with data.train={out.name} data.layout=null.")


def build(
    sources: Sources,
    out: Folder,
    data_root: DataRoot = None,
    until: Until = "scores",
    detector: Detector = "content",
    threshold: Threshold = None,
    window: Window = 10.0,
    min_seconds: MinSeconds = 1.0,
    max_seconds: MaxSeconds = 120.0,
    cut: Cut = "exact",
    short_side: ShortSide = 320,
    captioner: CaptionModel = None,
    summarizer: Summarizer = None,
    frames: Frames = 8,
    similarity: SimilarityModel = None,
    clip: Clip = None,
    aesthetic_head: Head = None,
    height: Height = 720,
    downloads: Downloads = 1,
    pause: Pause = 1.0,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what has failed before.")] = False,
    jobs: Jobs = None,
    engine: EngineName = "local",
    address: Address = None,
    gpus: Gpus = None,
    video_timeout: VideoTimeout = None,
    dtype: Dtype = SAVED,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Build a data set: clips, captions, scores, a data card.

    Videos are found below --data-root (by their YouTube id, for tables of InternVid) or downloaded, if yt-dlp is
    installed; divided into shots, unless the table has times; cut; described, unless the table has captions; and
    scored. What fails, such as a video that is gone, is a row in failures/, and costs nothing else.

    --out then has records.jsonl (as InternVid's tables, for `dataset flt` and the others), train.jsonl (for `train`),
    clips/, and README.md, the data card: counts of each stage, causes of failures, histograms. --until plan only says
    what would be downloaded. Settings may change from call to call: what depends on them is done again.

    With --gpus, --engine ray or --video-timeout, captions and scores are made by workers, each with a model; a cluster
    also divides and cuts. The files are the same, byte for byte.

    Example: internvideo dataset build videos --out mine --captioner Salesforce/blip2-opt-2.7b

    Example: internvideo dataset build internvid.jsonl --out mine --data-root videos --until clips --cut keyframe
    """
    from internvideo_hf.curation.build import BuildSettings, build_dataset
    from internvideo_hf.curation.captions import CaptionSettings
    from internvideo_hf.curation.shots import ShotSettings
    from internvideo_hf.data.transcoding import TranscodeSettings

    if (clip is None) != (aesthetic_head is None):
        raise ValueError("Give --clip and --aesthetic-head, or neither.")
    if captioner is None and summarizer is not None:
        raise ValueError("--summarizer needs --captioner, which describes the frames.")
    place = as_path(out)
    if isinstance(place, StoragePath) and engine == "ray":
        raise ValueError(
            f"--out {place}: a cluster builds on a disk that its machines share. Build there, and copy it."
        )
    check_folder(place)
    silence_transformers()
    settings = BuildSettings(
        until=until,
        height=height,
        pause=pause,
        downloads=downloads,
        shots=ShotSettings(detector, threshold, window, min_seconds=min_seconds, max_seconds=max_seconds),
        cut=cut,
        encoding=TranscodeSettings(short_side),
        captions=None if captioner is None else CaptionSettings(_found(captioner), _found(summarizer), frames),
        similarity=None if similarity is None else _found(resolve_model(similarity, DUAL_ENCODER)),
        aesthetics=None if clip is None or aesthetic_head is None else (_found(clip), aesthetic_head.absolute()),
        device=parse_device(device),
        dtype=parse_dtype(dtype, device),
    )
    where = engine_of(engine, address, gpus, jobs, device, apart=has_limit(video_timeout))
    report = build_dataset(
        sources,
        place if where is None else place.absolute(),
        settings,
        data_root=data_root,
        jobs=worker_count(jobs, os.cpu_count() or 1),
        engine=where,
        timeout=video_timeout,
        retry=retry,
        bar=_bars(quiet),
    )
    _report_build(report, place, quiet)


COMMANDS: tuple[Callable[..., None], ...] = (runs_models(build), div, flt, aes, training_list)


def _cut(records: list[Path], out: Path, cut: "ScoreCut", count: int | None, seed: int, quiet: bool) -> None:
    from internvideo_hf.data.subsets import score_subset

    report = _with_bar(
        quiet, lambda on_record: score_subset(records, out, cut, count=count, seed=seed, on_record=on_record)
    )
    _report(report, out, quiet)


def _found(model: str | None) -> Any:
    """Return a model by its absolute path, if it is a folder: workers begin elsewhere."""
    return os.path.abspath(model) if model is not None and os.path.isdir(model) else model


def _bars(quiet: bool) -> "Callable[[str, int], AbstractContextManager[Callable[[int], object]]]":
    from tqdm import tqdm

    @contextmanager
    def bar(name: str, total: int) -> Iterator[Callable[[int], object]]:
        with tqdm(total=total, desc=name.capitalize(), unit=" rows", disable=quiet) as shown:
            yield shown.update

    return bar


def _report_build(report: "BuildReport", out: AnyPath, quiet: bool) -> None:
    if not quiet:
        say(f"The plan: {', '.join(f'{count:,} {name}' for name, count in report.plan.items())}.")
        for stage in report.stages[1:]:
            say(f"  {stage.name}: {stage.rows_in:,} in, {stage.rows_out:,} out, {stage.failures:,} failed")
        written = "" if report.records is None else f" {report.records:,} clips, {report.trainable:,} with a caption."
        say(f"{out / 'README.md'} is the data card.{written}")
    failed = sum(stage.failures for stage in report.stages)
    if failed:
        say(f"{failed:,} failed; see {out / 'failures'}.", err=True)
        raise typer.Exit(PARTIAL if report.stages[-1].rows_out else REFUSED)


def _with_bar(quiet: bool, work: "Callable[[Callable[[], object]], SubsetReport]") -> "SubsetReport":
    from tqdm import tqdm

    with tqdm(desc="Reading twice", unit=" records", unit_scale=True, disable=quiet) as bar:
        return work(bar.update)


def _report(report: "SubsetReport", out: Path, quiet: bool) -> None:
    if report.unsure and not quiet:
        say(
            f"{report.unsure:,} of {report.read:,} file names do not begin with the 11 characters of a YouTube id, so "
            "clips of different videos may count as one source. Add a column YoutubeID, or use --by of `div`.",
            err=True,
        )
    if quiet:
        return
    dropped = ", ".join(f"{count:,} {cause}" for cause, count in report.dropped.items() if count)
    threshold = "" if report.threshold is None else f"; lowest {report.score} {report.threshold:.4g}"
    sources = "" if report.sources is None else f" of {report.sources:,} videos"
    say(
        f"Wrote {report.kept:,} of {report.read:,} records{sources} to {out}{threshold}"
        f"{f' (left out: {dropped})' if dropped else ''}."
    )
