"""Files of answers to sentences: the one of Ego4D's challenge, and the same for lists of your own."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from internvideo_hf.data.records import ManifestError, read_json
from internvideo_hf.tasks.temporal_grounding.queries import Query

CHALLENGE = "ego4d_nlq_challenge"
VERSION = "1.0"
PREDICTIONS = "predictions.json"
"""Name of the file in a report."""
MOST = 5
"""Answers to a query that the challenge takes."""

Answers = NDArray[np.float64]


def to_predictions(queries: Sequence[Query], answers: Sequence[Answers]) -> str:
    """Return the file of answers, as JSON: that of the Ego4D Natural Language Queries challenge, if queries are its.

    Args:
        queries: the queries.
        answers: of each, `(n, 3)`: start and end in seconds and score, the best first.
    """
    results = [
        {**_key(query), "predicted_times": own[:MOST, :2].round(4).tolist()}
        for query, own in zip(queries, answers, strict=True)
    ]
    is_challenge = any(query.annotation is not None for query in queries)
    return json.dumps({"version": VERSION, **({"challenge": CHALLENGE} if is_challenge else {}), "results": results})


def _key(query: Query) -> dict[str, Any]:
    if query.annotation is None:
        return {"video": query.video, "query": query.text}
    return {"clip_uid": query.video, "annotation_uid": query.annotation, "query_idx": query.number}


def read_predictions(path: str | Path, queries: Sequence[Query]) -> list[Answers | None]:
    """Read the answers to queries.

    Args:
        path: a file of the challenge, or one with `video` and `query` in place of its ids, as `--report` writes them.
        queries: the queries.

    Returns:
        Of each query its answers, `(n, 3)`: start and end in seconds, and NaN for the score; None where it has none.

    Raises:
        ManifestError: if the file cannot be read, or answers a query twice or one that there is not.
    """
    content = read_json(Path(path))
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, list):
        raise ManifestError(str(path), None, "it has no list 'results'", f"Expected a file of the {CHALLENGE}.")
    places: dict[tuple[Any, ...], list[int]] = {}
    for number, query in enumerate(queries):
        places.setdefault(tuple(_key(query).values()), []).append(number)
    found: list[Answers | None] = [None] * len(queries)
    names = list(_key(queries[0]))
    for number, entry in enumerate(results, 1):
        own, times = _entry(entry, names, f"result {number}", path)
        if own not in places:
            cause = f"the list of queries has none with {dict(zip(names, own, strict=True))}"
            raise ManifestError(str(path), f"result {number}", cause, "Give the answers to these queries.")
        for place in places[own]:
            if found[place] is not None:
                cause = f"{queries[place].name} has an answer before"
                raise ManifestError(str(path), f"result {number}", cause, "Delete one of them.")
            found[place] = times
    return found


def _entry(entry: Any, names: Sequence[str], place: str, path: str | Path) -> tuple[tuple[Any, ...], Answers]:
    if not isinstance(entry, Mapping) or not {*names, "predicted_times"} <= entry.keys():
        expected = ", ".join([*names, "predicted_times"])
        raise ManifestError(str(path), place, "it is incomplete", f"Expected an object with {expected}.")
    own = tuple(entry[name] for name in names)
    if not all(isinstance(part, str | int) for part in own):
        raise ManifestError(str(path), place, f"its ids are {own!r}", "Expected texts, and a number for query_idx.")
    try:
        times = np.array(entry["predicted_times"], dtype=np.float64).reshape(-1, 2)
        if not np.isfinite(times).all():
            raise ValueError
    except (TypeError, ValueError):
        cause = f"predicted_times is {str(entry['predicted_times'])[:60]!r}"
        raise ManifestError(str(path), place, cause, "Expected [start, end] in seconds of each answer.") from None
    return own, np.column_stack([times, np.full(len(times), np.nan)])
