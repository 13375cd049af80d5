"""Features of many videos by several workers, each with a model; the file of a video is its part."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from internvideo_hf.data.executors.parts import Engine
from internvideo_hf.inference.features import FeatureExtractor, extract_to_file
from internvideo_hf.video.errors import VideoDecodeError


class Target(NamedTuple):
    """A video and the file of its features."""

    video: str
    path: Path


@dataclass(frozen=True)
class Extraction:
    """How workers extract features.

    Args:
        extractor: arguments of `FeatureExtractor`, but for the device.
        revision: of the model in this process; a worker that finds another one refuses.
        output: options of `extract_to_file`.
    """

    extractor: dict[str, Any]
    revision: str
    output: dict[str, Any] = field(default_factory=dict)


def extract_on_engine(
    targets: Sequence[Target], settings: Extraction, engine: Engine, timeout: float | None = None
) -> Iterator[tuple[Target, bool | VideoDecodeError]]:
    """Extract features of videos by several workers, equal to those that one process extracts.

    A worker decodes what its model reads. A video that kills its worker does so once more in a new one, and is then a
    failure. An interrupted run continues with the files and rows that are there.

    Args:
        targets: videos and files.
        settings: of all videos.
        engine: runs the workers.
        timeout: seconds after which a video counts as one that hangs its worker; none by default, for long videos take
            long.

    Yields:
        A video, and whether it was extracted, as `extract_to_file` returns it, or why it was not.

    Raises:
        ValueError: if a worker finds another model.
        DiskFullError: if there is no room.
    """
    task = partial(_extract, settings=settings, engine=engine)
    for target, result in engine.map_ordered(task, targets, engine.workers, _video_of, timeout=timeout):
        if isinstance(result, _Refusal):
            raise ValueError(result.message)
        yield target, result


class _Refusal(NamedTuple):
    """Why a worker can extract nothing, which executors would take for the fault of a video."""

    message: str


def _extract(target: Target, settings: Extraction, engine: Engine) -> bool | _Refusal:
    facts = tuple(sorted(settings.extractor.items()))
    extractor = _extractor(facts, engine.device())
    if extractor.settings.revision != settings.revision:
        return _Refusal(
            f"A worker finds another model at {extractor.name}: its revision is {extractor.settings.revision}, that "
            f"of the run {settings.revision}. Put the same model there on all machines."
        )
    return extract_to_file(extractor, *target, **settings.output)


@lru_cache(maxsize=1)
def _extractor(facts: tuple[tuple[str, Any], ...], device: str | None) -> FeatureExtractor:
    return FeatureExtractor(**dict(facts), device=device)


def _video_of(target: Target) -> str:
    return target.video
