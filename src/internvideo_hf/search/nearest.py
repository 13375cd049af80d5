"""The rows nearest to a query: by the whole product, or by an approximate index of faiss (extra `search`)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from internvideo_hf.search.store import Part, in_blocks, row_numbers
from internvideo_hf.utils.files import atomic_write
from internvideo_hf.utils.fingerprints import text_sha256

ROWS_AT_ONCE = 16384  # of 768 numbers in float32: 50 MB
TRAINING_ROWS = 64  # for each cell of the approximate index
SMALLEST_APPROXIMATE = 1024  # rows below which there is nothing to gain
CANDIDATES = 4  # rows that the approximate index proposes for each that is wanted; their exact order decides


def exact(parts: Sequence[Part], queries: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The most similar rows by the whole product, block after block, so that memory holds one block.

    Args:
        parts: whose rows, in their order.
        queries: unit vectors, float32 `(queries, dim)`.
        count: rows wanted.

    Returns:
        Cosines, float32, and numbers of rows, int64, both `(queries, min(count, rows))`, the most similar first.
    """
    best = torch.empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.int64)
    for first, block in in_blocks(parts, ROWS_AT_ONCE):
        similar = queries @ block.T
        top, at = similar.topk(min(count, similar.shape[1]), dim=1)
        best, rows = torch.cat([best, top], dim=1), torch.cat([rows, at + first], dim=1)
        best, rows = _sorted(best, rows, count)
    return best, rows


def _sorted(similar: torch.Tensor, rows: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    by_row = rows.argsort(dim=1)
    similar, rows = similar.gather(1, by_row), rows.gather(1, by_row)
    order = similar.argsort(dim=1, descending=True, stable=True)[:, :count]
    return similar.gather(1, order), rows.gather(1, order)


def gather(parts: Sequence[Part], rows: Sequence[int] | torch.Tensor) -> torch.Tensor:
    """The embeddings of some rows, float32 `(rows, dim)`, in the asked order."""
    rows = np.asarray(rows, dtype=np.int64)
    firsts = row_numbers(parts)
    owners = np.searchsorted(firsts, rows, side="right") - 1
    found = torch.empty(len(rows), parts[0].embeddings.shape[1])
    for owner in np.unique(owners):
        of_owner = owners == owner
        found[torch.from_numpy(of_owner)] = parts[owner].embeddings[rows[of_owner] - firsts[owner]].float()
    return found


def state_of(parts: Sequence[Part]) -> str:
    """What tells the rows of a saved index from those before and after a change."""
    return text_sha256(" ".join(str(part.file) for part in parts))[:12]


class Approximate:
    """faiss' inverted lists: rows are assigned to cells, and a query looks at the nearest cells only.

    Rows are kept as 8-bit numbers there, a quarter of float32. What it proposes is compared exactly afterwards, so
    that cosines are true; a neighbour may be missed.

    Args:
        lists: faiss' index.
        probes: cells that a query looks at.
    """

    def __init__(self, lists: Any, probes: int | None = None):
        self._lists = lists
        cells = require_faiss().extract_index_ivf(lists)
        cells.nprobe = probes or max(8, cells.nlist // 16)

    @classmethod
    def build(cls, parts: Sequence[Part], seed: int = 0) -> "Approximate":
        """Assign all rows to cells, `2 * sqrt(rows)` of them, found by k-means on a sample.

        Raises:
            ImportError: if faiss is not installed.
            ValueError: if there are too few rows for it.
        """
        faiss = require_faiss()
        rows, dim = sum(map(len, parts)), parts[0].embeddings.shape[1] if parts else 0
        if rows < SMALLEST_APPROXIMATE:
            raise ValueError(
                f"The index has {rows} clips; an approximate one pays from {SMALLEST_APPROXIMATE} on, really from a "
                "million. The exact search is as fast here."
            )
        cells = max(1, min(round(2 * math.sqrt(rows)), rows // TRAINING_ROWS))
        lists = faiss.index_factory(dim, f"IVF{cells},SQ8", faiss.METRIC_INNER_PRODUCT)
        lists.cp.niter, lists.cp.seed = 8, seed
        sample = np.random.default_rng(seed).choice(rows, min(rows, cells * TRAINING_ROWS), replace=False)
        lists.train(gather(parts, np.sort(sample)).numpy())
        for _, block in in_blocks(parts, ROWS_AT_ONCE):
            lists.add(block.numpy())
        return cls(lists)

    def search(self, parts: Sequence[Part], queries: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """As `exact`, but neighbours may be missed; fewer than `count` come where the cells hold no more."""
        proposed = self._lists.search(queries.contiguous().numpy(), min(CANDIDATES * count, self._lists.ntotal))[1]
        answers = []
        for query, rows in zip(queries, proposed, strict=True):
            rows = torch.from_numpy(rows[rows >= 0].copy())[None]
            answers.append(_sorted(query[None] @ gather(parts, rows[0]).T, rows, count))
        found = min(rows.shape[1] for _, rows in answers)
        return tuple(torch.cat([answer[i][:, :found] for answer in answers]) for i in (0, 1))

    def save(self, path: Path) -> None:
        """Write it; the file appears whole."""
        atomic_write(path, lambda file: require_faiss().write_index(self._lists, str(file)))

    @classmethod
    def load(cls, path: Path) -> "Approximate":
        """Read it.

        Raises:
            ImportError: if faiss is not installed.
        """
        return cls(require_faiss().read_index(str(path)))


def require_faiss() -> Any:
    """The module faiss.

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
