"""Scores of published evaluations, from arrays.

Ranks are those of the best true item of a query, from 0 in arrays and from 1 in what is told. A tie counts against the
model: an item as similar as the true one comes before it, so that a model that says the same of all items is right
about none, and no score depends on an order of sorting. The original's single-caption metric counts a query with ties
several times instead, once for each place that its true item could have; `ties="each"` is that.

A matrix of similarities is gone through in blocks: beside it, there are never more than some tens of megabytes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from internvideo_hf.utils.names import lookup

RANKS = (1, 5, 10)
_NUMBERS_AT_ONCE = 2**20


def _place_after_ties(block: np.ndarray, best: np.ndarray, equal_partners: np.ndarray) -> np.ndarray:
    return (block >= best).sum(axis=1) - equal_partners


def _each_place_of_ties(block: np.ndarray, best: np.ndarray, equal_partners: np.ndarray) -> np.ndarray:
    before, equal = (block > best).sum(axis=1), (block == best).sum(axis=1)
    return np.concatenate([np.arange(first, first + count) for first, count in zip(before, equal, strict=True)])


TIES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "before": _place_after_ties,
    "each": _each_place_of_ties,
}
"""Name -> what becomes of items that are as similar as the true one. before: they come before it. each: the query
counts once for each place among them (the original's metric of one caption a video)."""


def _ranks(blocks: Iterable[np.ndarray], partners: Sequence[Sequence[int]], ties: str) -> np.ndarray:
    """Ranks of the best partner of each query, from 0, int64; with ties="each" there may be more than queries.

    Args:
        blocks: the rows of `(queries, items)` in order, some at a time.
        partners: of each query, one or more.
    """
    count, found, first = lookup(TIES, ties, "ties"), [], 0
    for block in blocks:
        of_block = partners[first : first + len(block)]
        sizes = np.array([len(items) for items in of_block])
        rows, starts = np.repeat(np.arange(len(block)), sizes), np.cumsum(sizes) - sizes
        values = block[rows, np.concatenate([np.asarray(items, dtype=np.int64) for items in of_block])]
        best = np.maximum.reduceat(values, starts)
        equal_partners = np.add.reduceat((values == best[rows]).astype(np.int64), starts)
        found.append(count(block, best[:, None], equal_partners))
        first += len(block)
    return np.concatenate(found)


def _slices(length: int, width: int) -> Iterator[slice]:
    """So many rows of a width at a time as are some megabytes."""
    step = max(1, _NUMBERS_AT_ONCE // max(width, 1))
    return (slice(start, start + step) for start in range(0, length, step))


def _recalls(ranks: np.ndarray, at: Sequence[int]) -> dict[str, float]:
    return {f"R@{k}": float(100 * (ranks < k).mean()) for k in at}


def retrieval_recalls(
    similarity: np.ndarray, partners: Sequence[Sequence[int]], ranks: Sequence[int] = RANKS
) -> dict[str, float]:
    """How often one of a query's true partners is among the most similar items.

    With texts as queries and videos as items this is text-to-video retrieval; with the classes of a data set as
    items, its first two numbers are top-1 and top-5 accuracy.

    Args:
        similarity: `(queries, items)`, finite; more is more similar.
        partners: for each query the indices of its true items, one or more.
        ranks: the k of each R@k.

    Returns:
        `{"R@1": ..., "R@5": ..., "R@10": ..., "mean": ...}` in percent; ties count against the model.

    Raises:
        ValueError: if shapes disagree, a query has no partner, or a similarity is not finite.
    """
    similarity = np.asarray(similarity)
    if similarity.ndim != 2 or len(similarity) != len(partners):
        raise ValueError(
            f"similarity has the shape {similarity.shape}, expected (queries, items) with one row for each of the "
            f"{len(partners)} lists of partners."
        )
    for query, items in enumerate(partners):
        if len(items) == 0:
            raise ValueError(f"Query {query} has no partner; leave it out of both.")
    blocks = (_finite(similarity[rows]) for rows in _slices(*similarity.shape))
    recalls = _recalls(_ranks(blocks, partners, "before"), ranks)
    return {**recalls, "mean": float(np.mean(list(recalls.values())))}


def _finite(block: np.ndarray) -> np.ndarray:
    if not np.isfinite(block).all():
        raise ValueError("similarity holds numbers that are not finite: the model's weights are damaged.")
    return block


# ---- dual softmax ---------------------------------------------------------------------------------------------------


def dual_softmax(similarity: np.ndarray, statistics: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
    """Weigh each similarity by the softmax over all queries of its item, as the original's second retrieval result.

    It sees all queries at once, so that a score depends on what else is asked.

    Args:
        similarity: `(queries, items)`, some of the queries where `statistics` are given.
        statistics: of all queries, by item: the largest similarity, and the sum of exp(similarity - largest).
    """
    similarity = np.asarray(similarity)
    if statistics is None:
        top = similarity.max(axis=0)
        statistics = top, np.exp(similarity - top).sum(axis=0)
    top, total = statistics
    return similarity * np.exp(similarity - top) / total


def _over_rows(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of each column; see `dual_softmax`. In float64: in float32, small weights would become equal."""
    top = matrix.max(axis=0).astype(np.float64)
    return top, sum(np.exp(matrix[rows] - top).sum(axis=0) for rows in _slices(*matrix.shape))


def _over_columns(matrix: np.ndarray, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of each row, without the missing columns; see `dual_softmax`."""
    tops, totals = [], []
    for rows in _slices(*matrix.shape):
        block = matrix[rows].astype(np.float64)
        block[:, missing] = -np.inf
        tops.append(block.max(axis=1))
        totals.append(np.exp(block - tops[-1][:, None]).sum(axis=1))
    return np.concatenate(tops), np.concatenate(totals)


# ---- retrieval ------------------------------------------------------------------------------------------------------

SEVERAL = ("video", "caption")
"""What a video finds where videos have several captions; see `retrieval_metrics`."""


def rank_scores(ranks: np.ndarray, *, lower_median: bool = False) -> dict[str, float]:
    """Summarise ranks.

    Args:
        ranks: of the true items, from 0.
        lower_median: of an even number of ranks take the lower middle one, not the mean of the two.

    Returns:
        `R@1`, `R@5`, `R@10` in percent; `MedR`, `MeanR`, the median and the mean rank, from 1.
    """
    median = np.sort(ranks)[(len(ranks) - 1) // 2] if lower_median else np.median(ranks)
    return {**_recalls(ranks, RANKS), "MedR": float(median + 1), "MeanR": float(ranks.mean() + 1)}


def retrieval_metrics(
    similarity: np.ndarray,
    video_of_text: Sequence[int] | None = None,
    *,
    missing: Sequence[int] = (),
    several: str = "video",
    ties: str = "before",
) -> dict[str, dict[str, dict[str, float]]]:
    """Retrieval both ways, plain and by dual softmax, as the released evaluations do it.

    Args:
        similarity, video_of_text, missing, several, ties: as of `retrieval_ranks`.

    Returns:
        `{"text_to_video": {"plain": scores, "dual_softmax": scores}, "video_to_text": ...}`, with the scores of
        `rank_scores`.

    Raises:
        ValueError: as `retrieval_ranks`.
    """
    ranks = retrieval_ranks(similarity, video_of_text, missing=missing, several=several, ties=ties)
    lower = {"text_to_video": _is_grouped(np.shape(similarity), several), "video_to_text": False}
    return {
        direction: {name: rank_scores(found, lower_median=lower[direction]) for name, found in ways.items()}
        for direction, ways in ranks.items()
    }


def _is_grouped(shape: tuple[int, ...], several: str) -> bool:
    """Whether videos with several captions are the items, for which the original has another function."""
    return several == "video" and shape[0] != shape[1]


def retrieval_ranks(
    similarity: np.ndarray,
    video_of_text: Sequence[int] | None = None,
    *,
    missing: Sequence[int] = (),
    several: str = "video",
    ties: str = "before",
) -> dict[str, dict[str, np.ndarray]]:
    """Rank of the true item of every query, from 0, both ways, plain and by dual softmax.

    Args:
        similarity: `(texts, videos)`; for dual softmax with the factor that the protocol has in front of the cosine.
        video_of_text: which video each text is a caption of; where None, text i is that of video i. Every video has
            one caption or more.
        missing: videos that could not be computed. Nothing finds them and they find nothing: their ranks, and those
            of their captions, are behind the last item, and behind the tenth in any case.
        several: what a video finds where videos have several captions. "video" (InternVideo): the video that its
            nearest caption belongs to, so that the ranks are places among videos; dual softmax of both directions is
            over texts, and the median of text-to-video is the lower one. "caption" (ViCLIP): one of its captions,
            among all captions. Where each video has one caption, both are the same.
        ties: a name in `TIES`.

    Returns:
        `{"text_to_video": {"plain": ranks, "dual_softmax": ranks}, "video_to_text": ...}`, int64, one for each text
        or video (with ties="each" more).

    Raises:
        ValueError: if shapes disagree, a video has no caption, all videos are missing, or a similarity is not finite.
    """
    if several not in SEVERAL:
        raise ValueError(f"several: got {several!r}, expected one of {', '.join(SEVERAL)}; check the spelling")
    similarity = np.asarray(similarity)
    if similarity.dtype.kind != "f":
        similarity = similarity.astype(np.float64)
    owners = np.arange(len(similarity)) if video_of_text is None else np.asarray(video_of_text)
    if owners.dtype.kind not in "iu":
        raise ValueError(f"video_of_text holds {owners.dtype} numbers, expected whole ones.")
    owners = owners.astype(np.int64)
    lost = _check_retrieval(similarity, owners, missing)
    if lost.any() and ties == "each":
        raise ValueError("ties='each' does not go with missing videos, which the original's metric does not know.")
    num_texts, num_videos = similarity.shape
    captions = np.argsort(owners, kind="stable")
    starts = np.searchsorted(owners[captions], np.arange(num_videos))
    of_texts = _over_rows(similarity)
    grouped = _is_grouped(similarity.shape, several)
    of_videos = None if grouped else _over_columns(similarity, lost)

    def from_texts(weigh: bool) -> Iterator[np.ndarray]:
        for rows in _slices(*similarity.shape):
            block = similarity[rows]
            block = dual_softmax(block, of_texts) if weigh else block.astype(np.float64)
            block[:, lost] = -np.inf
            yield block

    def from_videos(weigh: bool) -> Iterator[np.ndarray]:
        for columns in _slices(num_videos, num_texts):
            block = similarity[:, columns]
            if not grouped:
                yield dual_softmax(block.T, of_videos) if weigh else block.T
                continue
            of_block = tuple(part[columns] for part in of_texts)
            block = dual_softmax(block, of_block).T if weigh else block.T
            yield np.maximum.reduceat(block[:, captions], starts, axis=1)

    def found(blocks: Iterator[np.ndarray], partners: Sequence, without: np.ndarray, num_items: int) -> np.ndarray:
        ranks = _ranks(blocks, partners, ties)
        if without.any():
            ranks[without] = max(num_items, *RANKS)
        return ranks

    owned = [[video] for video in range(num_videos)] if grouped else np.split(captions, starts[1:])
    ways = {"plain": False, "dual_softmax": True}
    return {
        "text_to_video": {
            name: found(from_texts(weigh), owners[:, None], lost[owners], num_videos) for name, weigh in ways.items()
        },
        "video_to_text": {
            name: found(from_videos(weigh), owned, lost, num_videos if grouped else num_texts)
            for name, weigh in ways.items()
        },
    }


def _check_retrieval(similarity: np.ndarray, owners: np.ndarray, missing: Sequence[int]) -> np.ndarray:
    """Which videos are missing, bool, shape (videos,)."""
    if similarity.ndim != 2 or len(similarity) != len(owners):
        raise ValueError(
            f"similarity has the shape {similarity.shape}, expected (texts, videos) with one row for each of the "
            f"{len(owners)} texts."
        )
    num_videos = similarity.shape[1]
    if not similarity.size:
        raise ValueError(f"similarity has the shape {similarity.shape}: there is nothing to score.")
    if wrong := [video for video in missing if not 0 <= video < num_videos]:
        raise ValueError(f"missing names the video {wrong[0]}, expected 0 to {num_videos - 1}.")
    if len(owners) and not 0 <= owners.min() <= owners.max() < num_videos:
        raise ValueError(f"video_of_text goes from {owners.min()} to {owners.max()}, expected 0 to {num_videos - 1}.")
    if (alone := np.bincount(owners, minlength=num_videos) == 0).any():
        raise ValueError(f"Video {int(np.argmax(alone))} has no caption; leave it out.")
    lost = np.zeros(num_videos, dtype=bool)
    lost[list(missing)] = True
    if lost.all():
        raise ValueError("All videos are missing; there is nothing to score.")
    for rows in _slices(*similarity.shape):
        _finite(similarity[rows][:, ~lost] if lost.any() else similarity[rows])
    return lost
