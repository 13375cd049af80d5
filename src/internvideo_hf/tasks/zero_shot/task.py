"""Zero-shot classification: which of the classes that the caller names a video shows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange

from internvideo_hf.data.manifests import find_classes
from internvideo_hf.data.records import list_path
from internvideo_hf.inference.merging import top_k_accuracies
from internvideo_hf.processing.post_process import zero_shot_scores
from internvideo_hf.recipes import load_prompts
from internvideo_hf.recipes.labels import read_classes
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
from internvideo_hf.utils.names import check_name, lookup

CHUNK_SIZE = 1024  # videos; each has a score for every class and prompt


def _check(protocol: Protocol) -> None:
    check_dual_encoder_protocol(protocol)
    check_list(protocol.data.layout, protocol.data.labels)
    check_name(protocol.prompts, load_prompts(), "prompts", RecipeError)


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    if protocol.data.labels is None:
        classes = find_classes(list_path(data_root, protocol.data.list), layout=protocol.data.layout)
        if all(name.isdecimal() for name in classes):
            raise RecipeError(
                f"{protocol.data.list} has no names of classes. Set data.labels to a set of classes, or to a text "
                "file with one name a line."
            )
    else:
        classes = read_classes(protocol.data.labels, data_root)
    rows = read_rows(protocol.data, data_root, labels=classes)
    require_column(rows, "label", protocol.data.list)
    videos, owners = unique_clips(rows)
    return Samples(videos, owners, labels=np.array([row["label"] for row in rows]), classes=classes)


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    found = VideoEmbeddings.compute(protocol, samples, run, merge=False)
    prompts = lookup(load_prompts(), protocol.prompts, "prompts")
    texts = found.embed_texts(prompts.sentences(samples.classes), None)
    texts = rearrange(texts, "(p l) d -> p l d", p=len(prompts.templates))
    chunks = torch.split(rearrange(found.vectors, "n v d -> (n v) d"), CHUNK_SIZE)
    scores = torch.cat([zero_shot_scores(chunk, texts, found.factor, prompts.mean_of)[0] for chunk in chunks])
    scores = rearrange(scores, "(n v) l -> n v l", n=len(found.vectors)).mean(dim=1)
    accuracy = top_k_accuracies(found.without_failures(samples, scores[samples.owners]), samples.labels)
    return Outcome({**accuracy, "mean": sum(accuracy.values()) / 2}, found.causes, found.facts)


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    settings = result["settings"]
    return {
        **view_facts(result),
        "texts": f"prompts of {settings['prompts']}, of at most {settings['text_length']} tokens",
    }


TASK = Task(
    "zero_shot",
    evaluation=Evaluation(
        read=_read,
        run=_run,
        columns=("top-1", "top-5", "mean"),
        settings=(*SETTINGS, "prompts", "data.layout", "data.labels", "data.only"),
        check=_check,
        facts=_facts,
        on_engines=True,
    ),
)
