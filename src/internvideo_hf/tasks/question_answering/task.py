"""Question answering: which answer of a list a question about a video has."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForVisualQuestionAnswering, AutoProcessor, EvalPrediction
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.data.answers import answers_of, name_classes, numbered_answer, read_answers
from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.records import ManifestError, list_path
from internvideo_hf.data.samples import Row
from internvideo_hf.inference.embedder import pixel_settings
from internvideo_hf.inference.merging import check_finite
from internvideo_hf.inference.rows import Loader, Read, Work, run_rows
from internvideo_hf.inference.runner import load_by_name, load_model, read_views
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.models.common.losses import IGNORED
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.recipes.captions import clean_caption
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.base import Task, Training
from internvideo_hf.tasks.classifier_training import logits_of
from internvideo_hf.tasks.protocol import (
    DataSettings,
    Evaluation,
    Outcome,
    Protocol,
    Run,
    Samples,
    config_of_kind,
    model_facts,
    unique_clips,
)
from internvideo_hf.tasks.question_answering.answers import KEPT, OF_KNOWN, Answers, both_accuracies
from internvideo_hf.tasks.question_answering.data import LAYOUTS, read_questions, read_training_rows
from internvideo_hf.utils.names import check_name
from internvideo_hf.utils.pretrained import load_pretrained

_AUTO_CLASS = "AutoModelForVisualQuestionAnswering"
_AT_ONCE = 256  # questions about a video in one forward pass


def accuracies(prediction: EvalPrediction) -> dict[str, float]:
    """Return top-1 accuracy in percent, counted both ways; unreadable videos count for nothing."""
    labels, videos = map(np.asarray, prediction.label_ids)
    readable = videos != IGNORED
    right = np.asarray(prediction.predictions).argmax(axis=-1) == labels
    return both_accuracies(right[readable], labels[readable] != IGNORED)


def _details(prediction: EvalPrediction, rows: Sequence[Row], config: PreTrainedConfig) -> Answers:
    logits = torch.from_numpy(np.asarray(prediction.predictions))
    best, scores = _best(logits.double().softmax(dim=-1))
    labels, videos = map(np.asarray, prediction.label_ids)
    best[torch.from_numpy(videos == IGNORED)] = -1
    questions = [{"video": row["video"], "question": row["caption"], "answer": row["answer"]} for row in rows]
    return Answers(questions, labels, best.numpy(), scores.numpy(), classes_of(config))


def _best(probabilities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the numbers of the best answers, the lower one of a tie first, and their probabilities."""
    scores, best = probabilities.sort(dim=-1, descending=True, stable=True)
    return best[..., :KEPT], scores[..., :KEPT]


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
    if protocol.data.layout is not None:
        check_name(protocol.data.layout, LAYOUTS, "data.layout", RecipeError)


def _classes(model: str, config: PreTrainedConfig, data: DataSettings, data_root: Path) -> list[str]:
    """Return the names of a model's classes: its own, or those of `data.labels` if its own are numbers."""
    classes = classes_of(config)
    if data.labels is None:
        return classes
    try:
        named = name_classes(read_answers(data_root / data.labels), len(classes))
    except ManifestError:
        raise
    except ValueError as error:
        raise RecipeError(f"data.labels={data.labels}: {error}") from error
    if classes not in (named, [numbered_answer(number) for number in range(len(classes))]):
        raise RecipeError(
            f"{model} has the answers {', '.join(classes[:3])}, ..., and data.labels={data.labels} "
            f"{', '.join(named[:3])}, ... Give the list that it was trained on, or set data.labels=null for its own."
        )
    return named


def _read(protocol: Protocol, data_root: Path, model: str) -> Samples:
    data, refusal = protocol.data, "answers no questions: convert a question-answering checkpoint."
    config = config_of_kind(protocol, model, "ForQuestionAnswering", refusal)
    rows = list(read_questions(list_path(data_root, data.list), data_root, data.layout, check_files=False))
    classes = _classes(model, config, data, data_root)
    numbers = {answer: number for number, answer in enumerate(answers_of(classes))}
    videos, owners = unique_clips(rows)
    labels = np.array([numbers.get(row["answer"], IGNORED) for row in rows])
    if (labels == IGNORED).all():
        raise RecipeError(
            f"None of the answers of {data.list} is one of {model}'s, such as {classes[0]!r}. Set data.labels to the "
            "list of its answers."
        )
    questions, answers = ([row[name] for row in rows] for name in ("question", "answer"))
    return Samples(videos, owners, questions, labels, classes, answers)


def _run(protocol: Protocol, samples: Samples, run: Run) -> Outcome:
    model = load_model(AutoModelForVisualQuestionAnswering, run.model, run.device, protocol.dtype)
    processor = load_pretrained(AutoProcessor, run.model)
    processor.video_processor.configure(protocol.pixels)
    facts = {**model_facts(model), "pixels": pixel_settings(processor.video_processor)}
    names = [str(row["video"]) for row in samples.videos]
    order, counts = np.argsort(samples.owners, kind="stable"), np.bincount(samples.owners, minlength=len(names))
    asked = np.split(order, np.cumsum(counts)[:-1])
    rows = [
        {**row, "questions": [samples.texts[number] for number in own]}
        for row, own in zip(samples.videos, asked, strict=True)
    ]
    work = Work(
        partial(read_views, processor=processor.video_processor, num_clips=protocol.views.get("num_clips", 1)),
        partial(_answer, processor=processor, most=int(counts.max())),
        Loader(
            load_by_name, run.model, (("auto_class", "AutoModelForVisualQuestionAnswering"), ("dtype", protocol.dtype))
        ),
        views=run.settings.batch_size,  # one video at a time, whose questions make the batch
        blanks={"best": -1},
    )
    parts = run.parts_of(model, facts, protocol.views, names, samples.owners.tolist(), samples.texts)
    table, causes = run_rows(rows, model, work, run.settings, parts=parts, description="Answering")
    found = {name: np.empty((len(order), *tensor.shape[2:]), tensor.numpy().dtype) for name, tensor in table.items()}
    for name, tensor in table.items():
        for own, answers in zip(asked, tensor.numpy(), strict=True):
            found[name][own] = answers[: len(own)]
    questions = [
        {"video": names[owner], "question": question, "answer": answer}
        for owner, question, answer in zip(samples.owners, samples.texts, samples.answers, strict=True)
    ]
    answers = Answers(questions, samples.labels, found["best"], found["scores"], samples.classes)
    listed = samples.labels != IGNORED
    facts |= {"known": float(listed.mean())}
    return Outcome(both_accuracies(answers.right, listed), causes, facts, answers)


@torch.no_grad()
def _answer(
    model: PreTrainedModel, batch: Sequence[Read], processor: InternVideoProcessor, most: int
) -> dict[str, torch.Tensor]:
    """Answer all questions about videos: the best answers and their probabilities, `(videos, most, answers)` each."""
    tables = []
    for row, views in batch:
        pixels = views["pixel_values_videos"].to(model.device, model.dtype)
        found = []
        for start in range(0, len(row["questions"]), _AT_ONCE):
            ids = processor.encode_questions(row["questions"][start : start + _AT_ONCE])["input_ids"].to(model.device)
            logits = torch.stack([model(clip[None], ids).logits for clip in pixels])
            found.append(logits.double().softmax(dim=-1).mean(dim=0).cpu())
        probabilities = torch.cat(found)
        check_finite(probabilities.numpy(), "A score")
        tables.append([_padded(answers, most) for answers in _best(probabilities)])
    best, scores = map(torch.stack, zip(*tables, strict=True))
    return {"best": best, "scores": scores}


def _padded(answers: torch.Tensor, rows: int) -> torch.Tensor:
    return torch.cat([answers, answers.new_zeros(rows - len(answers), *answers.shape[1:])])


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    return {"answers": f"of {result['model']['known']:.1%} of the questions, the right one is in the model's list"}


TASK = Task(
    "question_answering",
    training=Training(
        auto_class=_AUTO_CLASS,
        make_collator=_make_collator,
        label_names=("labels", "video_ids"),
        needs_text=True,
        read=read_training_rows,
        compute_metrics=accuracies,
        preprocess_logits=logits_of,
        details=_details,
    ),
    evaluation=Evaluation(
        read=_read,
        run=_run,
        columns=("top-1", OF_KNOWN),
        settings=("data.layout", "data.labels"),
        check=_check,
        facts=_facts,
        has_details=True,
        on_engines=True,
    ),
)
