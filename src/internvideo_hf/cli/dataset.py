"""Commands on records of InternVid: `dataset div`, `flt`, `aes`, `training-list`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from internvideo_hf.cli.options import Quiet
from internvideo_hf.cli.reporting import say

if TYPE_CHECKING:
    from internvideo_hf.data.subsets import ScoreCut, SubsetReport

HELP = """Select and list clips with captions, as of InternVid.

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
    max_seconds: Annotated[float, typer.Option(help="Drop longer clips.")] = 120.0,
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
    cut = ScoreCut(score, ("umt_score", "similarity"), fraction, min_score, min_seconds, max_seconds)
    _cut(records, out, cut, count, seed, quiet)


def aes(
    records: Records,
    out: Out,
    fraction: Fraction = None,
    min_score: MinScore = None,
    score: Score = None,
    min_seconds: MinSeconds = 0.0,
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

    _cut(records, out, ScoreCut(score, ("aesthetic_score",), fraction, min_score, min_seconds), count, seed, quiet)


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


COMMANDS: tuple[Callable[..., None], ...] = (div, flt, aes, training_list)


def _cut(records: list[Path], out: Path, cut: "ScoreCut", count: int | None, seed: int, quiet: bool) -> None:
    from internvideo_hf.data.subsets import score_subset

    report = _with_bar(
        quiet, lambda on_record: score_subset(records, out, cut, count=count, seed=seed, on_record=on_record)
    )
    _report(report, out, quiet)


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
