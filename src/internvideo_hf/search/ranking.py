"""From the embedding of a query to hits with calibrated scores."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from internvideo_hf.search.calibration import LARGEST_CHANCE, calibrate
from internvideo_hf.search.hits import Hit
from internvideo_hf.search.stores.base import VectorStore
from internvideo_hf.search.stores.segments import Clip
from internvideo_hf.search.where import Where

CANDIDATES = 1000  # the most similar clips, which share the probability


def rank(
    store: VectorStore,
    query: torch.Tensor,
    logit_scale: float,
    null: torch.Tensor | None = None,
    *,
    top_k: int,
    per_video: int | None = None,
    approximate: bool = False,
    least_cosine: float | None = None,
    where: Where | None = None,
) -> tuple[Hit, ...]:
    """Find the clips most similar to a query.

    Args:
        store: the gallery.
        query: unit vector, float32 `(1, dim)`.
        logit_scale: factor of cosines before the softmax.
        null: embeddings of the null captions, unit vectors `(captions, dim)`; None leaves scores uncalibrated.
        top_k: the number of hits.
        per_video: the most hits of one video; None for any number.
        approximate: compare a part of the rows only.
        least_cosine: the least cosine of a match; None for the rule of `LARGEST_CHANCE`.
        where: clips to compare; None for all.

    Raises:
        ValueError: if the store is empty, or the approximate index was not built since the last change.
    """
    count = max(CANDIDATES, top_k)
    while True:
        similar, rows = (found[0] for found in store.nearest(query, count, approximate=approximate, where=where))
        clips = store.clips(rows)
        places = list(_chosen(clips, top_k, per_video))
        if len(places) == top_k or len(rows) < count:
            break
        count *= 8  # so many windows of one video that the other videos come later
    logits = similar.double() * logit_scale
    probability = (logits - logits[:CANDIDATES].logsumexp(dim=0)).exp()
    hits = [Hit(*clips[i], similarity=similar[i].item(), probability=probability[i].item()) for i in places]
    if null is not None and hits:
        scores = calibrate(similar[places], store.gather(rows[places]), null, store.count(where))
        hits = [
            replace(hit, z=z, share=share, chance=chance, matches=_is_match(hit, chance, least_cosine))
            for hit, z, share, chance in zip(hits, *(score.tolist() for score in scores), strict=True)
        ]
    return tuple(hits)


def _is_match(hit: Hit, chance: float, least_cosine: float | None) -> bool:
    return chance <= LARGEST_CHANCE if least_cosine is None else hit.similarity >= least_cosine


def _chosen(clips: Sequence[Clip], top_k: int, per_video: int | None) -> Iterator[int]:
    """Yield the places of the clips that become hits."""
    seen: dict[str, int] = {}
    chosen = 0
    for place, (path, _, _) in enumerate(clips):
        if chosen == top_k:
            return
        seen[path] = seen.get(path, 0) + 1
        if per_video is None or seen[path] <= per_video:
            chosen += 1
            yield place
