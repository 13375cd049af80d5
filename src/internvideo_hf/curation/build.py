"""Build a data set of clips with captions and scores: all stages, one after the other, and what comes of them."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from internvideo_hf.checkpoints.model_names import cache_folder
from internvideo_hf.curation.captions import Captions, CaptionSettings
from internvideo_hf.curation.card import write_card
from internvideo_hf.curation.cutting import EXACT, Clips
from internvideo_hf.curation.scores import Aesthetics, Similarity
from internvideo_hf.curation.shots import Shots, ShotSettings
from internvideo_hf.curation.sources import Download, count_plan, write_plan
from internvideo_hf.curation.stages import Row, Stage, StageReport, Table, run_stage
from internvideo_hf.data.executors.parts import Engine
from internvideo_hf.data.internvid import SPELLINGS
from internvideo_hf.data.record_files import write_records
from internvideo_hf.data.transcoding import TranscodeSettings
from internvideo_hf.utils.files import atomic_write_text, remove_leftovers
from internvideo_hf.utils.locks import lock_folder
from internvideo_hf.utils.mirrors import mirrored
from internvideo_hf.utils.names import check_name
from internvideo_hf.utils.storage import AnyPath, StoragePath, as_path

STEPS = ("plan", "download", "shots", "clips", "captions", "scores")
"""Steps at which a build may end."""
RECORDS, TRAINING_LIST = "records.jsonl", "train.jsonl"
_Bar = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]


@dataclass(frozen=True)
class BuildSettings:
    """What is made, and how.

    Args:
        until: the last step, one of `STEPS`.
        height: the most pixels from top to bottom of downloads.
        pause: seconds before each download.
        downloads: downloads at a time.
        shots: how videos are divided, where no table says.
        cut: "exact" or "keyframe", see `cutting`.
        encoding: of exact cuts.
        captions: how clips without a caption are described; None for no descriptions.
        similarity: a model of video and text for `similarity`; None for none.
        aesthetics: a CLIP and the file of a head for `aesthetic_score`; None for none.
        device: where models run; the accelerator if there is one.
        dtype: number type of their weights; as saved if None.

    Raises:
        ValueError: if a name is unknown, or a number is out of range.
    """

    until: str = STEPS[-1]
    height: int = 720
    pause: float = 1.0
    downloads: int = 1
    shots: ShotSettings = field(default_factory=ShotSettings)
    cut: str = EXACT
    encoding: TranscodeSettings = field(default_factory=TranscodeSettings)
    captions: CaptionSettings | None = None
    similarity: str | None = None
    aesthetics: tuple[str, Path] | None = None
    device: Any = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_name(self.until, STEPS, "until (--until)")
        if self.height < 1 or self.pause < 0 or self.downloads < 1:
            raise ValueError(
                f"height={self.height}, pause={self.pause}, downloads={self.downloads}: expected at least 1, 0 and 1"
            )

    def stages(self, folder: Path) -> list[tuple[str, Stage]]:
        """Return the steps and the stages of a build, in their order.

        Args:
            folder: of the build.
        """
        models = {"device": self.device, "dtype": self.dtype}
        stages: list[tuple[str, Stage]] = [
            ("download", Download(folder, self.height, self.pause)),
            ("shots", Shots(folder, self.shots)),
            ("clips", Clips(folder, self.cut, self.encoding)),
        ]
        if self.captions is not None:
            stages.append(("captions", Captions(folder, self.captions, **models)))
        if self.similarity is not None:
            stages.append(("scores", Similarity(folder, self.similarity, **models)))
        if self.aesthetics is not None:
            stages.append(("scores", Aesthetics(folder, *self.aesthetics, **models)))
        last = STEPS.index(self.until)
        return [(step, stage) for step, stage in stages if STEPS.index(step) <= last]


@dataclass(frozen=True)
class BuildReport:
    """What came of a build.

    Attributes:
        plan: counts of the plan, see `sources.count_plan`.
        stages: in their order.
        records: clips in `records.jsonl`; None if none were cut.
        trainable: those of them with a caption, in `train.jsonl`.
    """

    plan: dict[str, int]
    stages: list[StageReport]
    records: int | None
    trainable: int


def _no_bar(name: str, total: int) -> AbstractContextManager[Callable[[int], object]]:
    return nullcontext(lambda count: None)


def build_dataset(
    sources: Sequence[str | Path],
    folder: str | AnyPath,
    settings: BuildSettings,
    *,
    data_root: str | AnyPath | None = None,
    jobs: int = 1,
    engine: Engine | None = None,
    timeout: float | None = None,
    retry: bool = False,
    bar: _Bar = _no_bar,
) -> BuildReport:
    """Build a data set; the same call resumes an interrupted one, and does what has changed again.

    The folder has, each atomic: `records.jsonl` (the layout of the public tables of InternVid, with `video`, the path
    of the clip), `train.jsonl` (video and caption, as training takes it), `README.md` (the data card) and histograms,
    `clips/`, `sources/` (downloads), `stages/` and `failures/` (a row a line, by stage), `build.json` (settings), and
    `parts/`, which only serves to resume.

    Args:
        sources: see `sources.write_plan`.
        folder: for all of it. Of an object store: a copy in the cache of models is worked on, which has to have the
            room, and is pushed to the store after each stage. No workers of other machines then.
        settings: what is made, and how.
        data_root: folder of the videos of tables and lists; also of an object store, as are the sources.
        jobs: processes of stages that run no model.
        engine: runs the models in its workers, and the other stages in their decoders; downloads stay in processes of
            this machine. What is written is the same. Then folder, videos and models are named by absolute paths.
        timeout: seconds after which a video or clip counts as one that hangs its decoder; 3600 by default.
        retry: try again what has failed in an earlier call.
        bar: called with a stage's name and its rows; gives what is called with rows that are done.

    Raises:
        ManifestError: if a list cannot be read.
        ValueError: if there is no video, or a model is of another kind.
        LockedError: if another process builds in the folder.
        DiskFullError: if there is no room.
        ImportError: if a library is missing that a stage needs.
    """
    options: dict[str, Any] = {"data_root": data_root, "jobs": jobs, "engine": engine, "timeout": timeout}
    options |= {"retry": retry, "bar": bar}
    if isinstance(place := as_path(folder), StoragePath):
        with mirrored(place, cache_folder() / "builds") as mirror:
            return _build(sources, mirror.folder, settings, **options, on_stage=mirror.push)
    with lock_folder(place):
        return _build(sources, place, settings, **options)


def _build(
    sources: Sequence[str | Path],
    folder: Path,
    settings: BuildSettings,
    *,
    data_root: str | AnyPath | None,
    jobs: int,
    engine: Engine | None,
    timeout: float | None,
    retry: bool,
    bar: _Bar,
    on_stage: Callable[[], object] = lambda: None,
) -> BuildReport:
    """Build a data set in a folder whose lock this process holds; see `build_dataset`."""
    remove_leftovers(folder)
    table = write_plan(sources, folder / "stages" / "plan.jsonl", data_root)
    plan, reports = count_plan(table), [StageReport("plan", table.rows, table.rows, 0)]
    for step, stage in settings.stages(folder):
        with bar(stage.name, table.rows) as on_rows:
            where: dict[str, Any] = {"jobs": jobs, "engine": engine, "timeout": timeout}
            if step == "download":
                where = {"jobs": settings.downloads}
            table, report = run_stage(stage, table, folder, **where, retry=retry, on_rows=on_rows)
        reports.append(report)
        on_stage()
    known = json.loads(json.dumps(asdict(settings), default=str))
    atomic_write_text(folder / "build.json", json.dumps(known, indent=1, ensure_ascii=False))
    records, trainable = _write_tables(table, folder) if any(r.name == "clips" for r in reports) else (None, 0)
    write_card(folder, table, reports, known, plan)
    return BuildReport(plan, reports, records, trainable)


def _write_tables(table: Table, folder: Path) -> tuple[int, int]:
    records = write_records(folder / RECORDS, map(record_of, table))
    if any(row["caption"] is not None for row in table):
        return records, write_records(folder / TRAINING_LIST, _training_rows(table))
    (folder / TRAINING_LIST).unlink(missing_ok=True)  # of an earlier build with other settings
    return records, 0


def _training_rows(table: Table) -> Iterator[Row]:
    return ({"video": row["clip"], "caption": row["caption"]} for row in table if row["caption"] is not None)


def record_of(row: Row) -> Row:
    """Return a clip as a record of InternVid's public tables, with `video` and what else a table said of it.

    Args:
        row: of the last stage.
    """
    about: Row = {SPELLINGS[name][0] if name in SPELLINGS else name: value for name, value in row["about"].items()}
    scores: Row = {SPELLINGS[name][0]: row[name] for name in ("similarity", "aesthetic_score") if name in row}
    texts: Row = {name: row[name] for name in ("coarse", "fine") if name in row}
    times = {"Start_timestamp": _clock(row["start"]), "End_timestamp": _clock(row["end"])}
    known = {"YoutubeID": row["source"], **times, "Caption": row["caption"]}
    return {**about, **known, **texts, **scores, "video": row["clip"]}


def _clock(seconds: float) -> str:
    """Return seconds as InternVid writes them, such as 00:01:02.500."""
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
