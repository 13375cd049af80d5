"""Sentences about untrimmed videos, each with its stretch: your own lists, and Ego4D's natural-language queries."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils import logging

from internvideo_hf.data.ego4d import FILES, list_in, list_of, number_of, text_of
from internvideo_hf.data.finding import video_id
from internvideo_hf.data.layouts import Record
from internvideo_hf.data.manifests import read_manifest
from internvideo_hf.data.records import ManifestError, read_json
from internvideo_hf.utils.names import listed

logger = logging.get_logger(__name__)
_NAMED = 3  # queries without text that a warning names


@dataclass(frozen=True)
class Query:
    """A sentence about a video.

    Args:
        video: id of the video; of Ego4D, the clip.
        text: the sentence.
        start: where its stretch begins, in seconds of the video; None if unknown, as in the test set of a challenge.
        end: where it ends; `start` or more.
        annotation: of Ego4D, id of the annotation that the query stands in.
        number: of Ego4D, its place in the annotation, from 0.
        source: of Ego4D, id of the whole video that the clip was cut out of.
        source_start: where the clip begins in it, in seconds.
        source_end: where it ends there.
    """

    video: str
    text: str
    start: float | None = None
    end: float | None = None
    annotation: str | None = None
    number: int | None = None
    source: str | None = None
    source_start: float | None = None
    source_end: float | None = None

    @property
    def has_stretch(self) -> bool:
        """Whether its stretch is known, and not empty, so that it can be learned."""
        return self.start is not None and self.end is not None and self.end > self.start

    @property
    def name(self) -> str:
        """What names the query in messages and reports."""
        if self.annotation is None:
            return f"{self.video}: {self.text}"
        return f"{self.video}, annotation {self.annotation}, query {self.number}"


def read_queries(path: str | Path) -> list[Query]:
    """Read a list of sentences.

    Args:
        path: Ego4D's nlq_train.json, nlq_val.json or nlq_test_unannotated.json, of version 1 or 2; or a list of your
            own, in any format that lists of videos have (.csv, .json, .jsonl, .parquet), with the columns `video`,
            `query` (or `caption`, `sentence`), `start` and `end` in seconds.

    Raises:
        ManifestError: if it cannot be read, or lacks something.
    """
    path = Path(path)
    is_json = path.suffix.lower() == ".json"
    if is_json and isinstance(content := read_json(path), dict) and not content.keys().isdisjoint(FILES.values()):
        return _read_ego4d(content, path)
    return _read_own(path)


def _read_own(path: Path) -> list[Query]:
    # Only names count: features are found by them, wherever the videos are.
    rows = list(read_manifest(path, check_files=False, check_labels=False))
    if not all(row["caption"] and row["caption"].strip() for row in rows):
        place = next(number for number, row in enumerate(rows, 1) if not (row["caption"] or "").strip())
        raise ManifestError(
            str(path), f"row {place}", "it has no sentence", "Write it in a column named query, or delete the row."
        )
    return [Query(video_id(row["video"]), row["caption"].strip(), row["start"], row["end"]) for row in rows]


def _read_ego4d(content: Mapping[str, Any], path: Path) -> list[Query]:
    found: list[Query] = []
    without_text: list[str] = []
    for number, video in enumerate(list_in(content, FILES["nlq"], path), 1):
        where: dict[str, Any] = {"file": path, "place": f"videos {number}"}
        source = text_of(video, "video_uid", **where)
        for clip in list_of(video, "clips", **where):
            for query, entry in _of_clip(clip, source, path):
                if isinstance(text := entry.get("query"), str) and text.strip():
                    found.append(query)
                else:
                    without_text.append(query.name)
    _remark(path, without_text, "have no text and are left out, as by Ego4D's baseline")
    if not found:
        advice = "Check that it is a file of natural-language queries; those of moment queries have labels instead."
        raise ManifestError(str(path), None, "no clip has a query with text", advice)
    empty = [query.name for query in found if query.start is not None and not query.has_stretch]
    _remark(path, empty, "have a stretch of no length: nothing is learned from them, and no answer to them counts")
    return found


def _of_clip(clip: Record, source: str, path: Path) -> Iterator[tuple[Query, Record]]:
    name = text_of(clip, "clip_uid", file=path, place=f"video {source}")
    where: dict[str, Any] = {"file": path, "place": f"clip {name}"}
    bounds = number_of(clip, "video_start_sec", **where), number_of(clip, "video_end_sec", **where)
    if bounds[1] <= bounds[0]:
        cause = f"it goes from {bounds[0]:g} to {bounds[1]:g} s of its video"
        raise ManifestError(str(path), where["place"], cause, "Download the file again.")
    for annotation in list_of(clip, "annotations", **where):
        uid = text_of(annotation, "annotation_uid", **where)
        for number, entry in enumerate(list_of(annotation, "language_queries", **where)):
            times: list[float | None] = [None, None]  # of the test set
            if entry.get("clip_start_sec") is not None or entry.get("clip_end_sec") is not None:
                place: dict[str, Any] = {"file": path, "place": f"annotation {uid}, query {number}"}
                times = [number_of(entry, key, **place) for key in ("clip_start_sec", "clip_end_sec")]
            text = entry.get("query")
            sentence = text.strip() if isinstance(text, str) else ""
            yield Query(name, sentence, times[0], times[1], uid, number, source, *bounds), entry


def _remark(path: Path, names: Sequence[str], what: str) -> None:
    if names:
        logger.warning(f"{path}: {len(names)} queries {what}: {listed(names, _NAMED, '; ')}.")
