"""Question answering: which answer of a list a question about a video has."""

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForVisualQuestionAnswering, AutoProcessor, EvalPrediction

from internvideo_hf.data.answers import answers_of, read_answers
from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.inference.embedder import pixel_settings
from internvideo_hf.inference.merging import check_finite, top_k_accuracies
from internvideo_hf.inference.runner import load_model, read_videos, read_views, stack_views
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.models.common.losses import IGNORED
from internvideo_hf.models.common.narrowing import known
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.recipes.captions import clean_caption
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.base import Task, Training
from internvideo_hf.tasks.protocol import Evaluation, Outcome, Protocol, Run, Samples, model_facts, unique_clips
from internvideo_hf.tasks.question_answering.data import LAYOUTS, read_questions, read_training_rows
from internvideo_hf.utils.names import check_name
from internvideo_hf.utils.pretrained import load_pretrained

OF_KNOWN = "top-1 of known answers"
"""The score as the original counts: questions whose answer is not in the list are left out. In "top-1", as everybody
else counts, they are wrong."""


def accuracies(prediction: EvalPrediction) -> dict[str, float]:
    """Return top-1 accuracy in percent, counted both ways; unreadable videos count for nothing."""
    labels, videos = map(np.asarray, prediction.label_ids)
    readable, listed = videos != IGNORED, labels != IGNORED
    right = np.asarray(prediction.predictions).argmax(axis=-1) == labels
    return {"top-1": 100 * right[readable].mean().item(), OF_KNOWN: 100 * right[readable & listed].mean().item()}


def _logits(outputs: torch.Tensor | tuple[torch.Tensor, ...], labels: Any) -> torch.Tensor:
    return outputs[0] if isinstance(outputs, tuple) else outputs


def _make_collator(
    *, training: bool, processor: InternVideoProcessor, caption_rule: str | None = None, **_: Any
) -> VideoCollator:
    return VideoCollator(
        targets=("labels", "captions"),
        tokenize=processor.encode_questions,
        clean=None if caption_rule is None else partial(clean_caption, rule=caption_rule),
        keep_names=True,
        fill_gaps=not training,
    )


def _check(protocol: Protocol) -> None:
    check_name(protocol.data.layout, LAYOUTS, "data.layout", RecipeError)


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    config, data = load_pretrained(AutoConfig, model), protocol.data
    if not (config.architectures or [""])[0].endswith("ForQuestionAnswering"):
        raise RecipeError(f"{model} answers no questions: convert a question-answering checkpoint.")
    layout = check_name(data.layout, LAYOUTS, "data.layout", RecipeError)
    rows = list(read_questions(data_root / data.list, data_root, layout, check_files=False))
    classes = answers_of(classes_of(config)) if data.labels is None else read_answers(data_root / data.labels)
    if len(classes) > config.num_labels:
        raise RecipeError(f"{data.labels} has {len(classes)} answers, and {model} {config.num_labels}.")
    numbers = {answer: number for number, answer in enumerate(classes)}
    videos, owners = unique_clips(rows)
    labels = np.array([numbers.get(row["answer"], IGNORED) for row in rows])
    if (labels == IGNORED).all():
        raise RecipeError(
            f"None of the answers of {data.list} is one of {model}'s, such as {classes[0]!r}. Set data.labels to the "
            "list of its answers."
        )
    return Samples(videos, owners, [row["question"] for row in rows], labels, classes)


@torch.no_grad()
def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    model = load_model(AutoModelForVisualQuestionAnswering, run.model, run.device, protocol.dtype)
    processor = load_pretrained(AutoProcessor, run.model)
    processor.video_processor.configure(protocol.pixels)
    clips = protocol.views.get("num_clips", 1)
    questions_of = defaultdict(list)
    for row, owner in enumerate(samples.owners):
        questions_of[int(owner)].append(row)
    scores: NDArray[np.float64] = np.full((len(samples.texts), known(model.config.num_labels)), np.nan)
    causes: dict[int, str] = {}
    read = partial(read_views, processor=processor.video_processor, num_clips=clips)
    for batch in read_videos(samples.videos, read, run.settings, description="Answering"):
        causes |= {number: item for number, item in batch if isinstance(item, str)}
        for (number,), views in stack_views(batch):
            rows = questions_of[number]
            ids = processor.encode_questions([samples.texts[row] for row in rows])["input_ids"].to(model.device)
            pixels = views["pixel_values_videos"][0].to(model.device, model.dtype)
            logits = torch.stack([model(clip[None], ids).logits for clip in pixels])
            scores[rows] = logits.double().softmax(dim=-1).mean(dim=0).cpu().numpy()
            check_finite(scores[rows], f"A score of {run.model}")
    listed = samples.labels != IGNORED
    top = top_k_accuracies(scores[listed], samples.labels[listed], (1,))["top-1"]
    facts = {**model_facts(model), "pixels": pixel_settings(processor.video_processor), "known": float(listed.mean())}
    return Outcome({"top-1": top * float(listed.mean()), OF_KNOWN: top}, causes, facts)


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    return {"answers": f"of {result['model']['known']:.1%} of the questions, the right one is in the model's list"}


TASK = Task(
    "question_answering",
    training=Training(
        auto_class="AutoModelForVisualQuestionAnswering",
        make_collator=_make_collator,
        label_names=("labels", "video_ids"),
        needs_text=True,
        read=read_training_rows,
        compute_metrics=accuracies,
        preprocess_logits=_logits,
    ),
    evaluation=Evaluation(
        read=_read,
        run=_run,
        columns=("top-1", OF_KNOWN),
        settings=("data.labels",),
        check=_check,
        facts=_facts,
    ),
)
