"""Scores of published evaluations, from arrays."""

from collections.abc import Sequence

import numpy as np


def retrieval_recalls(
    similarity: np.ndarray, partners: Sequence[Sequence[int]], ranks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """How often one of a query's true partners is among the most similar items.

    With texts as queries and videos as items this is text-to-video retrieval; with the classes of a data set as
    items, its first two numbers are top-1 and top-5 accuracy.

    Args:
        similarity: `(queries, items)`, finite; more is more similar.
        partners: for each query the indices of its true items, one or more.
        ranks: the k of each R@k.

    Returns:
        `{"R@1": ..., "R@5": ..., "R@10": ..., "mean": ...}` in percent. An item as similar as the best partner counts
        as before it, so that a model that says the same of all items is right about none.

    Raises:
        ValueError: if shapes disagree, a query has no partner, or a similarity is not finite.
    """
    similarity = np.asarray(similarity)
    if similarity.ndim != 2 or len(similarity) != len(partners):
        raise ValueError(
            f"similarity has the shape {similarity.shape}, expected (queries, items) with one row for each of the "
            f"{len(partners)} lists of partners."
        )
    if not np.isfinite(similarity).all():
        raise ValueError("similarity holds numbers that are not finite: the model's weights are damaged.")
    true = np.zeros(similarity.shape, dtype=bool)
    for query, items in enumerate(partners):
        true[query, list(items)] = True
    if not true.any(axis=1).all():
        raise ValueError(f"Query {int(np.argmin(true.any(axis=1)))} has no partner; leave it out of both.")
    best = np.where(true, similarity, -np.inf).max(axis=1, keepdims=True)
    before = (~true & (similarity >= best)).sum(axis=1)
    recalls = {f"R@{k}": float(100 * (before < k).mean()) for k in ranks}
    return {**recalls, "mean": float(np.mean(list(recalls.values())))}


def dual_softmax(similarity: np.ndarray) -> np.ndarray:
    """Weigh each similarity by the softmax over all queries of its item, as the original's second retrieval result.

    It sees all queries at once, so that a score depends on what else is asked.

    Args:
        similarity: `(queries, items)`.
    """
    similarity = np.asarray(similarity)
    weights = np.exp(similarity - similarity.max(axis=0, keepdims=True))
    return similarity * weights / weights.sum(axis=0, keepdims=True)
