"""What answers requests: decoders, the model's thread, and the index, put together."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.search.hits import Hits
from internvideo_hf.serving.batching import Batcher
from internvideo_hf.serving.errors import RequestError
from internvideo_hf.serving.limits import Access, Limits
from internvideo_hf.serving.metrics import Metrics
from internvideo_hf.serving.models import CAPTION, CLASSIFY, EMBEDDINGS, SEARCH, ServedModel, same_shapes
from internvideo_hf.serving.pool import Pool, prepare_decoder
from internvideo_hf.serving.sources import Source, fetch, is_remote
from internvideo_hf.utils.devices import default_workers
from internvideo_hf.video.errors import VideoDecodeError

_log = logging.getLogger(__name__)
FETCHES = 32
"""Videos that are fetched, or lie on the disk for a decoder, at once."""
FETCHES_OF_REQUEST = 4
"""How many of them one request may have: slow servers of one must not keep the others waiting."""
DECODED = 64
"""Videos that are decoded, or wait for the model, at once."""


class Service:
    """Answers requests with one model.

    Args:
        model: the model.
        limits: of requests.
        access: what requests may name.
        metrics: figures to count.
        decoders: processes; one per core, at most 8, if None. Of a model that finds actions one, which holds it.
        batch_size: clips per forward pass; those of one video go together in any case.
    """

    def __init__(
        self,
        model: ServedModel,
        limits: Limits,
        access: Access,
        metrics: Metrics,
        decoders: int | None = None,
        batch_size: int = 8,
    ):
        self.model, self.limits, self.access, self.metrics = model, limits, access, metrics
        if model.localizing is not None:
            self._pool = Pool(1, partial(model.localizing.prepare, max_memory=limits.max_memory))
        else:
            count = max(1, default_workers(decoders))
            self._pool = Pool(count, partial(prepare_decoder, max_memory=limits.max_memory))
        self._batcher = Batcher(batch_size, metrics.batches.observe)
        self._searching = ThreadPoolExecutor(1, "search")
        self._fetching = ThreadPoolExecutor(FETCHES, "fetch")
        self._on_disk, self._in_memory = asyncio.Semaphore(FETCHES), asyncio.Semaphore(DECODED)

    async def start(self) -> None:
        """Start the decoders, and compute what the first search would wait for.

        Raises:
            ValueError: if the model of a process cannot be loaded.
        """
        await self._pool.start()
        if self.model.index is not None and self.model.embedder is not None and not self.model.embedder.text_problem:
            await self.search("a video", None, {"top_k": 1})

    def stop(self) -> None:
        """End processes and threads."""
        self._pool.stop()
        self._batcher.stop()
        self._searching.shutdown()
        self._fetching.shutdown(wait=False, cancel_futures=True)

    def require(self, ability: str) -> None:
        """Refuse a request for what the model cannot do.

        Args:
            ability: of `models.ABILITIES`.

        Raises:
            RequestError: naming what it can do.
        """
        abilities = self.model.abilities
        if ability not in abilities:
            index = " An index is given by --index." if ability == SEARCH else ""
            raise RequestError(
                f"{self.model.name}, {self.model.kind}, has no {ability}; it has {', '.join(abilities)}.{index}",
                code="model_lacks_ability",
            )

    async def embed_videos(self, sources: Sequence[Source]) -> list[Tensor]:
        """Return the unit vectors of videos, `(dim,)` each.

        Raises:
            VideoDecodeError: if one cannot be read.
        """
        turns = asyncio.Semaphore(FETCHES_OF_REQUEST)
        return await self._all([self._embed(source, turns) for source in sources])

    async def embed_texts(self, texts: Sequence[str]) -> list[Tensor]:
        """Return the unit vectors of texts, `(dim,)` each.

        Raises:
            ValueError: if the model embeds no texts, or one is empty or too long.
        """
        return list(await self._batcher.run("texts", self.model.embed_texts, texts)) if texts else []

    async def classify(self, sources: Sequence[Source], options: dict[str, Any]) -> list[Any]:
        """Return the best labels of videos.

        Args:
            sources: the videos.
            options: of a call of the pipeline; see `check_classify`.

        Raises:
            VideoDecodeError: if a video cannot be read.
            ValueError: if an option is invalid.
        """
        return await self._answer(CLASSIFY, sources, options)

    def check_classify(self, labels: Sequence[str] | None, template: str | None, top_k: int) -> dict[str, Any]:
        """Return the options of `classify`.

        Args:
            labels: to choose from; None for the model's own.
            template: the sentence around each of them.
            top_k: number of labels.

        Raises:
            RequestError: if the model takes no labels, or needs some.
            ValueError: if they are invalid.
        """
        options: dict[str, Any] = {"top_k": top_k}
        if self.model.classifier is not None:
            if labels is not None or template is not None:
                classes = len(classes_of(self.model.classifier.model.config))
                raise RequestError(
                    f"{self.model.name} is {self.model.kind} with {classes} labels of its own. Leave out labels and "
                    "template, or ask a model of video and text.",
                    param="labels",
                )
        elif labels is None:
            raise RequestError(f"{self.model.name} has no labels of its own. Give some in labels.", param="labels")
        else:
            options["candidate_labels"] = tuple(labels)
            options |= {} if template is None else {"hypothesis_template": template}
        self.model.pipeline(CLASSIFY).check_options(**options)
        return options

    async def caption(self, sources: Sequence[Source], options: dict[str, Any]) -> list[Any]:
        """Return captions of videos, as the pipeline does.

        Args:
            sources: the videos.
            options: of a call of the pipeline.

        Raises:
            VideoDecodeError: if a video cannot be read.
            ValueError: if an option is invalid.
        """
        self.model.pipeline(CAPTION).check_options(**options)
        return await self._answer(CAPTION, sources, options)

    async def localize(self, sources: Sequence[Source], top_k: int, threshold: float) -> list[dict[str, Any]]:
        """Return the actions of videos.

        Args:
            sources: the videos.
            top_k: number of actions of each.
            threshold: least score, 0-1.

        Raises:
            VideoDecodeError: if a video cannot be read.
        """
        assert self.model.localizing is not None
        turns = asyncio.Semaphore(FETCHES_OF_REQUEST)
        found = await self._all([self._read(self.model.localizing, source, turns) for source in sources])
        return [actions.best(top_k, threshold).to_dict() for actions in found]

    async def search(self, text: str | None, source: Source | None, options: dict[str, Any]) -> Hits:
        """Search in the index by a text or a video.

        Args:
            text: the query; None for a video.
            source: the query; None for a text.
            options: of `VideoIndex.search_embedding`.

        Raises:
            VideoDecodeError: if the video cannot be read.
            ValueError: if an option or the text is invalid.
        """
        assert self.model.index is not None
        if text is not None:
            (query,) = await self.embed_texts([text])
        else:
            assert source is not None
            query = await self._embed(source, asyncio.Semaphore(1))
        name = source.name if source is not None else str(text)
        search = partial(self._search, query[None], name, is_text=source is None, **options)
        return await asyncio.get_running_loop().run_in_executor(self._searching, search)

    def _search(self, query: Tensor, name: str, **options: Any) -> Hits:
        assert self.model.index is not None
        try:
            self.model.index.refresh()
        except ValueError as error:
            _log.error("The index stays as it was: %s", error)
        return self.model.index.search_embedding(query, name, **options)

    async def _answer(self, ability: str, sources: Sequence[Source], options: dict[str, Any]) -> list[Any]:
        known = tuple(options.items())
        work = partial(self.model.answer, ability, known)
        turns = asyncio.Semaphore(FETCHES_OF_REQUEST)
        return await self._all([self._run(ability, source, turns, (ability, known), work) for source in sources])

    async def _embed(self, source: Source, turns: asyncio.Semaphore) -> Tensor:
        vector: Tensor = await self._run(EMBEDDINGS, source, turns, (EMBEDDINGS,), self.model.embed)
        return vector

    async def _run(
        self, ability: str, source: Source, turns: asyncio.Semaphore, key: tuple[Any, ...], work: Any
    ) -> Any:
        async with AsyncExitStack() as place:
            inputs = await self._read(self.model.reading(ability), source, turns, place)
            shapes = same_shapes(inputs)
            return await self._batcher.run((*key, shapes), work, inputs, max(shape[0] for shape in shapes))

    async def _read(
        self, reading: Any, source: Source, turns: asyncio.Semaphore, place: AsyncExitStack | None = None
    ) -> Any:
        """Return what a decoder makes of a video.

        Args:
            reading: see `models.Reading`.
            source: the video.
            turns: for the videos that its request fetches.
            place: takes the video's place in memory, which it has until the model has answered.
        """
        task = partial(reading, limits=self.limits)
        # What decodes a whole video takes as long as the request may.
        timeout = self.limits.timeout if self.model.localizing is not None else self.limits.video_timeout
        begin = time.perf_counter()
        try:
            async with self._local(source, turns) as local:
                if place is not None:
                    await place.enter_async_context(self._in_memory)
                found = await self._pool.run(task, local, source.name, timeout)
        except VideoDecodeError:
            self.metrics.videos.labels("unreadable").inc()
            raise
        self.metrics.videos.labels("read").inc()
        self.metrics.reading.observe(time.perf_counter() - begin)
        return found

    @asynccontextmanager
    async def _local(self, source: Source, turns: asyncio.Semaphore) -> AsyncIterator[Source]:
        """Fetch a video that has an address, and delete it when it is decoded."""
        if not is_remote(source):
            yield source
            return
        async with turns, self._on_disk:
            fetching = partial(fetch, source, self.access, self.limits)
            local = await asyncio.get_running_loop().run_in_executor(self._fetching, fetching)
            try:
                yield local
            finally:
                Path(local.address).unlink(missing_ok=True)

    async def _all(self, calls: Sequence[Any]) -> list[Any]:
        """Await all; the first failure ends the others."""
        tasks = [asyncio.ensure_future(call) for call in calls]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
