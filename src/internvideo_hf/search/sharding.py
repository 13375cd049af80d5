"""From files to rows of a store by several workers, each with a model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial

from internvideo_hf.data.contents import stamp_if_there
from internvideo_hf.data.executors import processes
from internvideo_hf.data.executors.parts import Engine, Part, PartFolder, Shard, cut, run_shards, shard_key
from internvideo_hf.data.failures import lost_among_others
from internvideo_hf.inference.embedder import Embedder
from internvideo_hf.search.clips import Clips, Task, Windowing, read_clips
from internvideo_hf.search.embedding import Account, Batches, name_of_piece, path_of, video_of
from internvideo_hf.search.stores.base import VectorStore
from internvideo_hf.search.stores.segments import SEGMENT_ROWS, Segment, Video, merge
from internvideo_hf.search.sync import Todo
from internvideo_hf.utils.journal import Stopwatch
from internvideo_hf.video.errors import VideoDecodeError


@dataclass(frozen=True)
class ShardSettings:
    """How the rows of a shard are computed.

    Args:
        model: folder or name of the model.
        fingerprint: of the model; a worker that finds another one refuses.
        windowing: how videos are divided into clips.
        batch_size: clips per forward pass.
        dtype: number type in which the model runs; as saved if None.
        timeout: seconds after which a decoder counts as hung; None for no limit.
    """

    model: str
    fingerprint: str
    windowing: Windowing
    batch_size: int = 8
    dtype: str | None = None
    timeout: float | None = processes.TIMEOUT


def embed_on_engine(
    todo: Mapping[str, Todo],
    store: VectorStore,
    encoder: Embedder,
    settings: ShardSettings,
    *,
    engine: Engine,
    parts: PartFolder,
    on_done: Callable[[int, int], object] = lambda done, total: None,
    on_failed: Callable[[VideoDecodeError, str], object] = lambda error, path: None,
) -> list[VideoDecodeError]:
    """Embed clips by several workers, and add them to a store in the order in which one process would.

    Parts that were finished when an earlier call was interrupted are taken as they are.

    Args:
        todo: clips by path.
        store: takes the rows.
        encoder: the model and its processor, as in this process.
        settings: of the rows.
        engine: runs the workers.
        parts: keeps the rows of shards until the store has them; deleted at the end.
        on_done: progress callback `(done, total)`, in videos.
        on_failed: called with each error, when it comes, and the path of its video.

    Returns:
        One error per video that could not be read, or not to the end.
    """
    account = Account(todo, encoder.video_processor, on_done, on_failed)
    committer = _Committer(store, parts)
    # A limit of time changes no row, nor does the folder in which the model lies.
    facts = {name: value for name, value in asdict(settings).items() if name not in ("timeout", "model")}
    work = partial(embed_shard, settings=settings, engine=engine)
    try:
        while pieces := account.next_pieces():
            shards = [Shard(shard_key(map(_facts, items), facts), items) for items in cut(pieces, name_of_piece)]
            for shard, part in run_shards(work, shards, engine, parts):
                segment = _settle(shard, part, account)
                committer.add(shard, None if segment is None else _with_metadata(segment, todo))
            committer.commit()
    finally:
        committer.commit()
    parts.clear()
    store.compact()
    return list(account.failed.values())


def embed_shard(pieces: Sequence[Task], settings: ShardSettings, engine: Engine) -> Part:
    """Decode and embed the pieces of a shard; workers run this.

    Args:
        pieces: of the shard, in order.
        settings: of the rows.
        engine: whose worker this is.

    Raises:
        ValueError: if the model is not the one of the index.
    """
    encoder = _embedder(settings.model, engine.device(), settings.dtype)
    if encoder.fingerprint != settings.fingerprint:
        raise ValueError(
            f"A worker finds another model at {settings.model}: its fingerprint is {encoder.fingerprint}, that of the "
            f"index {settings.fingerprint}. Put the same model there on all machines."
        )
    task = partial(read_clips, processor=encoder.video_processor, windowing=settings.windowing)
    batches, outcomes = Batches(encoder, settings.batch_size), []
    results = engine.executor().map_ordered(task, pieces, engine.decoders, path_of, timeout=settings.timeout)
    for piece, result in results:
        if isinstance(result, Clips):
            batches.add(piece[0], result, {})
            outcomes.append({"video": list(asdict(video_of(piece, result)).values()), "held": len(result.numbers)})
        else:
            outcomes.append({"error": [result.source, result.cause, result.advice]})
    batches.finish()
    segment = batches.take()
    if segment is None:
        return Part({}, {"outcomes": outcomes, "videos": []})
    tensors = {name: getattr(segment, name) for name in _TENSORS}
    return Part(tensors, {"outcomes": outcomes, "videos": [list(asdict(video).values()) for video in segment.videos]})


_TENSORS = ("embeddings", "spans", "video", "number")


@lru_cache(maxsize=1)
def _embedder(model: str, device: str | None, dtype: str | None) -> Embedder:
    return Embedder(model, device, dtype=dtype)


def _facts(piece: Task) -> list[object]:
    path, numbers = piece
    return [path, *stamp_if_there(path), numbers]


def _settle(shard: Shard[Task], part: Part | VideoDecodeError, account: Account) -> Segment | None:
    """Count the pieces of a shard, and return its rows."""
    if isinstance(part, VideoDecodeError):
        for piece in shard.items:
            account.take(piece, lost_among_others(piece[0], "embed"))
        return None
    refused = set()
    for piece, outcome in zip(shard.items, part.notes["outcomes"], strict=True):
        if "error" in outcome:
            account.take(piece, VideoDecodeError(*outcome["error"]))
        elif not account.take(piece, Video(*outcome["video"]), outcome["held"]):
            refused.add(piece[0])
    if not part.tensors:
        return None
    own = {path: path for path, _ in shard.items}  # so that each path is in memory once
    videos = [Video(own[path], *values) for path, *values in part.notes["videos"]]
    embeddings, spans, video, number = (part.tensors[name] for name in _TENSORS)
    return Segment(videos, embeddings, spans, video, number).without(refused)


def _with_metadata(segment: Segment, todo: Mapping[str, Todo]) -> Segment:
    """Return rows with what the list says of their videos, which no worker needs to know."""
    videos = [replace(video, metadata=todo[video.path].metadata) for video in segment.videos]
    return replace(segment, videos=videos)


class _Committer:
    """The one that moves rows from parts to a store, many at a time.

    Args:
        store: takes the rows.
        parts: from which they come; deleted when the store has them.
    """

    def __init__(self, store: VectorStore, parts: PartFolder):
        self._store, self._parts, self._stopwatch = store, parts, Stopwatch()
        self._keys: list[str] = []
        self._segments: list[Segment] = []

    def add(self, shard: Shard[Task], segment: Segment | None) -> None:
        """Take the rows of a shard."""
        self._keys.append(shard.key)
        self._segments += [] if segment is None else [segment]
        if self._stopwatch.is_due() or sum(map(len, self._segments)) >= SEGMENT_ROWS:
            self.commit()

    def commit(self) -> None:
        """Move what is there to the store."""
        if rows := [segment for segment in self._segments if len(segment)]:
            self._store.upsert(merge(rows))
        self._parts.delete(self._keys)
        self._keys, self._segments = [], []
