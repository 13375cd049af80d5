"""transformers' own tests of pipelines, for every task in which each video has an answer, and every model.

"video-text-retrieval" answers for several videos at once, which these tests do not know.
"""

import os
import shutil
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn
from unittest.mock import patch

import pytest
import torch
from mixins.source import load
from models.tiny_classifiers import FAMILIES, write_classifiers
from transformers import (
    AutoModel,
    AutoModelForMultimodalLM,
    AutoModelForVideoClassification,
    AutoModelForVisualQuestionAnswering,
    AutoProcessor,
    AutoTokenizer,
    AutoVideoProcessor,
    PreTrainedModel,
    pipeline,
)

from internvideo_hf import auto

pytestmark = pytest.mark.slow

with tempfile.TemporaryDirectory() as folder:  # where the module looks for a table of models
    Path(folder, "reports").mkdir()
    Path(folder, "reports/tiny_model_summary.json").write_text("{}")
    with patch.dict(os.environ, TRANSFORMERS_TINY_MODEL_PATH=folder):
        mixin = load("test_pipeline_mixin")

TASKS = {
    "video-classification": FAMILIES,
    "multi-view-video-classification": FAMILIES,
    "zero-shot-video-classification": ("internvideo_mm", "viclip"),
    "video-to-text": ("internvideo_mm",),
    "video-question-answering": ("internvideo_mm",),
}
WITH_TEXT = {  # task -> the options that it is asked with
    "zero-shot-video-classification": {"candidate_labels": ["a dog", "a cat"]},
    "video-to-text": {"max_new_tokens": 2, "num_beams": 2, "num_return_sequences": 2},
    "video-question-answering": {"question": "who?", "top_k": 2},
}
ANSWERS = {
    "zero-shot-video-classification": {"label": str, "score": float, "similarity": float},
    "video-to-text": {"generated_text": str},
    "video-question-answering": {"answer": str, "score": float},
}
AUTO_CLASSES = {
    "zero-shot-video-classification": AutoModel,
    "video-to-text": AutoModelForMultimodalLM,
    "video-question-answering": AutoModelForVisualQuestionAnswering,
}


class PipelineTests:
    """Stands for the tests of each pipeline, such as `VideoClassificationPipelineTests`, which are not distributed."""

    task: str
    video: Path

    def get_test_pipeline(self, model: PreTrainedModel, tokenizer: Any, dtype: str, **made: Any) -> tuple[Any, list]:
        if tokenizer is None:
            made, options = {"video_processor": made["image_processor"]}, {"top_k": 2}
        else:
            options = WITH_TEXT[self.task]
        model = model.to(getattr(torch, dtype))  # a pipeline leaves the model that it is given as it is
        return pipeline(self.task, model=model, **made, **options), [self.video, str(self.video)]

    def run_pipeline_test(self, ask: Any, videos: list[Any]) -> None:
        for video in videos:
            answers = ask(video)
            assert len(answers) == 2
            for answer in answers:
                kinds = {name: type(value) for name, value in answer.items()}
                assert kinds == ANSWERS.get(self.task, {"label": str, "score": float})


class Runner(mixin.PipelineTesterMixin, unittest.TestCase):
    __test__ = False

    def skipTest(self, reason: str) -> NoReturn:
        self.fail(reason)  # they skip models and processors that do not load


def model_of(task: str, family: str) -> type[PreTrainedModel]:
    return auto.FAMILIES[family].models[AUTO_CLASSES.get(task, AutoModelForVideoClassification)]


@pytest.fixture(scope="module", autouse=True)
def tiny_models(tmp_path_factory, mm_folder, viclip_folder, captioner, answerer, bikes) -> Iterator[None]:
    """Put a model of each kind where they look for it, under the name of its class."""
    root = tmp_path_factory.mktemp("tiny-models")
    classifiers = write_classifiers(tmp_path_factory.mktemp("classifiers"))
    for task, families in TASKS.items():
        for family in families:
            made = {
                ("zero-shot-video-classification", "internvideo_mm"): mm_folder,
                ("zero-shot-video-classification", "viclip"): viclip_folder,
                ("video-to-text", "internvideo_mm"): captioner,
                ("video-question-answering", "internvideo_mm"): answerer,
            }
            folder = root / family / model_of(task, family).__name__
            shutil.copytree(made.get((task, family), classifiers / family), folder, dirs_exist_ok=True)
    classes = SimpleNamespace(AutoProcessor=AutoProcessor, ImageProcessor=AutoVideoProcessor, Tokenizer=AutoTokenizer)
    tests = dict.fromkeys(TASKS, {"test": f"{__name__}.{PipelineTests.__name__}"})
    with (
        patch.multiple(mixin, TRANSFORMERS_TINY_MODEL_PATH=str(root), transformers_module=classes),
        patch.dict(mixin.pipeline_test_mapping, tests),
        patch.object(PipelineTests, "video", bikes, create=True),
    ):
        yield


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("task", "family"), [(task, family) for task, families in TASKS.items() for family in families]
)
def test_pipeline(task: str, family: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PipelineTests, "task", task, raising=False)
    model = model_of(task, family)
    with_text = task in WITH_TEXT
    Runner().run_pipeline_test(
        task,
        model.__name__,
        model,
        tokenizer_name="Tokenizer" if with_text else None,
        image_processor_name=None if with_text else "ImageProcessor",
        feature_extractor_name=None,
        processor_name="AutoProcessor" if with_text else None,
        commit="main",
        dtype=dtype,
    )
