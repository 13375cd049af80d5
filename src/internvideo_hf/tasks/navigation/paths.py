"""Paths that agents went, as files: for our metrics, and predictions for the VLN-CE challenge."""

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from internvideo_hf.data.records import ManifestError, are_numbers
from internvideo_hf.utils.files import atomic_write_text
from internvideo_hf.utils.names import reason_of

Point = Sequence[float]
_ADVICE = "Write it by `internvideo_hf.tasks.navigation.paths.write_paths`, whose documentation states its layout"


@dataclass(frozen=True)
class RecordedPath:
    """The path of one episode.

    Args:
        episode: its id.
        positions: of every low-level pose, the first before any move; x, y up, z in meters.
        stopped: whether the last action was to stop.
        distances: geodesic, from each position to the goal, meters; None if unknown.
        collisions: 0 or 1 for each low-level move, whether it collided.
        headings: of every low-level pose, radians to the left; None if unknown.
        reference: the path that the instruction describes, `(n, 3)`; None if unknown.
    """

    episode: str
    positions: Sequence[Point]
    stopped: bool
    distances: Sequence[float] | None = None
    collisions: Sequence[float] = ()
    headings: Sequence[float] | None = None
    reference: Sequence[Point] | None = None


def write_paths(path: str | Path, paths: Iterable[RecordedPath]) -> None:
    """Write paths as JSON, atomically: `{"episodes": [...]}` with the fields of `RecordedPath` by name.

    Args:
        path: the file.
        paths: of episodes.

    Raises:
        ValueError: if a number is not finite, such as the distance to a goal that no way leads to.
    """
    texts = []
    for entry in paths:
        try:
            texts.append(json.dumps(asdict(entry), allow_nan=False))
        except ValueError as error:
            raise ValueError(
                f"Episode {entry.episode} has a number that is not finite. Leave it out, or set distances=None where "
                "no way leads to the goal."
            ) from error
    atomic_write_text(Path(path), f'{{"episodes": [{", ".join(texts)}]}}\n')


def read_paths(path: str | Path, references: str | Path | None = None) -> list[RecordedPath]:
    """Read paths that `write_paths` wrote.

    Args:
        path: the file.
        references: R2R-CE's list of episodes, `{"episodes": [{"episode_id", "reference_path"}, ...]}`, as .json or
            .json.gz, for reference paths that the file lacks.

    Raises:
        ManifestError: if a file cannot be read, or an entry has another layout.
    """
    of_list = {} if references is None else _references(Path(references))
    entries = _episodes(Path(path))
    found: dict[str, RecordedPath] = {}
    for number, entry in enumerate(entries):
        recorded = _recorded(str(path), f"episodes[{number}]", entry)
        if recorded.episode in found:
            raise ManifestError(
                str(path), f"episodes[{number}]", f"episode {recorded.episode} is there twice", "Leave one of them out"
            )
        if recorded.reference is None and recorded.episode in of_list:
            recorded = RecordedPath(**vars(recorded) | {"reference": of_list[recorded.episode]})
        found[recorded.episode] = recorded
    if not found:
        raise ManifestError(str(path), None, "there are no episodes", _ADVICE)
    return list(found.values())


def write_challenge(path: str | Path, paths: Iterable[RecordedPath]) -> None:
    """Write predictions for the VLN-CE challenge on R2R, atomically.

    For each episode its poses, `{"position": [x, y, z], "heading": radians, "stop": bool}`, of which the last stops.
    The layout follows the public documentation; its evaluation server could not be tried.

    Args:
        path: a JSON file.
        paths: with headings.

    Raises:
        ValueError: if a path has no headings.
    """
    predictions = {}
    for recorded in paths:
        if recorded.headings is None:
            raise ValueError(f"Episode {recorded.episode} has no headings, which the challenge asks for.")
        last = len(recorded.positions) - 1
        poses = zip(recorded.positions, recorded.headings, strict=True)
        predictions[recorded.episode] = [
            {"position": list(position), "heading": heading, "stop": recorded.stopped and number == last}
            for number, (position, heading) in enumerate(poses)
        ]
    atomic_write_text(Path(path), json.dumps(predictions, allow_nan=False))


def _episodes(path: Path) -> list[Any]:
    try:
        raw = path.read_bytes()
        content = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise ManifestError(str(path), None, f"it cannot be read ({reason_of(error)})", _ADVICE) from error
    if not isinstance(content, Mapping) or not isinstance(content.get("episodes"), list):
        raise ManifestError(str(path), None, 'expected an object with a list "episodes"', _ADVICE)
    return list(content["episodes"])


def _references(path: Path) -> dict[str, Sequence[Point]]:
    found = {}
    for number, entry in enumerate(_episodes(path)):
        is_right = isinstance(entry, Mapping) and _is_id(entry.get("episode_id"))
        if not is_right or not _are_points(entry.get("reference_path")):
            raise ManifestError(
                str(path), f"episodes[{number}]", "expected episode_id and reference_path", "Take R2R-CE's own list"
            )
        found[str(entry["episode_id"])] = entry["reference_path"]
    return found


def _recorded(file: str, place: str, entry: Any) -> RecordedPath:
    """Return an entry as a path, after a look at each of its fields."""

    def check(is_right: bool, cause: str) -> None:
        if not is_right:
            raise ManifestError(file, place, cause, _ADVICE)

    fields = set(RecordedPath.__dataclass_fields__)
    check(isinstance(entry, Mapping), "expected an object")
    check(set(entry) <= fields, f"unknown fields {', '.join(sorted(set(entry) - fields))}")
    missing = {"episode", "positions", "stopped"} - set(entry)
    check(not missing, f"{', '.join(sorted(missing))} missing")
    check(_is_id(entry["episode"]), f"episode is {repr(entry['episode'])[:60]}, expected a number or text")
    check(isinstance(entry["stopped"], bool), f"stopped is {entry['stopped']!r}, expected true or false")
    check(_are_points(entry["positions"]), "positions must be points of three finite numbers, one at least")
    poses = len(entry["positions"])
    for name in ("distances", "headings"):
        numbers = entry.get(name)
        check(numbers is None or are_numbers(numbers, poses), f"{name} must be {poses} finite numbers, one a position")
    check(min(entry.get("distances") or [0]) >= 0, "distances must be 0 or more")
    collisions = entry.get("collisions", ())
    check(are_numbers(collisions) and all(0 <= flag <= 1 for flag in collisions), "collisions must be 0 or 1 each")
    check(entry.get("reference") is None or _are_points(entry["reference"]), "reference must be points, one at least")
    return RecordedPath(**dict(entry) | {"episode": str(entry["episode"])})


def _is_id(value: Any) -> bool:
    return type(value) is int or (isinstance(value, str) and bool(value))


def _are_points(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(are_numbers(point, 3) for point in value)
