"""`VideoIndex`: the embeddings of a gallery of videos, kept up to date, and search in it."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from internvideo_hf.data.contents import exists
from internvideo_hf.data.executors.parts import Engine, PartFolder
from internvideo_hf.data.executors.processes import TIMEOUT, time_limit
from internvideo_hf.data.failures import FailureTable
from internvideo_hf.data.folders import find_videos, is_folder
from internvideo_hf.inference.embedder import Embedder
from internvideo_hf.search.calibration import Calibration
from internvideo_hf.search.clips import Windowing
from internvideo_hf.search.embedding import embed_videos
from internvideo_hf.search.hits import Hits
from internvideo_hf.search.ranking import rank
from internvideo_hf.search.sharding import ShardSettings, embed_on_engine
from internvideo_hf.search.stores.base import Info, Known
from internvideo_hf.search.stores.local import LocalStore
from internvideo_hf.search.stores.opening import load_store, new_store
from internvideo_hf.search.stores.segments import SEGMENT_ROWS, Clip
from internvideo_hf.search.sync import Change, Todo, execute, plan, survey
from internvideo_hf.search.where import parse
from internvideo_hf.utils import devices
from internvideo_hf.utils.files import MIN_ROOM, check_output
from internvideo_hf.utils.fingerprints import json_sha256, text_sha256
from internvideo_hf.utils.names import check_name, lookup
from internvideo_hf.utils.storage import AnyPath
from internvideo_hf.video.errors import VideoDecodeError
from internvideo_hf.video.sources import describe, is_url
from internvideo_hf.video.stills import is_image_file

DTYPES = {"float32": torch.float32, "float16": torch.float16}
Progress = Callable[[int, int], object]
_ROW_BYTES = 1 << 12  # of a clip on disk, about, for the check of the room


class VideoIndex:
    """A gallery of videos, whole or in windows, searched by text, by video or by image.

    With a folder, every change is on disk when the call returns. While videos are embedded, the index is saved every
    twenty seconds; an interrupted call resumes when it is repeated. Without a folder, the index is in memory until
    `save`. One process at a time may change a folder, and the error of a second one names it; any number may search
    in it.

    >>> index = VideoIndex("internvideo-mm-l14", window=8, folder="holidays.index")
    >>> index.update(["holidays"]).failures
    []
    >>> index.search("a dog catches a frisbee")[0].video
    '/home/me/holidays/beach.mp4'

    Args:
        model: folder or Hub name of any model of this package, or of a video encoder of others (`inference.stock`);
            without a text encoder, search is by video and image.
        window: seconds of a window; None takes every video whole.
        stride: seconds from the start of one window to the start of the next; the window by default.
        dtype: number type of the embeddings, "float32" or "float16"; the latter takes half the space and changes
            cosines by some 1e-5.
        folder: where the index is kept, also in an object store (`s3://bucket/holidays.index`); must not hold one. Or
            `lance:PATH` (LanceDB, extra `lance`), or `postgresql://user@host/database#schema` (pgvector, extra
            `postgres`).
        device: where the model runs; the accelerator if there is one.
        model_dtype: number type in which the model runs, such as "bfloat16"; as saved if None. The index keeps it.

    Raises:
        ValueError: if an option is invalid, or `folder` is not empty.
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
        model_dtype: str | None = None,
    ):
        lookup(DTYPES, dtype, "dtype")
        if model_dtype is not None:
            check_name(model_dtype, devices.NUMBER_TYPES, "model_dtype")
        self.windowing, self.dtype = Windowing(window, stride), dtype
        # Valid from any working directory; a name on the Hub stays as it is.
        self.model = os.path.abspath(model) if Path(model).is_dir() else str(model)
        self._device, self._model_dtype = device, model_dtype
        self._encoder: Embedder | None = None
        settings = {"model": self.model, "fingerprint": None, "window": window, "stride": stride, "dtype": dtype}
        settings |= {} if model_dtype is None else {"model_dtype": model_dtype}
        self.store = new_store(settings, folder)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        model: str | Path | None = None,
        device: str | torch.device | None = None,
        model_dtype: str | None = None,
    ) -> "VideoIndex":
        """Open an index; its embeddings are mapped from disk, its model is loaded when needed.

        Args:
            folder: of the index, or the address of its store.
            model: where its model is now, if it moved; another model is refused when it is loaded.
            device: where the model runs.
            model_dtype: number type in which the model runs; that of the index if None.

        Raises:
            ValueError: if there is no index, or it is damaged.
        """
        store = load_store(folder)
        options = {name: store.settings[name] for name in ("window", "stride", "dtype")}
        options["model_dtype"] = model_dtype or store.settings.get("model_dtype")
        index = cls(store.settings["model"] if model is None else model, device=device, **options)
        index.store = store
        return index

    def save(self, folder: str | Path) -> None:
        """Write the index to a new folder, or to another store, where it is kept from then on.

        Args:
            folder: a new folder, or the address of a store.

        Raises:
            ValueError: if the folder is not empty.
        """
        there = new_store(self.store.settings, folder)
        with there.writing():
            for segment in self.store.rows():
                there.upsert(segment)
            there.compact()
        self.store = there

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.store)

    def refresh(self) -> None:
        """See what other processes have changed since this index was opened; cheap where nothing has.

        One in an object store stays as it is.

        Raises:
            ValueError: if there is no index now, or one of other settings; it stays as it is.
        """
        self.store.refresh()

    @property
    def folder(self) -> AnyPath | None:
        """Folder of the index; None in memory, in LanceDB and in a database."""
        return self.store.folder if isinstance(self.store, LocalStore) else None

    @property
    def info(self) -> Info:
        """Numbers of videos and clips."""
        return self.store.info()

    @property
    def place(self) -> str | None:
        """Folder or address of the index, without a password; None in memory."""
        return self.store.place

    @property
    def fingerprint(self) -> str | None:
        """Hash of the model and its processor; None before the first video."""
        fingerprint: str | None = self.store.settings["fingerprint"]
        return fingerprint

    @property
    def videos(self) -> list[str]:
        """Paths and addresses of all videos."""
        return list(self.store.known().videos)

    @property
    def embeddings(self) -> torch.Tensor:
        """All embeddings, one row per clip, `(clips, dim)`; this reads the whole index."""
        found = [segment.embeddings for segment in self.store.rows()]
        return torch.cat(found) if found else torch.empty(0, 0)

    @property
    def clips(self) -> list[Clip]:
        """Video, begin and end in seconds of each row of `embeddings`; None without times."""
        return [clip for segment in self.store.rows() for clip in segment.clips()]

    @property
    def encoder(self) -> Embedder:
        """The model, loaded at first use.

        Raises:
            ValueError: if it is not the model of the index.
        """
        if self._encoder is None:
            encoder, settings = Embedder(self.model, self._device, dtype=self._model_dtype), self.store.settings
            if self.fingerprint is not None and encoder.fingerprint != self.fingerprint:
                made_with = "" if settings["model"] == self.model else f" (it names {settings['model']})"
                raise ValueError(
                    f"The index was made with another model or processor than {self.model}{made_with}: its embeddings "
                    f"are of {self.fingerprint}, this one's would be of {encoder.fingerprint}, and no cosine between "
                    "the two means anything. Name the model of the index, or build a new index with this one."
                )
            self._encoder = encoder
            # Now that the model has been compared with the embeddings, its name may replace the recorded one.
            settings.update(model=self.model, fingerprint=encoder.fingerprint)
        return self._encoder

    @property
    def remark(self) -> str:
        """How clips get their frames where the model's processor does not say it; "" if it does, or is not loaded."""
        return "" if self._encoder is None else getattr(self._encoder.video_processor, "remark", "")

    def add(
        self,
        videos: Sequence[str | Path],
        *,
        jobs: int = 1,
        engine: Engine | None = None,
        timeout: float | None = None,
        batch_size: int = 8,
        on_done: Progress = lambda done, total: None,
    ) -> Change:
        """Embed new videos, and those whose content changed; as `update`, but nothing is removed.

        Args:
            videos: as in `update`.
            jobs: processes that decode.
            engine: as in `update`.
            timeout: as in `update`.
            batch_size: clips per forward pass.
            on_done: progress callback `(done, total)`, in videos.
        """
        _check_numbers(jobs=jobs, batch_size=batch_size)
        with self.store.writing():
            embed = self._embedding(engine, jobs, timeout, batch_size, on_done)
            metadata: dict[str, Any] = {}
            found = find_videos(_strings(videos), metadata=metadata)
            return self._sync(self.store.known(), found, metadata, (), embed)

    def update(
        self,
        videos: Sequence[str | Path] | None = None,
        *,
        jobs: int = 1,
        engine: Engine | None = None,
        timeout: float | None = None,
        batch_size: int = 8,
        retry: bool = False,
        on_done: Progress = lambda done, total: None,
    ) -> Change:
        """Bring the index up to date with files and folders, embedding only what changed.

        A file counts as unchanged if its size and modification time are the same. If only the time differs, or a file
        of the same size is new, the whole content decides: a file that was moved or touched keeps its embeddings.
        Unreadable files are left out, and tried again by the next call, but for those that kill or hang their decoder.
        All are rows of a file beside the index, see `failures.FailureTable`.

        Args:
            videos: files, addresses, folders (searched recursively) and manifests, whose other columns become
                metadata of the videos, for `search(where=)`. Indexed videos below one of these
                folders that are gone are removed; those elsewhere stay. By default all videos of the index.
            jobs: processes that decode; 1 decodes in this process, which a video may kill or hang, unless there is a
                `timeout`.
            engine: runs models and decoders in place of this process and `jobs`; the index gets the same rows.
            timeout: seconds after which a decoder counts as hung, and its video as unreadable; 600 by default, and
                `math.inf` for no limit.
            batch_size: clips per forward pass.
            retry: also try again what has killed or hung its decoder.
            on_done: progress callback `(done, total)`, in videos.

        Raises:
            ValueError: if a folder holds no videos, a number is below 1, or the model is not that of the index.
            LockedError: if another process changes the index.
            DiskFullError: if there is no room for the new rows; those that were written stay.
        """
        _check_numbers(jobs=jobs, batch_size=batch_size)
        with self.store.writing():
            known = self.store.known()
            prune: Collection[str] = known.videos
            if videos is None:
                sources = [path for path in known.videos if exists(path)]
            else:
                sources = _strings(videos)
                # A folder that does not exist is a mistake, or on a disk that is not mounted: nothing is removed for
                # it.
                roots = [_absolute(source) for source in sources if is_folder(source)]
                prune = {path for path in known.videos if _is_below(path, roots)}
            embed = self._embedding(engine, jobs, timeout, batch_size, on_done)
            metadata: dict[str, Any] = {}
            found = find_videos(sources, metadata=metadata)
            return self._sync(known, found, metadata, prune, embed, retry=retry)

    def remove(self, videos: Sequence[str | Path]) -> list[str]:
        """Remove videos from the index, or all below a folder; files stay.

        Args:
            videos: files, addresses and folders.

        Returns:
            The paths that were removed.

        Raises:
            ValueError: if one of them is not in the index.
        """
        with self.store.writing():
            known = self.videos
            removed: dict[str, None] = {}
            for source in map(_absolute, _strings(videos)):
                below = [path for path in known if _is_below(path, [source])]
                if not below:
                    raise ValueError(f"{source} is not in the index, which holds {len(known)} videos.")
                removed |= dict.fromkeys(below)
            self.store.delete(removed)
            return list(removed)

    def search(
        self,
        text: str | None = None,
        *,
        video: Any = None,
        image: Any = None,
        top_k: int = 5,
        per_video: int | None = None,
        approximate: bool = False,
        where: str | None = None,
    ) -> Hits:
        """Find the clips most similar to a text, to a video or to an image.

        Args:
            text: what the clips should show.
            video: the query instead: anything that `VideoReader` reads, taken whole.
            image: the query instead: a file, a PIL image or an array `(height, width, 3)`.
            top_k: the number of hits.
            per_video: the most hits of one video; None for any number.
            approximate: compare a part of the rows only, see `build_approximate`.
            where: condition on the clips to search in, such as `camera = 'door' and start > 60`, see `search.where`.

        Raises:
            WhereError: if the condition cannot be read.
            ValueError: if not exactly one of text, video and image is given, a number is below 1, the index is empty,
                or its model reads no text.
            VideoDecodeError: if the video or image cannot be read.
        """
        if sum(query is not None for query in (text, video, image)) != 1:
            raise ValueError("Give one of text, video and image to search by.")
        _check_numbers(top_k=top_k, per_video=per_video)
        if where is not None:
            parse(where, self.store.columns())  # refused before a model is loaded
        if text is not None:
            query, name = self.encoder.embed_texts([text]), text
        elif video is not None:
            query, name = self.encoder.embed_video(str(video) if isinstance(video, Path) else video), describe(video)
        else:
            query, name = self.encoder.embed_video(_as_image(image)), describe(image)
        options: dict[str, Any] = {"top_k": top_k, "per_video": per_video, "approximate": approximate, "where": where}
        return self.search_embedding(query, name, is_text=text is not None, **options)

    def search_embedding(
        self,
        query: torch.Tensor,
        name: str,
        *,
        is_text: bool = False,
        top_k: int = 5,
        per_video: int | None = None,
        approximate: bool = False,
        where: str | None = None,
    ) -> Hits:
        """Find the clips most similar to the embedding of a text or a video by the model of the index; see `search`.

        Args:
            query: unit vector, `(1, dim)`.
            name: of the query, for `Hits.query`.
            is_text: the query is a text, whose hits are compared with those of null captions.
            top_k: as in `search`.
            per_video: the same.
            approximate: the same.
            where: the same.
        """
        _check_numbers(top_k=top_k, per_video=per_video)
        condition = None if where is None else parse(where, self.store.columns())
        search = partial(rank, self.store, query, self.encoder.logit_scale)
        options: dict[str, Any] = {"top_k": top_k, "per_video": per_video, "approximate": approximate}
        options["where"] = condition
        clips = self.store.count(condition)
        if not is_text:
            return Hits(name, search(**options), clips)
        calibration = self._calibration()
        found = search(self._null_embeddings(), **options, least_cosine=calibration.cosine)
        return Hits(name, found, clips, calibration)

    def nearest(
        self, queries: torch.Tensor, count: int, *, approximate: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and numbers of the rows that are most similar to some queries, see `VectorStore.nearest`.

        In a folder or in memory, the numbers are places in `embeddings` and `clips`.
        """
        return self.store.nearest(queries, count, approximate=approximate)

    def build_approximate(self) -> None:
        """Divide the rows into cells, so that searches with `approximate=True` look at a few of them only.

        This pays from about a million clips on. Repeat it after every change.

        Raises:
            ImportError: if faiss is not installed (extra `search`).
            ValueError: if there are too few clips.
        """
        with self.store.writing():
            self.store.build_approximate()

    def _sync(
        self,
        known: Known,
        videos: Sequence[str],
        metadata: Mapping[str, Mapping[str, Any]],
        prune: Collection[str],
        embed: Callable[[Mapping[str, Todo], FailureTable], list[VideoDecodeError]],
        *,
        retry: bool = False,
    ) -> Change:
        said = {_absolute(video): values for video, values in metadata.items()}
        # What is known of each file goes when the plan is made: there may be millions.
        changes = plan(known, survey(dict.fromkeys(map(_absolute, videos)), known), prune, said)
        place = None if self.place is None else self._beside(".failures.jsonl")
        with FailureTable(place, "index", retry=retry) as failures:
            rest, held = failures.divide(changes.embed)
            changes.change.failures += held.values()
            changes.embed = {path: changes.embed[path] for path in rest}
            if changes.embed or self.store.settings["model"] != self.model:
                _ = self.encoder  # refuses another model before anything is changed
            if changes.embed and self.folder is not None:
                check_output(self.folder, MIN_ROOM + _ROW_BYTES * (len(changes.embed) + min(len(self), SEGMENT_ROWS)))
            change = execute(changes, self.store, lambda todo: embed(todo, failures))
            failures.forget(change.removed)
        if changes.embed and len(self) and self.place is not None and self.encoder.text_problem is None:
            self._null_embeddings()
        return change

    def _embedding(
        self, engine: Engine | None, jobs: int, timeout: float | None, batch_size: int, on_done: Progress
    ) -> Callable[[Mapping[str, Todo], FailureTable], list[VideoDecodeError]]:
        """Return what embeds clips into the store."""
        if engine is not None and self.place is None:
            raise ValueError("An index in memory has no place for what workers compute. Give it a folder.")

        def embed(todo: Mapping[str, Todo], failures: FailureTable) -> list[VideoDecodeError]:
            calls: dict[str, Any] = {"on_done": on_done, "on_failed": failures.add}
            if engine is None:
                options: dict[str, Any] = {"workers": jobs, "timeout": timeout, "batch_size": batch_size}
                return embed_videos(todo, self.store, self.encoder, self.windowing, **calls, **options)
            encoder, limit = self.encoder, time_limit(timeout, TIMEOUT)
            settings = ShardSettings(
                self.model, encoder.fingerprint, self.windowing, batch_size, self._model_dtype, limit
            )
            parts = PartFolder(self._beside(".parts", is_hidden=True))
            return embed_on_engine(todo, self.store, encoder, settings, engine=engine, parts=parts, **calls)

        return embed

    def _beside(self, suffix: str, *, is_hidden: bool = False) -> AnyPath:
        """Return the path of what lies beside the index, in any working directory; of a database, in this one.

        Args:
            suffix: behind the name of the index.
            is_hidden: it is of no interest to users.
        """
        dot = "." if is_hidden else ""
        if self.folder is not None:
            folder = self.folder.absolute()
            return folder.parent / f"{dot}{folder.name}{suffix}"
        return Path(f"{dot}internvideo-{text_sha256(str(self.place))[:12]}{suffix}").absolute()

    def _calibration(self) -> Calibration:
        return Calibration.of_model(getattr(self.encoder.processor, "null_captions", None))

    def _null_embeddings(self) -> torch.Tensor:
        captions = self._calibration().captions
        name = f"null-captions-{json_sha256(captions)[:12]}"
        return self.store.cached(name, lambda: self.encoder.embed_texts(captions))


def _check_numbers(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{name}={number} must be at least 1.")


def _strings(videos: Sequence[str | Path]) -> list[str]:
    return [str(videos)] if isinstance(videos, str | Path) else [str(video) for video in videos]


def _absolute(video: str) -> str:
    path = video if is_url(video) else os.path.abspath(os.path.expanduser(video))
    return video if path == video else path  # the same text once: there may be millions


def _is_below(path: str, roots: Sequence[str]) -> bool:
    return any(path == root or path.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def _as_image(image: Any) -> Any:
    if isinstance(image, str | Path) and not is_url(str(image)):
        if Path(image).is_file() and not is_image_file(Path(image)):
            raise ValueError(f"{image} is not an image file. Search by video with it instead.")
        return str(image)
    return image
