"""`VideoIndex`: the embeddings of a gallery of videos, kept up to date, and search in them."""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from internvideo_hf.data.executors.processes import map_unordered
from internvideo_hf.data.folders import find_videos
from internvideo_hf.inference.embedder import Encoder
from internvideo_hf.search import store
from internvideo_hf.search.calibration import LARGEST_CHANCE, calibrate, null_captions
from internvideo_hf.search.clips import Clips, Cut, content_hash, in_pieces, read_clips, stamp
from internvideo_hf.search.hits import Hit, Hits
from internvideo_hf.search.nearest import Approximate, exact, gather, state_of
from internvideo_hf.search.store import Part, Video
from internvideo_hf.utils.files import atomic_write
from internvideo_hf.utils.fingerprints import json_sha256
from internvideo_hf.utils.journal import Stopwatch
from internvideo_hf.utils.names import lookup
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.sources import describe, is_url
from internvideo_hf.video.stills import is_image_file

CANDIDATES = 1000  # the most similar clips, over which probabilities are
DTYPES = {"float32": torch.float32, "float16": torch.float16}


@dataclass
class Change:
    """What bringing an index up to date did, in videos.

    Attributes:
        new: were embedded for the first time, or to the end.
        changed: were embedded again, since their content is another.
        moved: have another path and kept their embeddings.
        copied: have the content of a video that was there already, and took its embeddings.
        removed: are gone.
        unchanged: were left alone.
        failures: an error for each that could not be read. Of a long video, the windows before and after what could
            not be read are in the index.
    """

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failures: list[VideoDecodeError] = field(default_factory=list)


class VideoIndex:
    """A gallery of videos, whole or in windows, that is searched by text, by video or by image.

    An index with a folder keeps itself there: every change is on disk when the call returns, and while videos are
    embedded, every twenty seconds; a killed call is taken up by the same call. Without a folder it is in memory until
    `save`. One process at a time may change a folder; any number may search in it.

    >>> index = VideoIndex("internvideo-mm-l14", window=8, folder="holidays.index")
    >>> index.update(["holidays"]).failures
    []
    >>> index.search("a dog catches a frisbee")[0].video
    '/home/me/holidays/beach.mp4'

    Args:
        model: folder or Hub name of any model of this package; one without texts is searched by video and image.
        window: seconds of a window; None takes every video whole.
        stride: seconds from the start of one window to the start of the next; as the window by default.
        dtype: number type in which embeddings are kept, "float32" or "float16"; the latter takes half the room and
            changes cosines by some 1e-5.
        folder: where the index is kept; must not hold one.
        device: where the model runs; the accelerator if there is one.

    Raises:
        ValueError: if an option has no meaning, or `folder` holds something.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        window: float | None = None,
        stride: float | None = None,
        dtype: str = "float32",
        folder: str | Path | None = None,
        device: str | torch.device | None = None,
    ):
        lookup(DTYPES, dtype, "dtype")
        self.cut, self.dtype = Cut(window, stride), dtype
        # From anywhere, the folder is the same one; a name on the Hub stays as it is.
        self.model = os.path.abspath(model) if Path(model).is_dir() else str(model)
        self.fingerprint: str | None = None
        self.folder: Path | None = None
        self._recorded: str | None = None  # the model that the folder names
        self._device = device
        self._encoder: Encoder | None = None
        self._parts: list[Part] = []
        self._null: torch.Tensor | None = None
        self._approximate: Approximate | None = None
        if folder is not None:
            self._settle_in(Path(folder))

    @classmethod
    def load(
        cls, folder: str | Path, *, model: str | Path | None = None, device: str | torch.device | None = None
    ) -> "VideoIndex":
        """Open an index; its embeddings stay on disk and are mapped, the model is loaded when it is needed.

        Args:
            folder: of the index.
            model: where its model is now, if not where it was; another model is refused when it is loaded.
            device: where the model runs.

        Raises:
            ValueError: if there is no index, or it is damaged.
        """
        folder = Path(folder)
        header, parts = store.read(folder)
        try:
            index = cls(
                header["model"] if model is None else model,
                window=header["window"],
                stride=header["stride"],
                dtype=header["dtype"],
                device=device,
            )
            index.fingerprint = header["fingerprint"]
        except KeyError as error:
            raise ValueError(f"{folder / store.HEADER} lacks {error}. Delete {folder}, and build it again.") from error
        index.folder, index._parts, index._recorded = folder, parts, header["model"]
        return index

    def save(self, folder: str | Path) -> None:
        """Write the index to a new folder, which it keeps from then on.

        Raises:
            ValueError: if the folder holds something.
        """
        self._settle_in(Path(folder))
        self._parts = [replace(part, file=None) for part in self._parts]
        self._keep()

    def __len__(self) -> int:
        """How many clips there are."""
        return sum(map(len, self._parts))

    @property
    def videos(self) -> list[str]:
        """Paths and addresses of all videos."""
        return list(self._known())

    @property
    def embeddings(self) -> torch.Tensor:
        """All embeddings, a row for each clip, `(clips, dim)`; reads them all."""
        return torch.cat([part.embeddings for part in self._parts]) if self._parts else torch.empty(0, 0)

    @property
    def clips(self) -> list[tuple[str, float | None, float | None]]:
        """Video, begin and end in seconds of each row of `embeddings`; None where there are no times."""
        return [self._clip(row) for row in range(len(self))]

    @property
    def encoder(self) -> Encoder:
        """The model, loaded at first use.

        Raises:
            ValueError: if it is not the model that the index was made with.
        """
        if self._encoder is None:
            encoder = Encoder(self.model, self._device)
            if self.fingerprint is not None and encoder.fingerprint != self.fingerprint:
                made_with = "" if self._recorded in (None, self.model) else f" (it names {self._recorded})"
                raise ValueError(
                    f"The index was made with another model or processor than {self.model}{made_with}: its embeddings "
                    f"are of {self.fingerprint}, this one's would be of {encoder.fingerprint}, and no cosine between "
                    "the two means anything. Name the model of the index, or build a new index with this one."
                )
            self._encoder, self.fingerprint = encoder, encoder.fingerprint
        return self._encoder

    def add(self, videos: Sequence[str | Path], **options: Any) -> Change:
        """Embed videos that are not there yet, and those whose content has changed.

        As `update`, but nothing is removed.
        """
        return self._bring_up_to_date(_sources(videos), prune=False, **options)

    def update(self, videos: Sequence[str | Path] | None = None, **options: Any) -> Change:
        """Bring the index up to date with files and folders, embedding only what changed.

        A file counts as unchanged if its size and time of change are those it had; if only the time differs, or a
        file of the same size is new, the whole content decides: a file that was moved or touched keeps its embeddings.
        Damaged files are left out and tried again by the next call.

        Args:
            videos: files, addresses, folders (searched to the bottom) and lists of videos. What was indexed below one
                of these folders, and is not there any more, is removed; what lies elsewhere is left alone. By default
                all that the index holds.
            jobs (`int`): processes that decode; 1, this one, by default.
            batch_size (`int`): clips that go through the model at once; 8 by default.
            on_done (`Callable`): is told the videos done and the videos to do, from time to time.

        Raises:
            ValueError: if a folder holds no videos, a number is below 1, or the model is not that of the index.
        """
        if videos is None:
            there = [path for path in self._known() if is_url(path) or os.path.exists(path)]
            return self._bring_up_to_date(there, prune=True, everywhere=True, **options)
        return self._bring_up_to_date(_sources(videos), prune=True, **options)

    def remove(self, videos: Sequence[str | Path]) -> list[str]:
        """Take videos out of the index, or all below a folder; files stay.

        Returns:
            The paths that were removed.

        Raises:
            ValueError: if one of them is not in the index.
        """
        known = self._known()
        gone: dict[str, None] = {}
        for source in map(_absolute, _sources(videos)):
            below = [path for path in known if _is_below(path, [source])]
            if not below:
                raise ValueError(f"{source} is not in the index, which holds {len(known)} videos.")
            gone |= dict.fromkeys(below)
        self._change([part.without(set(gone)) for part in self._parts])
        return list(gone)

    def search(
        self,
        text: str | None = None,
        *,
        video: Any = None,
        image: Any = None,
        top_k: int = 5,
        per_video: int | None = None,
        approximate: bool = False,
    ) -> Hits:
        """Find the clips most similar to a text, to a video or to an image.

        Args:
            text: what the clips should show.
            video: whatever `VideoReader` reads, taken whole, instead.
            image: a file, a PIL image or an array `(height, width, 3)`, instead.
            top_k: hits wanted.
            per_video: the most hits of one video; None for any number.
            approximate: look at a part of the rows only, as `build_approximate` has divided them.

        Raises:
            ValueError: if not one of text, video and image is given, a number is below 1, the index is empty, or its
                model reads no text.
            VideoDecodeError: if the video or image cannot be read.
        """
        if sum(query is not None for query in (text, video, image)) != 1:
            raise ValueError("Give one of text, video and image to search by.")
        for name, number in (("top_k", top_k), ("per_video", per_video)):
            if number is not None and number < 1:
                raise ValueError(f"{name}={number} must be at least 1.")
        if text is not None:
            query, name = self.encoder.embed_texts([text]), text
        elif video is not None:
            query, name = self.encoder.embed_video(_path_or_itself(video)), _name(video)
        else:
            query, name = self.encoder.embed_video(_as_image(image)), _name(image)
        similar, rows = self._candidates(query, top_k, per_video, approximate)
        return Hits(name, self._hits(similar, rows, top_k, per_video, is_text=text is not None), len(self))

    def nearest(
        self, queries: torch.Tensor, count: int, *, approximate: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The most similar rows to embeddings, by the whole product or approximately.

        Args:
            queries: unit vectors, float32 `(queries, dim)`.
            count: rows wanted.
            approximate: look at a part of the rows only.

        Returns:
            Cosines and numbers of rows (in `embeddings` and `clips`), `(queries, count or fewer)`, the best first.

        Raises:
            ValueError: if the index is empty, or `approximate` is asked for and was not built since the last change.
        """
        if not len(self):
            raise ValueError("The index is empty. Add videos to it first.")
        if approximate:
            return self._approximate_index().search(self._parts, queries, count)
        return exact(self._parts, queries, count)

    def build_approximate(self) -> None:
        """Divide the rows into cells, so that `approximate=True` searches look at a few of them only.

        It pays for galleries from about a million clips on. To be done again after every change.

        Raises:
            ImportError: if faiss is not installed (extra `search`).
            ValueError: if there are too few clips.
        """
        self._approximate = Approximate.build(self._parts)
        if self.folder is not None:
            self._approximate.save(self._approximate_file())

    # ---- finding ----

    def _candidates(
        self, query: torch.Tensor, top_k: int, per_video: int | None, approximate: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        count = max(CANDIDATES, top_k)
        while True:
            similar, rows = (found[0] for found in self.nearest(query, count, approximate=approximate))
            kept = sum(1 for _ in self._chosen(rows.tolist(), top_k, per_video))
            if kept == top_k or len(rows) < count:
                return similar, rows
            count *= 8  # so many windows of one video that the others come later

    def _chosen(self, rows: Sequence[int], top_k: int, per_video: int | None) -> Iterable[int]:
        """Places of the rows that become hits."""
        seen: dict[str, int] = {}
        kept = 0
        for place, row in enumerate(rows):
            if kept == top_k:
                return
            if per_video is not None:
                path = self._clip(row)[0]
                seen[path] = seen.get(path, 0) + 1
                if seen[path] > per_video:
                    continue
            kept += 1
            yield place

    def _hits(
        self, similar: torch.Tensor, rows: torch.Tensor, top_k: int, per_video: int | None, is_text: bool
    ) -> tuple[Hit, ...]:
        logits = similar.double() * self.encoder.logit_scale
        probability = (logits - logits[:CANDIDATES].logsumexp(dim=0)).exp()
        places = list(self._chosen(rows.tolist(), top_k, per_video))
        hits = [
            Hit(*self._clip(int(rows[i])), similarity=similar[i].item(), probability=probability[i].item())
            for i in places
        ]
        if is_text:
            clips = gather(self._parts, rows[places])
            scores = calibrate(similar[places], clips, self._null_embeddings(), len(self))
            hits = [
                replace(hit, z=z, share=share, chance=chance, matches=chance <= LARGEST_CHANCE)
                for hit, z, share, chance in zip(hits, *(score.tolist() for score in scores), strict=True)
            ]
        return tuple(hits)

    def _clip(self, row: int) -> tuple[str, float | None, float | None]:
        firsts = store.row_numbers(self._parts)
        owner = int(np.searchsorted(firsts, row, side="right")) - 1
        part, row = self._parts[owner], row - int(firsts[owner])
        start, end = (None if second != second else round(second, 3) for second in part.spans[row].tolist())
        return part.videos[part.video[row]].path, start, end

    def _null_embeddings(self) -> torch.Tensor:
        if self._null is None:
            captions = null_captions()
            digest = json_sha256(captions)[:12]
            file = None if self.folder is None else self.folder / f"null-captions-{digest}.safetensors"
            if file is not None and file.exists():
                with contextlib.suppress(OSError, SafetensorError, KeyError):  # a damaged one is made anew
                    self._null = load_file(file)["embeddings"]
            if self._null is None:
                self._null = self.encoder.embed_texts(captions)
                if file is not None and os.access(self.folder, os.W_OK):
                    atomic_write(file, lambda path: save_file({"embeddings": self._null}, path))
        return self._null

    def _approximate_index(self) -> Approximate:
        if self._approximate is None and self.folder is not None and self._approximate_file().exists():
            self._approximate = Approximate.load(self._approximate_file())
        if self._approximate is None:
            raise ValueError(
                "There is no approximate index of these clips, or they changed since. Build it (`build_approximate`, "
                "or `internvideo index ... --approximate`), or search exactly."
            )
        return self._approximate

    def _approximate_file(self) -> Path:
        return self.folder / f"approximate-{state_of(self._parts)}.faiss"

    # ---- changing ----

    def _bring_up_to_date(
        self,
        sources: Sequence[str],
        prune: bool,
        everywhere: bool = False,
        jobs: int = 1,
        batch_size: int = 8,
        on_done: Callable[[int, int], object] = lambda done, total: None,
    ) -> Change:
        for name, number in (("jobs", jobs), ("batch_size", batch_size)):
            if number < 1:
                raise ValueError(f"{name}={number} must be at least 1.")
        found = list(dict.fromkeys(map(_absolute, find_videos(sources)))) if sources else []
        known, done = self._known(), self._rows_of_videos()
        change, todo = Change(), {}
        renamed: dict[str, Video] = {}
        copies: list[Part] = []
        of_size: dict[int, list[Video]] = {}
        for video in known.values():
            of_size.setdefault(video.size, []).append(video)
        there = set(found)
        for path in found:
            before = known.get(path)
            try:
                size, mtime = stamp(path)
                if before is not None and before.size == size:
                    same = before.mtime == mtime or content_hash(path) == before.content
                elif before is None and (twin := _twin(path, size, of_size, done)) is not None:
                    fresh = replace(twin, path=path, mtime=mtime)
                    is_move = twin.path not in there and twin.path not in renamed and not os.path.exists(twin.path)
                    (change.moved if is_move else change.copied).append(path)
                    if is_move:
                        renamed[twin.path] = fresh
                    else:
                        copies.append(self._copy(twin.path, fresh))
                    continue
                else:
                    same = False
            except OSError as error:
                if before is not None:
                    failure = VideoDecodeError(
                        path, f"it cannot be read ({error})", "Its embeddings stay as they are."
                    )
                    change.failures.append(failure)
                    continue
                same = False  # reading it will say what is wrong
            if not same:
                todo[path] = None
                (change.new if before is None else change.changed).append(path)
                continue
            if before.mtime != mtime:
                renamed[path] = replace(before, mtime=mtime)
            missing = tuple(sorted(set(range(before.clips)) - done[path]))
            if missing:
                todo[path] = missing
            (change.new if missing else change.unchanged).append(path)
        if prune:
            # A folder that is not there at all is a mistake, or a disk that is away.
            roots = [_absolute(source) for source in sources if os.path.isdir(source)]
            change.removed = [
                path
                for path in known
                if path not in there and path not in renamed and (everywhere or _is_below(path, roots))
            ]
        stale = {*change.removed, *change.changed}
        if todo or self._recorded not in (None, self.model):
            _ = self.encoder  # refuses another model, before anything is changed
        if stale or renamed or copies:
            # On disk before anything is embedded, so that no video is ever there with two contents.
            self._change([part.without(stale).renamed(renamed) for part in self._parts] + copies)
        if todo:
            self._embed(todo, jobs, batch_size, on_done, change.failures)
        failed = {error.source for error in change.failures}
        change.new = [path for path in change.new if path not in failed]
        change.changed = [path for path in change.changed if path not in failed]
        return change

    def _embed(
        self,
        todo: dict[str, tuple[int, ...] | None],
        jobs: int,
        batch_size: int,
        on_done: Callable[[int, int], object],
        failures: list[VideoDecodeError],
    ) -> None:
        """Decode and embed the named clips of videos (None: all), keeping what is done from time to time."""
        work = _Work(self.encoder, DTYPES[self.dtype], batch_size)
        processor = self.encoder.video_processor
        task = partial(read_clips, processor=processor, cut=self.cut)
        pieces: list[tuple[str, tuple[int, ...] | None]] = []
        for path, numbers in todo.items():
            pieces += [(path, None)] if numbers is None else [(path, piece) for piece in in_pieces(numbers, processor)]
        waiting = dict.fromkeys(todo, 0)
        for path, _ in pieces:
            waiting[path] += 1
        failed: dict[str, VideoDecodeError] = {}
        contents = {path: video.content for path, video in self._known().items()}
        stopwatch = Stopwatch()
        try:
            while pieces:
                more = []
                for (path, numbers), result in map_unordered(task, pieces, jobs, name_of=lambda piece: piece[0]):
                    if isinstance(result, Clips) and contents.setdefault(path, result.content) != result.content:
                        cause = "its content changed while it was read"
                        result = VideoDecodeError(path, cause, "Run the same again when it is whole.")
                    if isinstance(result, Clips):
                        work.add(path, result)
                        if numbers is None:
                            rest = in_pieces(range(len(result.numbers), len(result.spans)), processor)
                            more += [(path, piece) for piece in rest]
                            waiting[path] += len(rest)
                    elif isinstance(result, VideoDecodeError):
                        failed.setdefault(path, VideoDecodeError(path, result.cause or str(result), result.advice))
                    else:
                        failed.setdefault(
                            path, VideoDecodeError(path, f"it cannot be read ({result})", "Check the file.")
                        )
                    waiting[path] -= 1
                    on_done(sum(left == 0 for left in waiting.values()), len(waiting))
                    if self.folder is not None and stopwatch.is_due():
                        self._take_over(work)
                pieces = more
            work.finish()
        finally:
            # After a kill, too: what was embedded stays.
            self._take_over(work)
        failures += failed.values()
        self._change(store.compacted(self._parts))
        if len(self) and self.folder is not None and self.encoder.text_problem is None:
            self._null_embeddings()

    def _take_over(self, work: "_Work") -> None:
        if (part := work.part()) is not None:
            self._change([*self._parts, part])

    def _copy(self, path: str, fresh: Video) -> Part:
        others = [part.without({v.path for v in part.videos if v.path != path}) for part in self._parts]
        return store.merged([part for part in others if len(part)]).renamed({path: fresh})

    def _change(self, parts: list[Part]) -> None:
        self._parts = [part for part in parts if len(part)]
        self._approximate = None
        self._keep()

    def _keep(self) -> None:
        """Bring the folder up to date; an index that never held anything leaves none."""
        if self.folder is None or not (self._parts or (self.folder / store.HEADER).exists()):
            return
        header = {
            # A name that nobody has compared with the embeddings yet does not take the place of the one that was.
            "model": self.model if self._encoder is not None or self._recorded is None else self._recorded,
            "fingerprint": self.fingerprint,
            "window": self.cut.window,
            "stride": self.cut.stride,
            "dtype": self.dtype,
            "videos": len(self._known()),
            "clips": len(self),
        }
        store.write(self.folder, header, self._parts)
        current = self._approximate_file()
        for file in self.folder.glob("approximate-*.faiss"):
            if file != current:
                file.unlink(missing_ok=True)

    def _settle_in(self, folder: Path) -> None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            holds = "an index: open it with VideoIndex.load" if (folder / store.HEADER).exists() else "something else"
            raise ValueError(f"{folder} holds {holds}. Name a new folder for a new index.")
        self.folder = folder

    def _known(self) -> dict[str, Video]:
        return {video.path: video for part in self._parts for video in part.videos}

    def _rows_of_videos(self) -> dict[str, set[int]]:
        """Which clips of each video are there: not all where a call was killed, or a part could not be read."""
        done: dict[str, set[int]] = {}
        for part in self._parts:
            paths = [video.path for video in part.videos]
            for video, number in zip(part.video.tolist(), part.number.tolist(), strict=True):
                done.setdefault(paths[video], set()).add(number)
        return done


class _Work:
    """Clips on their way from pixels to rows, across videos, so that batches are full."""

    def __init__(self, encoder: Encoder, dtype: torch.dtype, batch_size: int):
        self._encoder, self._dtype, self._batch_size = encoder, dtype, batch_size
        self._waiting: list[tuple[Video, int, np.ndarray, np.ndarray]] = []
        self._done: list[tuple[Video, int, np.ndarray]] = []
        self._rows: list[torch.Tensor] = []

    def add(self, path: str, clips: Clips) -> None:
        """Take over clips, and embed as soon as a batch is full."""
        video = Video(path, clips.size, clips.mtime, clips.content, len(clips.spans))
        for number, pixels in zip(clips.numbers, clips.pixels, strict=True):
            self._waiting.append((video, number, clips.spans[number], pixels))
        while len(self._waiting) >= self._batch_size:
            self._embed_batch()

    def finish(self) -> None:
        """Embed what is left."""
        while self._waiting:
            self._embed_batch()

    def part(self) -> Part | None:
        """What is embedded and was not taken yet, as rows of an index."""
        if not self._rows:
            return None
        videos = {video.path: video for video, _, _ in self._done}
        place = {path: i for i, path in enumerate(videos)}
        part = Part(
            list(videos.values()),
            torch.cat(self._rows).to(self._dtype),
            torch.from_numpy(np.stack([span for _, _, span in self._done])),
            torch.tensor([place[video.path] for video, _, _ in self._done]),
            torch.tensor([number for _, number, _ in self._done]),
        )
        self._done, self._rows = [], []
        return part

    def _embed_batch(self) -> None:
        batch, self._waiting = self._waiting[: self._batch_size], self._waiting[self._batch_size :]
        rows = self._encoder.embed_clips(np.stack([pixels for _, _, _, pixels in batch]))
        self._rows.append(rows)
        self._done += [(video, number, span) for video, number, span, _ in batch]


def _twin(path: str, size: int, of_size: dict[int, list[Video]], done: dict[str, set[int]]) -> Video | None:
    """A video of the index with the same content, all of whose clips are there."""
    candidates = [video for video in of_size.get(size, ()) if size >= 0 and len(done[video.path]) == video.clips]
    if not candidates:
        return None
    content = content_hash(path)
    same = [video for video in candidates if video.content == content]
    # One that is gone first: then it was moved, and not copied.
    return min(same, key=lambda video: os.path.exists(video.path), default=None)


def _sources(videos: Sequence[str | Path]) -> list[str]:
    return [str(videos)] if isinstance(videos, str | Path) else [str(video) for video in videos]


def _absolute(video: str) -> str:
    return video if is_url(video) else os.path.abspath(os.path.expanduser(video))


def _is_below(path: str, roots: Sequence[str]) -> bool:
    return any(path == root or path.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def _path_or_itself(video: Any) -> Any:
    return str(video) if isinstance(video, Path) else video


def _name(source: Any) -> str:
    return describe(source) if isinstance(source, str | Path | bytes) or hasattr(source, "shape") else "<image>"


def _as_image(image: Any) -> Any:
    if isinstance(image, str | Path) and not is_url(str(image)):
        if Path(image).is_file() and not is_image_file(Path(image)):
            raise ValueError(f"{image} is no image file. To search by a video, say so.")
        return str(image)
    return image
