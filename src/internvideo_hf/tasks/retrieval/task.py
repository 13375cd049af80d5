"""Retrieval: which video a text describes, and which text describes a video."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from internvideo_hf.inference.ranking import SEVERAL, retrieval_metrics
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.base import Task
from internvideo_hf.tasks.dual_encoder import SETTINGS, VideoEmbeddings, check_dual_encoder_protocol, view_facts
from internvideo_hf.tasks.protocol import (
    Evaluation,
    Outcome,
    Protocol,
    Run,
    Samples,
    check_list,
    read_rows,
    require_column,
    unique_clips,
)
from internvideo_hf.utils.names import check_name

RANKS = {"video": "places among videos, by the nearest caption of each", "caption": "places among captions"}
WAYS = {"plain": "", "dual_softmax": ", dual softmax"}


def _check(protocol: Protocol) -> None:
    check_dual_encoder_protocol(protocol)
    check_name(protocol.several, SEVERAL, "several", RecipeError)
    check_list(protocol.data.layout)


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    rows = read_rows(protocol.data, data_root, check_labels=False, allow_duplicates=True)
    require_column(rows, "caption", protocol.data.list)
    videos, owners = unique_clips(rows)
    return Samples(videos, owners, [row["caption"] for row in rows])


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    found = VideoEmbeddings.compute(protocol, samples, run)
    texts = found.embed_texts(samples.texts, protocol.caption_rule)
    similarity = (found.factor * texts @ found.vectors.T).numpy()
    scores = retrieval_metrics(similarity, samples.owners, missing=list(found.causes), several=protocol.several)
    return Outcome(scores, found.causes, found.facts)


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    settings = result["settings"]
    return {
        **view_facts(result),
        "texts": f"{result['data']['texts']}, of at most {settings['text_length']} tokens",
        "ranks": f"of video to text: {RANKS[settings['several']]}",
        "factor": f"of the cosine: {settings['factor']}",
    }


def _lines(result: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float], list[Mapping[str, Any]]]]:
    lines = []
    for direction, ways in result["scores"].items():
        for way, scores in ways.items():
            wanted = (direction, way == "dual_softmax")
            published = [row for row in result["published"] if (row["direction"], row["dual_softmax"]) == wanted]
            lines.append((f"{direction.replace('_', ' ')}{WAYS[way]}", scores, published))
    return lines


TASK = Task(
    "retrieval",
    evaluation=Evaluation(
        read=_read,
        run=_run,
        columns=("R@1", "R@5", "R@10", "MedR", "MeanR"),
        settings=(*SETTINGS, "several", "caption_rule", "data.layout", "data.only"),
        check=_check,
        facts=_facts,
        lines=_lines,
        on_engines=True,
    ),
)
