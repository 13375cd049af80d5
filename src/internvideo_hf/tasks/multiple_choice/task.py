"""Multiple choice: which of several answers is true of a video."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from internvideo_hf.inference.merging import top_k_accuracy
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.base import Task
from internvideo_hf.tasks.dual_encoder import VideoEmbeddings, check_dual_encoder_protocol
from internvideo_hf.tasks.multiple_choice.data import LAYOUTS, read_questions
from internvideo_hf.tasks.protocol import Evaluation, Outcome, Protocol, Run, Samples, check_choice, unique_clips


def _check(protocol: Protocol) -> None:
    check_dual_encoder_protocol(protocol)
    check_choice("data.layout", protocol.data.layout, LAYOUTS)


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    data = protocol.data
    options = {"leave_out": data.leave_out, "check_files": False}
    rows = list(read_questions(data_root / data.list, data_root, data.layout, **options))
    if len({len(row["options"]) for row in rows}) > 1:
        raise RecipeError(f"{data.list} has questions with different numbers of options. Split it.")
    videos, owners = unique_clips(rows)
    texts = [option for row in rows for option in row["options"]]
    return Samples(videos, owners, texts, np.array([row["answer"] for row in rows]))


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    found = VideoEmbeddings.compute(protocol, samples, run)
    texts = found.embed_texts(samples.texts or [], protocol.caption_rule).unflatten(0, (len(samples.owners), -1))
    scores = found.factor * torch.einsum("qd,qod->qo", found.vectors[samples.owners], texts)
    accuracy = 100 * top_k_accuracy(found.merged(samples, scores), 1)
    return Outcome({"top-1": accuracy}, found.causes, found.model_facts)


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    return {"texts": f"{result['data']['texts']}, of at most {result['settings']['text_length']} tokens"}


TASK = Task(
    "multiple_choice",
    evaluation=Evaluation(read=_read, run=_run, columns=("top-1",), check=_check, facts=_facts),
)
