"""The rows nearest to a query: all compared, or those that an approximate index of faiss proposes (extra `search`)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from internvideo_hf.search.stores.quantized import integer_product_pays, rounding
from internvideo_hf.search.stores.segments import Segment, gather, in_chunks, locate

CHUNK_ROWS = 16384  # of 768 numbers in float32: 50 MB
TRAINING_ROWS = 64  # per cell of the approximate index
MIN_APPROXIMATE_ROWS = 1024
OVERSAMPLING = 4  # candidates of the approximate index per row returned; their exact order decides
FEW_QUERIES = 8  # more queries share one read of the rows in float32
GATHERED_ROWS = 4096
_LARGEST_FRACTION = 1 / 8  # of the rows as candidates; collecting more of them takes longer than reading all in order


def exact(
    segments: Sequence[Segment], queries: torch.Tensor, count: int, allowed: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the most similar rows by the full product, in chunks, so that memory holds one chunk at a time.

    Args:
        segments: the rows.
        queries: unit vectors, float32 `(queries, dim)`.
        count: rows to return.
        allowed: which rows may be returned, bool `(rows,)`; None for all.

    Returns:
        Cosines, float32, and numbers of rows, int64, both `(queries, min(count, allowed rows))`, the best first.
    """
    if allowed is not None:
        count = min(count, int(allowed.sum()))
    best = torch.empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.int64)
    for first, chunk in in_chunks(segments, CHUNK_ROWS):
        similar = queries @ chunk.T
        if allowed is not None:
            similar[:, ~allowed[first : first + len(chunk)]] = -torch.inf
        top, at = similar.topk(min(count, similar.shape[1]), dim=1)
        best, rows = torch.cat([best, top], dim=1), torch.cat([rows, at + first], dim=1)
        best, rows = best_of(best, rows, count)
    _check_finite(best)
    return best, rows


def scan(
    segments: Sequence[Segment], queries: torch.Tensor, count: int, allowed: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the same rows as `exact`, for few queries by way of the 8-bit copy of the rows.

    Args:
        segments: the rows; those of segments without codes are compared in float32.
        queries: unit vectors, float32 `(queries, dim)`.
        count: rows to return.
        allowed: as of `exact`.

    Returns:
        As `exact`.
    """
    has_codes = any(segment.codes is not None for segment in segments)
    if not (has_codes and len(queries) <= FEW_QUERIES and integer_product_pays(queries.shape[1])):
        return exact(segments, queries, count, allowed)
    similar, rows = zip(*(_scan_for(segments, query, count, allowed) for query in queries), strict=True)
    return torch.cat(similar), torch.cat(rows)


def _scan_for(
    segments: Sequence[Segment], query: torch.Tensor, count: int, allowed: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    estimates, bounds = map(torch.cat, zip(*(_bounds(segment, query) for segment in segments), strict=True))
    if allowed is not None:
        count = min(count, int(allowed.sum()))
        estimates[~allowed] = bounds[~allowed] = -torch.inf
    if not count:
        return torch.empty(1, 0), torch.empty(1, 0, dtype=torch.int64)
    some = estimates.topk(min(count, len(estimates))).indices
    least = _products(segments, query, some).min()
    chosen = ~(bounds < least)  # all of them if `least` is NaN
    rows = (chosen if allowed is None else chosen & allowed).nonzero()[:, 0]
    if len(rows) > max(count, _LARGEST_FRACTION * len(bounds)):
        return exact(segments, query[None], count, allowed)
    similar = _products(segments, query, rows)
    _check_finite(similar)
    return best_of(similar[None], rows[None], count)


def _products(segments: Sequence[Segment], query: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return the cosines of some rows, `(len(rows),)`.

    In blocks of the same memory: for all rows at once, getting memory would take longer than reading them.
    """
    similar = torch.empty(len(rows))
    for segment, places, inner in locate(segments, rows):
        block = torch.empty(GATHERED_ROWS, len(query), dtype=segment.embeddings.dtype)
        blocks = torch.split(torch.from_numpy(inner), GATHERED_ROWS)
        found = [torch.index_select(segment.embeddings, 0, r, out=block[: len(r)]).float() @ query for r in blocks]
        similar[torch.from_numpy(places)] = torch.cat(found)
    return similar


def _bounds(segment: Segment, query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if segment.codes is not None:
        return segment.codes.bounds(query)
    similar = torch.cat([chunk @ query for _, chunk in in_chunks([segment], CHUNK_ROWS)])
    return similar, similar + 2 * rounding(query)  # the rows are unit vectors, in float16 nearly


def _check_finite(similar: torch.Tensor) -> None:
    """Refuse cosines that are no numbers: they would stand in front of all others.

    Args:
        similar: cosines.

    Raises:
        ValueError: if one is not finite.
    """
    if not similar.isfinite().all():
        raise ValueError("The index or the query holds embeddings that are not finite. Build the index again.")


def best_of(similar: torch.Tensor, rows: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sort candidates, the best first; among equals, the lower number first.

    Args:
        similar: cosines, float32 `(queries, candidates)`.
        rows: their numbers, int64 `(queries, candidates)`.
        count: candidates to return, or fewer if there are fewer.
    """
    by_row = rows.argsort(dim=1)
    similar, rows = similar.gather(1, by_row), rows.gather(1, by_row)
    order = similar.argsort(dim=1, descending=True, stable=True)[:, :count]
    return similar.gather(1, order), rows.gather(1, order)


class Approximate:
    """An inverted-file index of faiss: rows are assigned to cells, and a query is compared with the nearest cells.

    It keeps rows as 8-bit numbers, a quarter of float32. Its candidates are compared exactly afterwards, so cosines
    are exact; a neighbor may be missed.

    Args:
        lists: the index of faiss.
        probes: cells per query.
    """

    def __init__(self, lists: Any, probes: int | None = None):
        self._lists = lists
        cells = require_faiss().extract_index_ivf(lists)
        cells.nprobe = probes or max(8, cells.nlist // 16)

    @classmethod
    def build(cls, segments: Sequence[Segment], seed: int = 0) -> "Approximate":
        """Assign all rows to `2 * sqrt(rows)` cells, found by k-means on a sample.

        Args:
            segments: the rows.
            seed: of the sample and of k-means.

        Raises:
            ImportError: if faiss is not installed.
            ValueError: if there are too few rows.
        """
        faiss = require_faiss()
        rows, dim = sum(map(len, segments)), segments[0].embeddings.shape[1] if segments else 0
        if rows < MIN_APPROXIMATE_ROWS:
            raise ValueError(
                f"The index has {rows} clips; an approximate one pays from {MIN_APPROXIMATE_ROWS} on, really from a "
                "million. The exact search is as fast here."
            )
        cells = max(1, min(round(2 * math.sqrt(rows)), rows // TRAINING_ROWS))
        lists = faiss.index_factory(dim, f"IVF{cells},SQ8", faiss.METRIC_INNER_PRODUCT)
        lists.cp.niter, lists.cp.seed = 8, seed
        sample = np.random.default_rng(seed).choice(rows, min(rows, cells * TRAINING_ROWS), replace=False)
        lists.train(gather(segments, np.sort(sample)).numpy())
        for _, chunk in in_chunks(segments, CHUNK_ROWS):
            lists.add(chunk.numpy())
        return cls(lists)

    def search(
        self, segments: Sequence[Segment], queries: torch.Tensor, count: int, allowed: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return rows as `exact`, but it may miss some; fewer than `count` if the cells hold no more."""
        faiss, options = require_faiss(), {}
        if allowed is not None:
            selector = faiss.IDSelectorBatch(allowed.nonzero()[:, 0].numpy())
            probes = faiss.extract_index_ivf(self._lists).nprobe
            options["params"] = faiss.SearchParametersIVF(sel=selector, nprobe=probes)
        most = min(OVERSAMPLING * count, self._lists.ntotal)
        candidates = self._lists.search(queries.contiguous().numpy(), most, **options)[1]
        answers = []
        for query, found in zip(queries, candidates, strict=True):
            rows = torch.from_numpy(found[found >= 0].copy())[None]
            answers.append(best_of(query[None] @ gather(segments, rows[0]).T, rows, count))
            _check_finite(answers[-1][0])
        fewest = min(rows.shape[1] for _, rows in answers)
        best = torch.cat([similar[:, :fewest] for similar, _ in answers])
        return best, torch.cat([rows[:, :fewest] for _, rows in answers])

    def write(self, path: Path) -> None:
        """Write the index to a file."""
        require_faiss().write_index(self._lists, str(path))

    @classmethod
    def load(cls, path: Path) -> "Approximate":
        """Read the index.

        Raises:
            FileNotFoundError: if there is no such file.
            ImportError: if faiss is not installed.
        """
        if not path.exists():
            raise FileNotFoundError(path)
        return cls(require_faiss().read_index(str(path)))


def require_faiss() -> Any:
    """Import and return the module faiss.

    Raises:
        ImportError: if it is not installed (extra `search`).
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            f"The approximate index needs faiss, which does not load ({error}): pip install 'internvideo-hf[search]'. "
            "The exact search needs nothing."
        ) from error
    return faiss
