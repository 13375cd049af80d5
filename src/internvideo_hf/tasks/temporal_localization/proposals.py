"""Proposals: segments of videos that another model found, for a head that refines them."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from internvideo_hf.data.finding import video_id
from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.temporal_localization.annotations import is_number, load_json
from internvideo_hf.tasks.temporal_localization.decoding import Detections
from internvideo_hf.utils.names import reason_of

# Columns of start and end -> whether they are fractions of the duration, as BMN writes them.
_COLUMNS = {("xmin", "xmax"): True, ("start", "end"): False}
_ADVICE = "Give ActivityNet's results, the answer of `internvideo localize --json`, or a folder of BMN's .csv files."


@dataclass(frozen=True)
class Proposals:
    """The proposals of a data set.

    Args:
        source: where they are from, for messages.
        videos: id -> its segments in seconds, or the .csv file that has them.
        classes: names of the labels; none where the proposals have no class.
    """

    source: str
    videos: Mapping[str, Detections | Path]
    classes: Sequence[str] = ()

    def of(self, video: str, duration: float | None = None) -> Detections:
        """Return the proposals of a video in seconds, best first.

        Args:
            video: its id, or its file, whose name is the id.
            duration: in seconds, of which BMN's files have fractions; None if unknown.

        Raises:
            ManifestError: if there are none, or they cannot be read.
        """
        found = self.entry(video)
        found = _read_csv(found, duration) if isinstance(found, Path) else found
        order = found.scores.argsort(descending=True, stable=True)
        return Detections(*(tensor[order] for tensor in found))

    def entry(self, video: str) -> Detections | Path:
        """Return the segments of a video in seconds, in any order, or the .csv file that has them.

        Args:
            video: see `of`.

        Raises:
            ManifestError: if there are none.
        """
        name = video_id(video)
        for key in (video, Path(video).name, name, f"v_{name}", name.removeprefix("v_")):
            if key in self.videos:
                return self.videos[key]
        raise ManifestError(self.source, name, "it has no proposals", "Localize it by the other model too.")

    def numbered(self, classes: Mapping[int, str]) -> "Proposals":
        """Return the proposals with other numbers of their classes; those of other names are left out.

        Args:
            classes: index -> name; none for one class.
        """
        numbers = {name: index for index, name in classes.items()}
        places = torch.tensor([numbers.get(name, -1) if numbers else 0 for name in self.classes] or [0])

        def changed(found: Detections | Path) -> Detections | Path:
            if isinstance(found, Path):
                return found
            labels = places[found.labels]
            return Detections(found.segments[labels >= 0], found.scores[labels >= 0], labels[labels >= 0])

        names = [classes.get(index, str(index)) for index in range(max(classes, default=-1) + 1)]
        return Proposals(self.source, {video: changed(found) for video, found in self.videos.items()}, names)


def read_proposals(path: str | Path) -> Proposals:
    """Open the proposals of a data set.

    Args:
        path: JSON in the layout of ActivityNet's results, or of `internvideo localize --json`; or a folder with a .csv
            file for each video, named by its id, with the columns xmin, xmax and score, in fractions of the duration
            as BMN writes them, or start, end and score, in seconds.

    Raises:
        ManifestError: if it cannot be read, or holds no proposals.
    """
    path = Path(path)
    if path.is_dir():
        files: dict[str, Detections | Path] = {file.stem: file for file in sorted(path.glob("*.csv"))}
        if not files:
            raise ManifestError(str(path), None, "it holds no .csv files", _ADVICE)
        return Proposals(str(path), files)
    entries = dict(_entries(load_json(path, (dict, list)), path))
    names = sorted({str(row["label"]) for rows in entries.values() for row in rows if row.get("label") is not None})
    numbers = {name: index for index, name in enumerate(names)}
    videos = {video: _detections(rows, numbers, f"{path}: {video}") for video, rows in entries.items()}
    if not videos:
        raise ManifestError(str(path), None, "it holds no videos", _ADVICE)
    ids = Counter(map(video_id, videos))
    short = {video_id(video): found for video, found in videos.items() if ids[video_id(video)] == 1}
    return Proposals(str(path), {**short, **videos}, names)


def _entries(content: Any, path: Path) -> Iterable[tuple[str, list[dict[str, Any]]]]:
    """Yield the id of each video with its rows."""
    if isinstance(content, dict):
        content = content.get("results", content)
        pairs = list(content.items()) if isinstance(content, dict) else []
    else:  # `localize --json`, in which a video that failed has no segments
        pairs = [(row.get("video"), row.get("segments", [])) for row in content if isinstance(row, dict)]
    for video, rows in pairs:
        if not isinstance(video, str) or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ManifestError(str(path), str(video), "its proposals are no list of segments", _ADVICE)
        yield video, rows


def _detections(rows: Sequence[Mapping[str, Any]], numbers: Mapping[str, int], place: str) -> Detections:
    columns: list[tuple[float, float, float, int]] = []
    for number, row in enumerate(rows, 1):
        segment = row.get("segment", [row.get("start"), row.get("end")])
        values = [*segment, row.get("score")] if isinstance(segment, list) else []
        if len(values) != 3 or not all(map(is_number, values)):
            raise ManifestError(place, f"segment {number}", "it lacks start, end or score", "Expected three numbers.")
        columns.append((*values, numbers.get(str(row.get("label")), 0)))
    table = torch.tensor(columns, dtype=torch.float64).reshape(-1, 4)
    return Detections(table[:, :2].float(), table[:, 2].float(), table[:, 3].long())


def _read_csv(file: Path, duration: float | None) -> Detections:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            names = next((pair for pair in _COLUMNS if {*pair, "score"} <= set(reader.fieldnames or ())), None)
            if names is None:
                raise ValueError("its columns are not xmin, xmax and score, nor start, end and score")
            columns = (*names, "score")
            table = torch.tensor([[float(row[name]) for name in columns] for row in reader]).reshape(-1, 3)
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise ManifestError(str(file), None, f"it cannot be read ({reason_of(error)})", _ADVICE) from error
    if not table.isfinite().all():
        raise ManifestError(str(file), None, "its numbers are not all finite", "Compute the proposals again.")
    if not _COLUMNS[names]:
        return Detections(table[:, :2], table[:, 2], torch.zeros(len(table), dtype=torch.long))
    if duration is None:
        raise ManifestError(str(file), None, "it has fractions of a duration, which is unknown", "Add the duration.")
    if len(table) and table[:, :2].max() > 1.5:
        cause = f"its xmax is {table[:, 1].max():g}, expected fractions of the duration"
        raise ManifestError(str(file), None, cause, "Name the columns start and end if they are in seconds.")
    return Detections(table[:, :2] * duration, table[:, 2], torch.zeros(len(table), dtype=torch.long))
