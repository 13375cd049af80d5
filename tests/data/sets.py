"""Data sets of small videos, written by `datasets` itself and as WebDataset does."""

import io
import tarfile
from pathlib import Path

import datasets

CLASSES = ["zebra", "ant"]
"""Names of the classes, not in the order of the alphabet."""


def make_dataset(videos: list[str], *, embed: bool = True, **columns) -> datasets.Dataset:
    """Make a data set with the columns video, a `Video`, and label, a `ClassLabel` that alternates."""
    content = [
        {"bytes": Path(video).read_bytes(), "path": Path(video).name} if embed else {"bytes": None, "path": video}
        for video in videos
    ]
    features = {"video": datasets.Video(decode=False), "label": datasets.ClassLabel(names=CLASSES)}
    made = datasets.Dataset.from_dict(
        {"video": content, "label": [number % 2 for number in range(len(videos))]}, datasets.Features(features)
    )
    for name, values in columns.items():
        made = made.add_column(name, values)
    return made


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    """Write a tar file of these members, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path
