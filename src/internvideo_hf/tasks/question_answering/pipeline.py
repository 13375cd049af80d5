"""Answers to questions about videos, out of a model's list."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from einops import rearrange

from internvideo_hf.data.answers import answers_of
from internvideo_hf.inference.merging import check_finite
from internvideo_hf.inference.pipeline import VideoPipeline, check_count, check_saved_as
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.processing.processing import InternVideoProcessor, clean_text
from internvideo_hf.processing.scripts import warn_of_foreign


class VideoQuestionAnsweringPipeline(VideoPipeline):
    """Answers questions about videos with a fine-tuned InternVideo-MM, out of the model's list of answers.

    transformers 5.24 has no pipeline of this kind: it gave up "visual-question-answering", which took images.

    >>> ask = pipeline("video-question-answering", model=folder)
    >>> ask("clip.mp4", question="what does the man do?", top_k=2)
    [{'answer': 'sing', 'score': ...}, {'answer': 'talk', 'score': ...}]
    """

    _load_processor = True
    processor: InternVideoProcessor

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        check_saved_as(self.model, "ForQuestionAnswering")

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Answer one or several questions about one or several videos.

        Args:
            inputs: one video or a list of videos, of every kind that `VideoReader` takes; each is decoded once.
            **kwargs: options of the pipeline, `transformers.Pipeline` and the video processor:

                - question (`str` or `list[str]`): the question, or several about each video.
                - top_k (`int`): number of answers to return, the best first; 5 by default.
                - batch_size (`int`): videos per forward pass, 1 by default.

        Returns:
            For each video and question a list of `{"answer", "score"}`, the best first; scores are probabilities over
            the model's answers, without the class that is none (`internvideo_hf.data.answers.BACKGROUND`). One video
            gives no outer list, one question none for questions.

        Raises:
            VideoDecodeError: if a video cannot be read.
            ValueError: if there is no question, or an option is invalid.
        """
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self, question: str | Sequence[str] | None = None, top_k: int | None = None, **processor_options: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        forward: dict[str, Any] = {}
        postprocess: dict[str, Any] = {} if top_k is None else {"top_k": check_count("top_k", top_k)}
        if question is not None:
            forward["input_ids"] = self.processor.encode_questions(_questions(question))["input_ids"]
            postprocess["is_one"] = isinstance(question, str)
        return self._processor_parameters(processor_options, ["question"]), forward, postprocess

    def _forward(  # type: ignore[override]
        self, model_inputs: dict[str, torch.Tensor], input_ids: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        if input_ids is None:
            raise ValueError("Pass question, what to ask about the video.")
        ids = input_ids.to(self.device)
        pixels = model_inputs["pixel_values_videos"].to(self.model.dtype)
        videos, views = pixels.shape[:2]
        logits = [self.model(clip[None], ids).logits for clip in pixels.flatten(0, 1)]
        answers = len(answers_of(classes_of(self.model.config)))  # a surplus class takes no part
        probabilities = torch.stack(logits)[..., :answers].double().softmax(dim=-1)
        return {"scores": rearrange(probabilities, "(b v) q a -> b v q a", b=videos, v=views).mean(dim=1)}

    def postprocess(  # type: ignore[override]
        self, model_outputs: dict[str, torch.Tensor], top_k: int = 5, is_one: bool = True
    ) -> Any:
        scores = model_outputs["scores"]
        scores = scores.reshape(-1, scores.shape[-1])  # a batch of one comes with its axis
        check_finite(scores.numpy(), "A score")
        answers = answers_of(classes_of(self.model.config))
        best = [row.argsort(descending=True, stable=True)[:top_k].tolist() for row in scores]
        found = [
            [{"answer": answers[index], "score": row[index].item()} for index in indices]
            for row, indices in zip(scores, best, strict=True)
        ]
        return found[0] if is_one else found


def _questions(question: str | Sequence[str]) -> tuple[str, ...]:
    texts = (question,) if isinstance(question, str) or not isinstance(question, Iterable) else tuple(question)
    for text in texts:
        if not isinstance(text, str) or not clean_text(text):
            raise ValueError(f"A question is {text!r}, expected one text or several, and no empty one.")
    if not texts:
        raise ValueError("There is no question, expected one text or several, and no empty one.")
    warn_of_foreign(texts)
    return texts
