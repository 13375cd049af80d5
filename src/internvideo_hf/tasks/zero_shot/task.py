"""Zero-shot classification: which of the classes that are named when asking a video shows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from internvideo_hf.data.manifests import LAYOUTS
from internvideo_hf.inference.merging import top_k_accuracy
from internvideo_hf.processing.post_process import zero_shot_scores
from internvideo_hf.recipes import load_prompts
from internvideo_hf.recipes.labels import LABEL_SETS, load_labels
from internvideo_hf.tasks.base import Task
from internvideo_hf.tasks.dual_encoder import VideoEmbeddings, check_dual_encoder_protocol
from internvideo_hf.tasks.protocol import (
    Evaluation,
    Outcome,
    Protocol,
    Run,
    Samples,
    check_choice,
    read_rows,
    require_column,
    unique_clips,
)

CHUNK_SIZE = 1024  # videos, whose scores are several for each class and prompt


def _check(protocol: Protocol) -> None:
    check_dual_encoder_protocol(protocol)
    if protocol.data.layout is not None:
        check_choice("data.layout", protocol.data.layout, LAYOUTS)
    check_choice("data.labels", protocol.data.labels, LABEL_SETS)
    check_choice("prompts", protocol.prompts, load_prompts())


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    rows = read_rows(protocol, data_root, labels=load_labels(protocol.data.labels))
    require_column(protocol, rows, "label")
    videos, owners = unique_clips(rows)
    return Samples(videos, owners, labels=np.array([row["label"] for row in rows]))


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    found = VideoEmbeddings.compute(protocol, samples, run, merge=False)
    prompts, labels = load_prompts()[protocol.prompts], load_labels(protocol.data.labels)
    sentences = [template.replace("{}", label) for template in prompts.templates for label in labels]
    texts = found.embed_texts(sentences, prompts.clean).unflatten(0, (len(prompts.templates), len(labels)))
    chunks = found.vectors.flatten(0, 1).split(CHUNK_SIZE)
    scores = torch.cat([zero_shot_scores(chunk, texts, found.factor, prompts.mean_of)[0] for chunk in chunks])
    merged = found.merged(samples, scores.unflatten(0, found.vectors.shape[:2]).mean(dim=1)[samples.owners])
    top1, top5 = (100 * top_k_accuracy(merged, k) for k in (1, 5))
    return Outcome({"top-1": top1, "top-5": top5, "mean": (top1 + top5) / 2}, found.causes, found.model_facts)


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    settings = result["settings"]
    return {"texts": f"prompts of {settings['prompts']}, of at most {settings['text_length']} tokens"}


TASK = Task(
    "zero_shot",
    evaluation=Evaluation(read=_read, run=_run, columns=("top-1", "top-5", "mean"), check=_check, facts=_facts),
)
