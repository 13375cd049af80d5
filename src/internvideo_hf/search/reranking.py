"""A second opinion on the best hits of a search, by any function or by a cross-encoder of sentence-transformers."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from internvideo_hf.search.hits import Hit, Hits

Scorer = Callable[[str, Sequence[Hit]], Sequence[float]]


def rerank(
    hits: Hits, scorer: Any, *, top_k: int | None = None, document: Callable[[Hit], Any] = lambda hit: hit.video
) -> Hits:
    """Reorder hits by scores of a slower and better judge. Search for more hits than are needed, such as 50.

    >>> best = rerank(index.search("a dog catches a frisbee", top_k=50), score, top_k=5)

    Args:
        hits: of a search.
        scorer: called with the query and the hits, returns one score for each, higher is better; or a `CrossEncoder`,
            whose `predict` takes pairs of query and document.
        top_k: the number of hits to return; all if None.
        document: what a cross-encoder reads of a hit: by default the path of its video, for models that read videos;
            for models of texts, such as a caption.

    Returns:
        The hits, the highest score first, each otherwise as it was; equal scores keep their order.

    Raises:
        ValueError: if `top_k` is below 1, or there are not as many scores as hits.
        TypeError: if the scorer is neither a function nor a cross-encoder.
    """
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k} must be at least 1.")
    if hasattr(scorer, "predict"):
        scores = scorer.predict([(hits.query, document(hit)) for hit in hits]) if len(hits) else []
    elif callable(scorer):
        scores = scorer(hits.query, hits.hits)
    else:
        raise TypeError(f"The scorer is {scorer!r}, expected a function of query and hits, or a CrossEncoder.")
    numbers = [float(score) for score in scores]
    if len(numbers) != len(hits) or any(number != number for number in numbers):
        raise ValueError(f"The scorer gave {len(numbers)} scores for {len(hits)} hits, or not a number.")
    order = sorted(range(len(hits)), key=lambda place: -numbers[place])
    return replace(hits, hits=tuple(hits[place] for place in order[:top_k]))
