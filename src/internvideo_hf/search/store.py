"""An index on disk: parts of rows, each file whole or not there, and one small file that names those that count."""

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from internvideo_hf.utils.files import atomic_write, atomic_write_text, remove_leftovers

FORMAT = 1
HEADER = "index.json"
ROWS_A_PART = 65536  # parts are merged up to so many rows, so that a change rewrites little of a large index


@dataclass(frozen=True)
class Video:
    """A video of an index.

    Attributes:
        path: absolute path, or address.
        size: bytes of the file.
        mtime: its time of change, in nanoseconds.
        content: hash of the whole file.
        clips: how many clips it has.
    """

    path: str
    size: int
    mtime: int
    content: str
    clips: int


@dataclass
class Part:
    """Rows of an index, one for each clip.

    Attributes:
        videos: the videos that the rows are of.
        embeddings: unit vectors, float32 or float16, `(rows, dim)`; mapped from disk, where they are on disk.
        spans: begin and end of each clip in seconds, float64 `(rows, 2)`; NaN where there are no times.
        video: for each row its place in `videos`, int64 `(rows,)`.
        number: for each row the number of the clip in its video, int64 `(rows,)`.
        file: the name of its file; None while it is not on disk.
    """

    videos: list[Video]
    embeddings: torch.Tensor
    spans: torch.Tensor
    video: torch.Tensor
    number: torch.Tensor
    file: str | None = None

    def __len__(self) -> int:
        return len(self.video)

    def without(self, paths: set[str]) -> "Part":
        """The same without some videos; itself where it has none of them."""
        if not any(video.path in paths for video in self.videos):
            return self
        kept = [i for i, video in enumerate(self.videos) if video.path not in paths]
        place = torch.full((len(self.videos),), -1)
        place[kept] = torch.arange(len(kept))
        rows = place[self.video] >= 0
        videos = [self.videos[i] for i in kept]
        return Part(videos, self.embeddings[rows], self.spans[rows], place[self.video[rows]], self.number[rows])

    def renamed(self, new: dict[str, Video]) -> "Part":
        """The same with other facts about some videos, by their present path; itself where it has none of them."""
        if not any(video.path in new for video in self.videos):
            return self
        videos = [new.get(video.path, video) for video in self.videos]
        return Part(videos, self.embeddings, self.spans, self.video, self.number)

    def save(self, folder: Path) -> None:
        """Write the rows to a new file of the folder, and map them from there."""
        file = f"rows-{uuid.uuid4().hex[:12]}.safetensors"
        facts = json.dumps([list(asdict(video).values()) for video in self.videos]).encode()
        tensors = {
            "embeddings": self.embeddings.contiguous(),
            "spans": self.spans.contiguous(),
            "video": self.video.contiguous(),
            "number": self.number.contiguous(),
            "videos": torch.frombuffer(bytearray(facts), dtype=torch.uint8),  # a header may not be so long
        }
        atomic_write(folder / file, lambda path: save_file(tensors, path))
        self.embeddings, self.file = load_file(folder / file)["embeddings"], file

    @classmethod
    def load(cls, folder: Path, file: str) -> "Part":
        """Map a file of the folder.

        Raises:
            ValueError: if it is missing or damaged.
        """
        try:
            tensors = load_file(folder / file)
            videos = [Video(*facts) for facts in json.loads(tensors.pop("videos").numpy().tobytes())]
            return cls(videos, file=file, **tensors)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{folder / file} is missing or damaged ({error}). Delete {folder}, and build it again."
            ) from error


def merged(parts: Sequence[Part]) -> Part:
    """One part with the rows of several, in their order."""
    videos = {video.path: video for part in parts for video in part.videos}
    place = {path: i for i, path in enumerate(videos)}
    at = [torch.tensor([place[video.path] for video in part.videos], dtype=torch.int64)[part.video] for part in parts]
    return Part(
        list(videos.values()),
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("embeddings", "spans")),
        torch.cat(at),
        torch.cat([part.number for part in parts]),
    )


def compacted(parts: Iterable[Part]) -> list[Part]:
    """Neighbours merged as long as they stay small; parts without rows left out."""
    groups: list[list[Part]] = []
    rows = 0
    for part in parts:
        if len(part) == 0:
            continue
        if groups and rows + len(part) <= ROWS_A_PART:
            groups[-1].append(part)
            rows += len(part)
        else:
            groups.append([part])
            rows = len(part)
    return [group[0] if len(group) == 1 else merged(group) for group in groups]


def write(folder: Path, header: dict[str, Any], parts: Sequence[Part]) -> None:
    """Bring a folder to hold these parts: new ones are written, then named, then the old ones are deleted."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        if part.file is None or not (folder / part.file).exists():
            part.save(folder)
    content = {"format": FORMAT, **header, "parts": [part.file for part in parts]}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    atomic_write_text(folder / HEADER, text)
    named = set(content["parts"])
    for file in folder.glob("rows-*.safetensors"):
        if file.name not in named:
            file.unlink(missing_ok=True)
    remove_leftovers(folder)


def read(folder: Path) -> tuple[dict[str, Any], list[Part]]:
    """Read the header of an index and map its parts.

    Raises:
        ValueError: if there is no index, or it is damaged or of another format.
    """
    try:
        header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
        if not isinstance(header, dict) or not isinstance(header.get("parts"), list):
            raise ValueError("it names no parts")
    except FileNotFoundError:
        raise ValueError(
            f"{folder} holds no index ({HEADER} is missing). `internvideo index` makes one from a folder of videos."
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder / HEADER} cannot be read ({error}). Delete {folder}, and build it again."
        ) from error
    if header.get("format") != FORMAT:
        raise ValueError(
            f"{folder} has the format {header.get('format')!r}, this version reads {FORMAT}. Build the index again."
        )
    return header, [Part.load(folder, file) for file in header["parts"]]


def in_blocks(parts: Sequence[Part], rows: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Go through all embeddings: the number of a block's first row, and the block, float32 `(at most rows, dim)`."""
    first = 0
    for part in parts:
        for block in part.embeddings.split(rows):
            yield first, block.float()
            first += len(block)


def row_numbers(parts: Sequence[Part]) -> np.ndarray:
    """The number of the first row of each part, `(parts,)`."""
    return np.cumsum([0, *map(len, parts)])[:-1]
