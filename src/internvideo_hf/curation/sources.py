"""The plan of a data set, a row for each source video, and the download of those that are not here."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from internvideo_hf.curation.stages import Outcome, Row, Table, name_of
from internvideo_hf.data.failures import one_video
from internvideo_hf.data.finding import VIDEO_SUFFIXES, VideoTree, list_folder, video_id
from internvideo_hf.data.folders import is_folder
from internvideo_hf.data.internvid import read_internvid
from internvideo_hf.data.manifests import read_manifest
from internvideo_hf.data.record_files import write_records
from internvideo_hf.data.records import MANIFEST_SUFFIXES, ManifestError, read_records
from internvideo_hf.utils.files import atomic_path
from internvideo_hf.utils.fingerprints import text_sha256
from internvideo_hf.utils.locks import lock_file
from internvideo_hf.utils.storage import AnyPath, as_path, download, is_stored
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.sources import is_url

_YOUTUBE = "https://www.youtube.com/watch?v="
_YOUTUBE_ID = re.compile(r"(?:[?&]v=|youtu\.be/|/shorts/)([\w-]{11})(?![\w-])")
_SAFE_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_DOWNLOADS = "sources"  # folder
_TIMEOUT = 3000  # seconds of one download; less than those of a row
_LONGEST = 300  # characters of a cause
_NAME_KEPT = 40  # characters of a name in an id that is made of it


def write_plan(sources: Sequence[str | Path], path: Path, data_root: str | AnyPath | None = None) -> Table:
    """Write the plan: a row for each source video, with the clips that a table wants of it.

    A row has `source` (an id that is fit for file names), `video` (path of the file, None if it is to be downloaded),
    `url`, `bytes` and `modified` of a file, and `segments`: clips with `start`, `end`, `caption` and the other columns
    of the table in `about`; None for whole videos, which are divided into shots.

    Memory: the segments of all records, about 700 bytes each.

    Args:
        sources: video files, folders of videos, addresses, tables of InternVid (whose videos are looked for below
            `data_root` by their ids), and other lists of videos.
        path: file to write, atomically.
        data_root: folder of the videos of tables and lists; of a list, its own folder where None.

    Raises:
        ManifestError: if a list cannot be read, or an id is none.
        ValueError: if there is no video.
    """
    found: dict[str, Row] = {}
    for source in sources:
        for row in _rows_of(source, data_root):
            known = found.setdefault(row["source"], row)
            if known is row:
                continue
            if _place(known) != _place(row):  # two files of one name
                row["source"] = f"{row['source'][:_NAME_KEPT]}_{text_sha256(_place(row))[:8]}"
                known = found.setdefault(row["source"], row)
            if known is not row and known["segments"] is not None:
                known["segments"] += row["segments"] or []
    if not found:
        raise ValueError(f"{', '.join(map(str, sources))}: there is no video. Name videos, folders or lists.")
    path.parent.mkdir(parents=True, exist_ok=True)
    return Table(path, write_records(path, found.values()))


def _place(row: Row) -> str:
    return str(row["video"] or row["url"])


def _rows_of(source: str | Path, data_root: str | AnyPath | None) -> Iterator[Row]:
    place = as_path(source)
    if is_url(str(source)) and not is_stored(str(source)):
        yield _row(None, str(source), None)
    elif is_folder(str(place)):
        yield from (_row_of(video, None) for video in list_folder(place).videos)
    elif place.suffix.lower() not in MANIFEST_SUFFIXES:
        yield _row_of(str(place), None)
    elif "YoutubeID" in next(read_records(place))[1]:
        yield from _rows_of_table(place, data_root)
    else:
        for row in read_manifest(source, data_root, check_files=False, check_labels=False, allow_duplicates=True):
            times = row["start"] is not None
            segments = [_segment(row, {})] if times else None
            yield _row_of(row["video"], segments)


def _row_of(video: str, segments: list[Row] | None) -> Row:
    """Return the row of a file, or of an address, which is downloaded."""
    return _row(None, video, segments) if is_url(video) else _row(video, None, segments)


def _rows_of_table(path: AnyPath, data_root: str | AnyPath | None) -> Iterator[Row]:
    tree = VideoTree(data_root) if data_root is not None else None
    for number, row in enumerate(read_internvid(str(path)), 1):
        name = str(row.get("youtube_id"))
        if not _SAFE_ID.fullmatch(name):
            raise ManifestError(str(path), f"record {number}", f"the YoutubeID is {name!r}", "Correct it.")
        below = None if tree is None else tree.find([name])
        about = {key: value for key, value in row.items() if key not in ("youtube_id", "start", "end", "caption")}
        segments = None if row.get("start") is None or row.get("end") is None else [_segment(row, about)]
        video = None if below is None or data_root is None else str(as_path(data_root) / below)
        is_here = video is not None and not is_url(video)
        yield _row(video if is_here else None, None if is_here else video or f"{_YOUTUBE}{name}", segments, name)


def _segment(row: Mapping[str, Any], about: Row) -> Row:
    return {"start": row["start"], "end": row["end"], "caption": row.get("caption"), "about": about}


def _row(video: str | None, url: str | None, segments: list[Row] | None, name: str | None = None) -> Row:
    if video is not None:
        video = os.path.abspath(video)
    row: Row = {"source": name or _id_of(video, url), "video": video, "url": url, "segments": segments}
    if video is not None and os.path.isfile(video):
        stat = os.stat(video)
        row |= {"bytes": stat.st_size, "modified": stat.st_mtime_ns}
    return row


def _id_of(video: str | None, url: str | None) -> str:
    """Return the YouTube id of an address, or the name of a file; with a hash of the whole if it is no plain name."""
    if url is not None and (found := _YOUTUBE_ID.search(url)):
        return found[1]
    whole = video or url or ""
    stem = video_id(whole.partition("?")[0])
    if video is not None and _SAFE_ID.fullmatch(stem):
        return stem
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', stem)[:_NAME_KEPT]}_{text_sha256(whole)[:8]}"


@dataclass(frozen=True)
class Download:
    """The stage that downloads what is not here: objects of stores, and the rest by yt-dlp, which is no part of this.

    Args:
        folder: of the build; files go to `sources/SOURCE.EXT` in it.
        height: the most pixels from top to bottom.
        pause: seconds before each download, so that the server does not refuse the next ones.
    """

    folder: Path
    height: int = 720
    pause: float = 1.0
    name: str = "download"
    rows_per_shard: int = 1
    runs_model: bool = False

    @property
    def settings(self) -> Mapping[str, Any]:
        """The height; where the files lie and the pause change no row."""
        return {"height": self.height}

    def on_device(self, device: Any) -> "Download":
        """Return the stage, which runs no model."""
        return self

    def load(self) -> None:
        """Load nothing."""

    def run(self, rows: Sequence[Row]) -> list[Outcome]:
        """Return the rows with `video`, of downloads from the build's folder on; what is gone is a failure."""
        return [self._outcome(row) for row in rows]

    def files(self, row: Row) -> list[Path]:
        """Return the video."""
        return [self.folder / row["video"]]

    def _outcome(self, row: Row) -> Outcome:
        try:
            with one_video(name_of(row)):
                video = row["video"] or self._fetch(row)
                if not (self.folder / video).is_file():
                    raise VideoDecodeError(video, "there is no such file", "Check the path and --data-root.")
                stat = (self.folder / video).stat()
                # Of a download not the time: the table is the same on every machine.
                times = {"bytes": stat.st_size} | ({"modified": stat.st_mtime_ns} if row["video"] else {})
                return {**row, "video": video, **times}
        except VideoDecodeError as error:
            return error

    def _fetch(self, row: Row) -> str:
        if (there := self._found(row["source"])) is not None:
            return there
        if is_stored(row["url"]):
            return self._copy(row)
        command = downloader()
        if command is None:
            raise VideoDecodeError(
                row["url"], "it is not here, and yt-dlp is not installed", "pip install yt-dlp, and --retry."
            )
        folder = self.folder / _DOWNLOADS
        folder.mkdir(parents=True, exist_ok=True)
        call = [*command, *self._options(row["source"]), "--", row["url"]]
        try:
            with lock_file(folder / row["source"], wait=True):
                done = subprocess.run(
                    call, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT, check=False
                )
        except subprocess.TimeoutExpired:
            raise VideoDecodeError(
                row["url"], f"yt-dlp took more than {_TIMEOUT} s", "Run the same command with --retry."
            ) from None
        there = self._found(row["source"])
        if done.returncode or there is None:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["it gave no file"]
            cause = f"yt-dlp: {said[-1].removeprefix('ERROR: ')[:_LONGEST]}".rstrip(".")
            raise VideoDecodeError(row["url"], cause, "If it is not gone, run the same command with --retry.")
        return there

    def _copy(self, row: Row) -> str:
        """Copy an object of a store, and return the name of the file."""
        suffix = as_path(row["url"]).suffix.lower()
        name = f"{_DOWNLOADS}/{row['source']}{suffix if suffix in VIDEO_SUFFIXES else '.mp4'}"
        (self.folder / _DOWNLOADS).mkdir(parents=True, exist_ok=True)
        with lock_file(self.folder / _DOWNLOADS / row["source"], wait=True), atomic_path(self.folder / name) as file:
            download(row["url"], file)
        return name

    def _options(self, source: str) -> list[str]:
        limit, folder = f"[height<={self.height}]", str(self.folder / _DOWNLOADS).replace("%", "%%")
        return [
            *("--ignore-config", "--no-playlist", "--no-progress", "--no-overwrites", "--retries", "3"),
            *("--sleep-interval", str(self.pause), "--format", f"bv*{limit}+ba/b{limit}/bv*+ba/b"),
            *("--merge-output-format", "mp4", "--output", os.path.join(folder, f"{source}.%(ext)s")),
        ]

    def _found(self, source: str) -> str | None:
        files = (f"{_DOWNLOADS}/{source}{suffix}" for suffix in (".mp4", *VIDEO_SUFFIXES))
        return next((file for file in files if (self.folder / file).is_file()), None)


def downloader() -> list[str] | None:
    """Return the command that runs yt-dlp, as a list of arguments; None if it is not installed."""
    if importlib.util.find_spec("yt_dlp") is not None:
        return [sys.executable, "-m", "yt_dlp"]
    program = shutil.which("yt-dlp")
    return None if program is None else [program]


def count_plan(table: Table) -> dict[str, int]:
    """Count the plan's videos: "here", "to download", and the "clips" that tables want.

    Args:
        table: from `write_plan`.
    """
    counts = {"here": 0, "to download": 0, "clips": 0}
    for row in table:
        counts["here" if row["video"] else "to download"] += 1
        counts["clips"] += len(row["segments"] or ())
    return counts
