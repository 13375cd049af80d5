"""Bringing an index up to date: survey the files, plan the changes, execute the plan."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from internvideo_hf.data.contents import content_hash, exists, stamp
from internvideo_hf.data.failures import shown_name
from internvideo_hf.search.stores.base import Known, VectorStore
from internvideo_hf.search.stores.segments import NO_METADATA, Video
from internvideo_hf.video.errors import VideoDecodeError


@dataclass
class Change:
    """What bringing an index up to date did, by paths of videos.

    Attributes:
        new: embedded for the first time, or completed.
        changed: embedded again, because their content changed.
        moved: found at another path; they kept their embeddings.
        copied: given the embeddings of an indexed video with the same content.
        removed: no longer there.
        unchanged: left alone.
        failures: one error per video that could not be read. Of a long video, the windows before and after the
            unreadable part are in the index.
    """

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failures: list[VideoDecodeError] = field(default_factory=list)


class File(NamedTuple):
    """A file as it is now.

    Attributes:
        path: absolute path, or address.
        size: bytes.
        mtime: modification time in nanoseconds.
        content: hash of the whole file, if the plan depends on it.
        error: why the file cannot be read, if it cannot.
    """

    path: str
    size: int = -1
    mtime: int = -1
    content: str | None = None
    error: str | None = None


class Found(NamedTuple):
    """The files that an index should hold.

    Attributes:
        files: each path once.
        away: paths of indexed videos whose file is gone, among those with the content of a new file.
    """

    files: Sequence[File]
    away: Collection[str] = ()


class Todo(NamedTuple):
    """The clips of a video to embed.

    Attributes:
        numbers: of the clips; None for all.
        content: hash of the file that the other clips in the index are from; None if there are none.
        metadata: of the video.
    """

    numbers: tuple[int, ...] | None = None
    content: str | None = None
    metadata: Mapping[str, Any] = NO_METADATA


_WHOLE = Todo()  # of all new videos: there may be millions


@dataclass
class Plan:
    """The changes that bring an index up to date.

    Attributes:
        change: the outcome if everything to embed can be read; its failures are those known already.
        embed: clips to embed, by path.
        renamed: new entries of videos that moved or were touched, by indexed path.
        copies: the indexed path of a video, and the entry of its copy.
    """

    change: Change = field(default_factory=Change)
    embed: dict[str, Todo] = field(default_factory=dict)
    renamed: dict[str, Video] = field(default_factory=dict)
    copies: list[tuple[str, Video]] = field(default_factory=list)


def survey(paths: Iterable[str], known: Known) -> Found:
    """Look at files, reading their content only if size and modification time do not decide.

    Args:
        paths: absolute paths and addresses, each once.
        known: the videos of the index.
    """
    twins, files, away = _twins(known), [], set()
    sizes = {video.size for videos in twins.values() for video in videos}
    for path in paths:
        before = known.videos.get(path)
        try:
            size, mtime = stamp(path)
            undecided = size in sizes if before is None else (before.size == size and before.mtime != mtime)
            content = content_hash(path) if undecided else None
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            files.append(File(path, error=str(error)))
            continue
        files.append(File(path, size, mtime, content))
        if before is None and content is not None:
            away |= {video.path for video in twins.get(content, ()) if not exists(video.path)}
    return Found(files, away)


def plan(
    known: Known,
    found: Found,
    prune: Collection[str] = (),
    metadata: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Plan:
    """Decide what to embed, rename, copy and remove.

    A file is unchanged if its size and modification time are those in the index, or its size and content.

    Args:
        known: the videos of the index.
        found: the files that it should hold.
        prune: indexed paths to remove if they were not found.
        metadata: what lists say of the files now; that of the others stays.
    """
    result, twins = Plan(), _twins(known)
    change, embed, renamed = result.change, result.embed, result.renamed
    paths = {file.path for file in found.files}

    def is_free(video: Video) -> bool:
        """Return whether a video's file is gone, and nothing else has taken its place."""
        return video.path in found.away and video.path not in paths and video.path not in renamed

    for file in found.files:
        path, before = file.path, known.videos.get(file.path)
        said = metadata.get(path)
        if before is None and file.content in twins:
            # A video whose file is gone comes first: then the file was moved, not copied.
            twin = min(twins[file.content], key=lambda video: not is_free(video))
            entry = replace(twin, path=path, mtime=file.mtime, metadata=twin.metadata if said is None else said)
            if is_free(twin):
                change.moved.append(path)
                renamed[twin.path] = entry
            else:
                change.copied.append(path)
                result.copies.append((twin.path, entry))
        elif before is None:
            change.new.append(path)
            embed[path] = Todo(metadata=said) if said else _WHOLE
        elif file.error is not None:
            cause = f"it cannot be read ({file.error})"
            change.failures.append(VideoDecodeError(path, cause, "Its embeddings stay as they are."))
        elif before.size != file.size or (before.mtime != file.mtime and before.content != file.content):
            change.changed.append(path)
            embed[path] = Todo(metadata=before.metadata if said is None else said)
        else:
            entry = replace(before, mtime=file.mtime, metadata=before.metadata if said is None else said)
            if entry != before:
                renamed[path] = entry
            if path in known.missing:
                embed[path] = Todo(known.missing[path], before.content, entry.metadata)
            (change.new if path in known.missing else change.unchanged).append(path)
    change.removed = [p for p in known.videos if p in prune and p not in paths and p not in renamed]
    return result


def execute(
    plan: Plan, store: VectorStore, embed: Callable[[Mapping[str, Todo]], Sequence[VideoDecodeError]]
) -> Change:
    """Change a store as planned.

    Args:
        plan: the changes.
        store: where the rows are.
        embed: adds clips to the store, and returns one error per video that could not be read.
    """
    change = plan.change
    stale = {*change.removed, *change.changed}
    if stale or plan.renamed or plan.copies:
        # Before anything is embedded, so that no video is ever there with two contents.
        store.rewrite(removed=stale, renamed=plan.renamed, copied=plan.copies)
    failures = [*change.failures, *(embed(plan.embed) if plan.embed else ())]
    failed = {error.source for error in failures}
    new, changed = ([p for p in paths if shown_name(p) not in failed] for paths in (change.new, change.changed))
    return replace(change, new=new, changed=changed, failures=failures)


def _twins(known: Known) -> dict[str | None, list[Video]]:
    """Return the videos that a file of the same content can take its embeddings from, by content."""
    twins: dict[str | None, list[Video]] = {}
    for video in known.videos.values():
        if video.size >= 0 and video.path not in known.missing:
            twins.setdefault(video.content, []).append(video)
    return twins
