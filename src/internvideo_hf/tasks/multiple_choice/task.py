"""Multiple choice: which of several answers fits a video."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange

from internvideo_hf.inference.merging import top_k_accuracies
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.base import Task
from internvideo_hf.tasks.dual_encoder import SETTINGS, VideoEmbeddings, check_dual_encoder_protocol, view_facts
from internvideo_hf.tasks.multiple_choice.data import LAYOUTS, read_questions
from internvideo_hf.tasks.protocol import (
    Evaluation,
    Outcome,
    Protocol,
    Run,
    Samples,
    unique_clips,
)
from internvideo_hf.utils.names import check_name


def _check(protocol: Protocol) -> None:
    check_dual_encoder_protocol(protocol)
    check_name(protocol.data.layout, LAYOUTS, "data.layout", RecipeError)


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    data = protocol.data
    layout = check_name(data.layout, LAYOUTS, "data.layout", RecipeError)
    rows = list(read_questions(data_root / data.list, data_root, layout, leave_out=data.leave_out, check_files=False))
    if len({len(row["options"]) for row in rows}) > 1:
        raise RecipeError(
            f"{data.list} has questions with different numbers of options, expected one number. Split the list."
        )
    videos, owners = unique_clips(rows)
    texts = [option for row in rows for option in row["options"]]
    return Samples(videos, owners, texts, np.array([row["answer"] for row in rows]))


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    found = VideoEmbeddings.compute(protocol, samples, run)
    texts = found.embed_texts(samples.texts, protocol.caption_rule)
    texts = rearrange(texts, "(q o) d -> q o d", q=len(samples.owners))
    scores = found.factor * torch.einsum("qd,qod->qo", found.vectors[samples.owners], texts)
    accuracy = top_k_accuracies(found.without_failures(samples, scores), samples.labels, (1,))
    return Outcome(accuracy, found.causes, found.facts)


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    return {
        **view_facts(result),
        "texts": f"{result['data']['texts']}, of at most {result['settings']['text_length']} tokens",
    }


TASK = Task(
    "multiple_choice",
    evaluation=Evaluation(
        read=_read,
        run=_run,
        columns=("top-1",),
        settings=(*SETTINGS, "caption_rule", "data.layout", "data.leave_out"),
        check=_check,
        facts=_facts,
        on_engines=True,
    ),
)
