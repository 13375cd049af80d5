"""Scores of a model in torch and of its export, on the same frames of a list of labels or captions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.export.functions import Traceable
from internvideo_hf.export.samples import read_clips
from internvideo_hf.inference.merging import top_k_accuracies
from internvideo_hf.inference.ranking import retrieval_recalls
from internvideo_hf.inference.runner import VideoProcessor
from internvideo_hf.models.common.exported.graphs import Graph
from internvideo_hf.models.common.exported.manifest import Score
from internvideo_hf.models.common.exported.modeling import TEXT, VIDEO
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.tasks.classifier_evaluation import check_answers
from internvideo_hf.tasks.labelled_clips import read_labelled_clips
from internvideo_hf.tasks.protocol import DataSettings, Samples, read_rows, require_column, unique_clips

_TEXTS_AT_ONCE = 64
_Tensors = Mapping[str, torch.Tensor]
_Compute = Callable[[_Tensors], _Tensors]


def read_samples(path: str | Path, model: PreTrainedModel, kind: str, name: str | Path) -> Samples:
    """Read a list that a model and its export are scored on.

    Args:
        path: a list of videos with labels (`label`) or captions (`caption`), or a folder of clips by class; videos are
            relative to its folder.
        model: to be exported.
        kind: its `export_kind`.
        name: its folder, for messages.

    Raises:
        ValueError: if the list is invalid or lacks labels or captions, or the model gives neither classes nor
            similarities with texts.
    """
    path = Path(path)
    data, root = DataSettings(path.name), path.parent
    if kind == "classifier":
        check_answers(name, model.config, "classification")
        rows = read_labelled_clips(data, root, name, classes_of(model.config))
        videos, owners = unique_clips(rows)
        return Samples(videos, owners, labels=np.array([row["label"] for row in rows]))
    if kind not in ("dual_encoder", "captioner"):
        raise ValueError(
            f"{name} names no classes and takes no texts, so that a list of labels or captions gives no score. Leave "
            "out --evaluate."
        )
    rows = read_rows(data, root, check_labels=False, allow_duplicates=True)
    require_column(rows, "caption", data.list)
    videos, owners = unique_clips(rows)
    return Samples(videos, owners, [row["caption"] for row in rows])


def score(
    samples: Samples,
    functions: Mapping[str, Traceable],
    graphs: Mapping[str, Graph],
    processor: VideoProcessor,
    texts: InternVideoProcessor | None,
    say: Callable[[str], object] = lambda text: None,
) -> dict[str, Score]:
    """Return top-1 of a classifier, or R@1 of a model of video and text, in percent.

    Args:
        samples: of `read_samples`. Unreadable videos are left out.
        functions: in torch, by name.
        graphs: exported, by name.
        processor: after `fix_size`; one clip and one crop of each video are taken.
        texts: the processor of texts; None for a classifier.
        say: called with a line for each unreadable video.

    Raises:
        ValueError: if no video can be read.
    """
    ways: dict[str, tuple[_Compute, _Compute]] = {
        name: (function.reference, graphs[name]) for name, function in functions.items()
    }
    output = "logits" if texts is None else "pooler_output"
    numbers: list[int] = []
    vectors: tuple[list[np.ndarray[Any, Any]], ...] = ([], [])
    for number, inputs in read_clips(processor, samples.videos, "Scoring", say):
        numbers.append(number)
        for found, compute in zip(vectors, ways[VIDEO], strict=True):
            found.append(compute(inputs)[output].numpy())
    place = {number: row for row, number in enumerate(numbers)}
    rows = [row for row, owner in enumerate(samples.owners.tolist()) if owner in place]
    owners = np.array([place[int(samples.owners[row])] for row in rows])
    if texts is None:
        scores = [top_k_accuracies(np.concatenate(way)[owners], samples.labels[rows], (1,)) for way in vectors]
    else:
        captions = _token_batches([samples.texts[row] for row in rows], texts)
        scores = [
            _recalls(np.concatenate(way), [compute(batch)[output].numpy() for batch in captions], owners)
            for way, compute in zip(vectors, ways[TEXT], strict=True)
        ]
    before, after = scores
    return {name: Score(before[name], after[name], len(numbers)) for name in before}


def _token_batches(captions: Sequence[str], texts: InternVideoProcessor) -> list[_Tensors]:
    parts = (captions[start : start + _TEXTS_AT_ONCE] for start in range(0, len(captions), _TEXTS_AT_ONCE))
    return [{"input_ids": texts(text=list(part), truncation=True, return_tensors="pt")["input_ids"]} for part in parts]


def _recalls(
    videos: np.ndarray[Any, Any], texts: Sequence[np.ndarray[Any, Any]], owners: np.ndarray[Any, Any]
) -> dict[str, float]:
    by_video, by_text = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (videos, np.concatenate(texts))
    )
    similarity = by_text @ by_video.T
    told = [np.flatnonzero(owners == video) for video in range(len(videos))]
    return {
        "text to video R@1": retrieval_recalls(similarity, [[owner] for owner in owners.tolist()])["R@1"],
        "video to text R@1": retrieval_recalls(similarity.T, told)["R@1"],
    }
