"""Folders of clips, one for each class, and the lists or folders of a data set's splits."""

from collections.abc import Iterator
from pathlib import Path

from internvideo_hf.data.finding import VIDEO_SUFFIXES, list_folder
from internvideo_hf.data.shard_files import SPLIT_NAMES, SPLITS, find_split, shards_of, split_of
from internvideo_hf.utils.names import listed
from internvideo_hf.utils.storage import AnyPath, StoragePath, as_path, below

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Names of the list that a folder of `datasets.load_dataset("videofolder")` may hold."""


def read_class_folders(folder: str | AnyPath) -> Iterator[dict[str, str | None]]:
    """List the videos of a folder with their classes: `CLASS/clip.mp4`, at any depth below the folder of the class.

    Args:
        folder: such as `train`.

    Yields:
        Dicts of `file`, relative to the folder, and `class_folder`, the name of the first folder on the way; None for
        a video that lies in the folder itself. In order of the paths.

    Raises:
        LookupError: if there are no videos, or the folder is that of several splits.
    """
    folder = as_path(folder)
    root = f"{folder}/" if isinstance(folder, StoragePath) else ""
    files = [Path(file.removeprefix(root)) for file in list_folder(folder).videos]
    files = files if root else [file.relative_to(str(folder)) for file in files]
    if not files:
        raise LookupError(f"it holds {_entries(folder)}, and no videos")
    first = sorted({file.parts[0] for file in files})
    if all(name.lower() in SPLIT_NAMES for name in first) and all(len(file.parts) > 2 for file in files):
        raise LookupError(f"it holds the splits {', '.join(first)}; name one of them, such as {folder / first[0]}")
    for file in files:
        yield {"file": str(file), "class_folder": file.parts[0] if len(file.parts) > 1 else None}


def find_list(data_root: str | AnyPath, name: str, suffixes: tuple[str, ...]) -> AnyPath:
    """Return the path of a list of videos, or of the list or folder that takes its place.

    Where `train.csv` is missing, another list or a folder of that split's name does, such as `train.txt` or
    `training/`; lists come first, then shards, such as `train-*.parquet`, also in the folder `data`. For a training
    list, the data root does itself, if it has folders of classes, a list of its own, or shards of no split.

    Args:
        data_root: folder that the name is relative to.
        name: of the list, such as "train.csv"; or its address in an object store.
        suffixes: of lists.

    Returns:
        What exists, or the path of the name itself.

    Raises:
        LookupError: if several could be meant, naming them.
    """
    root, path = as_path(data_root), below(data_root, name)
    names = next((names for names in SPLITS if path.stem.lower() in names), ())
    if path.exists() or not names or not path.parent.is_dir():
        return path
    every: list[AnyPath] = sorted(path.parent.iterdir(), key=str)
    entries = [entry for entry in every if entry.stem.lower() in names]
    found = [entry for entry in entries if entry.suffix.lower() in suffixes and entry.is_file()]
    found = found or [entry for entry in entries if entry.name.lower() in names and entry.is_dir()]
    if len(found) > 1:
        raise LookupError(f"there is no {name}, but {', '.join(entry.name for entry in found)}; name one of them")
    if not found and len(found := find_split(path.parent, names)) > 1:
        raise LookupError(f"there is no {name}, but {', '.join(map(str, found))}; name one of them")
    if not found and names == SPLITS[0] and path.parent == root and _is_one_list(root):
        return root
    return found[0] if found else path


def describe_folder(folder: AnyPath) -> str:
    """Return one clause on what a folder holds, for a message about what it lacks."""
    if not folder.is_dir():
        return f"there is no folder {folder}"
    return f"{'the working directory' if str(folder) == '.' else folder} holds {_entries(folder)}"


def _is_one_list(folder: AnyPath) -> bool:
    """Return whether a folder is a list of one split: by its classes, its own list, or its shards."""
    if any((folder / name).is_file() for name in METADATA) or _has_class_folders(folder):
        return True
    shards = shards_of(folder)
    return bool(shards) and all(split_of(shard) is None for shard in shards)


def _has_class_folders(folder: AnyPath) -> bool:
    """Return whether a folder has folders of videos, none of which is that of a split, and no videos beside them."""
    shown = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    folders = [entry for entry in shown if entry.is_dir()]
    if any(entry.name.lower() in SPLIT_NAMES for entry in folders) or any(
        entry.suffix.lower() in VIDEO_SUFFIXES for entry in shown if entry not in folders
    ):
        return False
    return any(list_folder(entry).videos for entry in folders)


def _entries(folder: AnyPath) -> str:
    names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
    return listed(names) or "no files"
