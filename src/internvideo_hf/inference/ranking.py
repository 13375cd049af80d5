"""Retrieval metrics from similarity matrices: recalls, median and mean ranks, dual softmax.

The rank of a query is that of its best true item; ranks count from 0 in arrays and from 1 in `MedR` and `MeanR`. Ties
count against the model: an item with the similarity of the true one ranks before it. A model with equal similarities
for all items is thus never right, and no score depends on the sorting order. The original's single-caption metric
instead counts a tied query once for each rank that its true item could have; `ties="each"` reproduces that.

Similarity matrices are processed in blocks, which take tens of megabytes at most.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.inference.merging import check_finite
from internvideo_hf.utils.names import check_name, lookup

RANKS = (1, 5, 10)
BLOCK_SIZE = 2**20  # similarities

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Statistics = tuple[Floats, Floats]


def _place_after_ties(block: Floats, best: Floats, equal_partners: Ints) -> Ints:
    ranks: Ints = (block >= best).sum(axis=1) - equal_partners
    return ranks


def _each_place_of_ties(block: Floats, best: Floats, equal_partners: Ints) -> Ints:
    before, equal = (block > best).sum(axis=1), (block == best).sum(axis=1)
    return np.concatenate([np.arange(first, first + count) for first, count in zip(before, equal, strict=True)])


TIES: dict[str, Callable[[Floats, Floats, Ints], Ints]] = {
    "before": _place_after_ties,
    "each": _each_place_of_ties,
}
"""Name -> how items with the similarity of the true one count. before: they rank before it. each: the query counts
once for each rank among them (the original's metric for one caption per video)."""


def _ranks(blocks: Iterable[Floats], partners: Sequence[Sequence[int] | Ints], ties: str) -> Ints:
    """Rank the best partner of each query, from 0.

    Args:
        blocks: consecutive rows of `(queries, items)`.
        partners: indices of each query's true items, one or more.
        ties: a name in `TIES`; with "each" there may be more ranks than queries.
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
    """Yield slices of rows, `BLOCK_SIZE` numbers each."""
    step = max(1, BLOCK_SIZE // max(width, 1))
    return (slice(start, start + step) for start in range(0, length, step))


def _recalls(ranks: Ints, at: Sequence[int]) -> dict[str, float]:
    return {f"R@{k}": float(100 * (ranks < k).mean()) for k in at}


def retrieval_recalls(
    similarity: Floats, partners: Sequence[Sequence[int] | Ints], ranks: Sequence[int] = RANKS
) -> dict[str, float]:
    """Return how often a true partner of a query is among the most similar items.

    With texts as queries and videos as items this is text-to-video retrieval; with the classes of a data set as items,
    R@1 and R@5 are top-1 and top-5 accuracy.

    Args:
        similarity: `(queries, items)`, finite; larger is more similar.
        partners: indices of each query's true items, one or more.
        ranks: the k of each R@k.

    Returns:
        `{"R@1": ..., "R@5": ..., "R@10": ..., "mean": ...}` in percent; ties count against the model.

    Raises:
        ValueError: if shapes disagree, a query has no partner, or a similarity is not finite.
    """
    similarity = np.asarray(similarity)
    if similarity.ndim != 2 or len(similarity) != len(partners):
        raise ValueError(
            f"similarity has shape {similarity.shape}, expected (queries, items) with one row for each of the "
            f"{len(partners)} lists of partners."
        )
    for query, items in enumerate(partners):
        if len(items) == 0:
            raise ValueError(f"Query {query} has no partner; leave it out of similarity and partners.")
    blocks = [similarity[rows] for rows in _slices(*similarity.shape)]
    for block in blocks:
        check_finite(block, "similarity")
    recalls = _recalls(_ranks(blocks, partners, "before"), ranks)
    return {**recalls, "mean": float(np.mean(list(recalls.values())))}


# ---- dual softmax ---------------------------------------------------------------------------------------------------


def dual_softmax(similarity: Floats, statistics: Statistics | None = None) -> Floats:
    """Multiply each similarity by its item's softmax over all queries, as in the original's second retrieval result.

    A score thus depends on all queries of an evaluation.

    Args:
        similarity: `(queries, items)`; a subset of the queries if `statistics` are given.
        statistics: over all queries, by item: the largest similarity, and the sum of exp(similarity - largest).
    """
    similarity = np.asarray(similarity)
    if statistics is None:
        top = similarity.max(axis=0)
        statistics = top, np.exp(similarity - top).sum(axis=0)
    top, total = statistics
    weighted: Floats = similarity * np.exp(similarity - top) / total
    return weighted


def _over_rows(matrix: Floats) -> Statistics:
    """Return the statistics of each column; in float64, since small weights would be equal in float32."""
    top = matrix.max(axis=0).astype(np.float64)
    return top, sum((np.exp(matrix[rows] - top).sum(axis=0) for rows in _slices(*matrix.shape)), np.zeros_like(top))


def _over_columns(matrix: Floats, missing: NDArray[np.bool_]) -> Statistics:
    """Return the statistics of each row, without the missing columns."""
    tops, totals = [], []
    for rows in _slices(*matrix.shape):
        block = matrix[rows].astype(np.float64)
        block[:, missing] = -np.inf
        tops.append(block.max(axis=1))
        totals.append(np.exp(block - tops[-1][:, None]).sum(axis=1))
    return np.concatenate(tops), np.concatenate(totals)


# ---- retrieval ------------------------------------------------------------------------------------------------------

SEVERAL = ("video", "caption")
"""What a video retrieves if videos have several captions; see `retrieval_ranks`."""


def rank_scores(ranks: Ints, *, lower_median: bool = False) -> dict[str, float]:
    """Summarize ranks.

    Args:
        ranks: of the true items, from 0.
        lower_median: take the lower of the two middle ranks as the median of an even number, instead of their mean.

    Returns:
        `R@1`, `R@5`, `R@10` in percent; `MedR`, `MeanR`, the median and the mean rank, from 1.
    """
    median = np.sort(ranks)[(len(ranks) - 1) // 2] if lower_median else np.median(ranks)
    return {**_recalls(ranks, RANKS), "MedR": float(median + 1), "MeanR": float(ranks.mean() + 1)}


def retrieval_metrics(
    similarity: Floats,
    video_of_text: Sequence[int] | Ints | None = None,
    *,
    missing: Sequence[int] = (),
    several: str = "video",
    ties: str = "before",
) -> dict[str, dict[str, dict[str, float]]]:
    """Score retrieval in both directions, plain and with dual softmax, as the released evaluations do.

    Args:
        similarity: `(texts, videos)`, as of `retrieval_ranks`.
        video_of_text: the video of each text, as of `retrieval_ranks`.
        missing: videos without a similarity, as of `retrieval_ranks`.
        several: "video" or "caption", as of `retrieval_ranks`.
        ties: a name in `TIES`.

    Returns:
        The scores of `rank_scores` by direction ("text_to_video" and "video_to_text"), then by "plain" and
        "dual_softmax".

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
    """Tell whether items are videos with several captions, for which the original has another function."""
    return several == "video" and shape[0] != shape[1]


def retrieval_ranks(
    similarity: Floats,
    video_of_text: Sequence[int] | Ints | None = None,
    *,
    missing: Sequence[int] = (),
    several: str = "video",
    ties: str = "before",
) -> dict[str, dict[str, Ints]]:
    """Rank the true item of every query, from 0, in both directions, plain and with dual softmax.

    Args:
        similarity: `(texts, videos)`; dual softmax needs it multiplied by the protocol's factor of the cosine.
        video_of_text: the video that each text is a caption of; None if text i belongs to video i. Every video has at
            least one caption.
        missing: videos without a similarity. No query finds them, and they find nothing: their ranks and those of
            their captions lie behind the last item, and behind the tenth in any case.
        several: what a video retrieves if videos have several captions. "video" (InternVideo): the video that its
            nearest caption belongs to; ranks count videos, dual softmax of both directions is over texts, and the
            median of text-to-video is the lower one. "caption" (ViCLIP): one of its captions, among all captions.
            Both agree if each video has one caption.
        ties: a name in `TIES`.

    Returns:
        `{"text_to_video": {"plain": ranks, "dual_softmax": ranks}, "video_to_text": ...}`, int64, one per text or
        video (with ties="each" more).

    Raises:
        ValueError: if shapes disagree, a video has no caption, all videos are missing, or a similarity is not finite.
    """
    check_name(several, SEVERAL, "several")
    similarity = np.asarray(similarity)
    if similarity.dtype.kind != "f":
        similarity = similarity.astype(np.float64)
    owners = np.arange(len(similarity)) if video_of_text is None else np.asarray(video_of_text)
    if owners.dtype.kind not in "iu":
        raise ValueError(f"video_of_text holds {owners.dtype} numbers, expected integers.")
    owners = owners.astype(np.int64)
    lost = _check_retrieval(similarity, owners, missing)
    if lost.any() and ties == "each":
        raise ValueError("ties='each' excludes missing videos: the original's metric has no rule for them.")
    num_texts, num_videos = similarity.shape
    captions = np.argsort(owners, kind="stable")
    starts = np.searchsorted(owners[captions], np.arange(num_videos))
    text_top, text_total = _over_rows(similarity)
    grouped = _is_grouped(similarity.shape, several)
    video_statistics = None if grouped else _over_columns(similarity, lost)

    def from_texts(weigh: bool) -> Iterator[Floats]:
        for rows in _slices(*similarity.shape):
            block = similarity[rows]
            block = dual_softmax(block, (text_top, text_total)) if weigh else block.astype(np.float64)
            block[:, lost] = -np.inf
            yield block

    def from_videos(weigh: bool) -> Iterator[Floats]:
        for columns in _slices(num_videos, num_texts):
            block = similarity[:, columns]
            if not grouped:
                yield dual_softmax(block.T, video_statistics) if weigh else block.T
                continue
            block = dual_softmax(block, (text_top[columns], text_total[columns])).T if weigh else block.T
            yield np.maximum.reduceat(block[:, captions], starts, axis=1)

    def rank(blocks: Iterator[Floats], partners: Sequence[Ints], without: NDArray[np.bool_], num_items: int) -> Ints:
        ranks = _ranks(blocks, partners, ties)
        if without.any():
            ranks[without] = max(num_items, *RANKS)
        return ranks

    owner_of_text = list(owners[:, None])
    owned = list(np.arange(num_videos)[:, None]) if grouped else np.split(captions, starts[1:])
    ways = {"plain": False, "dual_softmax": True}
    return {
        "text_to_video": {
            name: rank(from_texts(weigh), owner_of_text, lost[owners], num_videos) for name, weigh in ways.items()
        },
        "video_to_text": {
            name: rank(from_videos(weigh), owned, lost, num_videos if grouped else num_texts)
            for name, weigh in ways.items()
        },
    }


def _check_retrieval(similarity: Floats, owners: Ints, missing: Sequence[int]) -> NDArray[np.bool_]:
    """Return which videos are missing, bool, `(videos,)`."""
    if similarity.ndim != 2 or len(similarity) != len(owners):
        raise ValueError(
            f"similarity has shape {similarity.shape}, expected (texts, videos) with one row for each of the "
            f"{len(owners)} texts."
        )
    num_videos = similarity.shape[1]
    if not similarity.size:
        raise ValueError(f"similarity has shape {similarity.shape}, expected at least one text and one video.")
    if wrong := [video for video in missing if not 0 <= video < num_videos]:
        raise ValueError(f"missing names video {wrong[0]}, expected 0 to {num_videos - 1}.")
    if not 0 <= owners.min() <= owners.max() < num_videos:
        raise ValueError(
            f"video_of_text ranges from {owners.min()} to {owners.max()}, expected 0 to {num_videos - 1}."
        )
    if (alone := np.bincount(owners, minlength=num_videos) == 0).any():
        raise ValueError(f"Video {int(np.argmax(alone))} has no caption; leave it out.")
    lost = np.zeros(num_videos, dtype=bool)
    lost[list(missing)] = True
    if lost.all():
        raise ValueError("All videos are missing; check the list and its videos.")
    for rows in _slices(*similarity.shape):
        check_finite(similarity[rows][:, ~lost] if lost.any() else similarity[rows], "similarity")
    return lost
