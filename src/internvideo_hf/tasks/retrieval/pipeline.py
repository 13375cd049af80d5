"""Ranking of texts for each video, and of videos for each text."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.pipelines.base import Pipeline

from internvideo_hf.inference.embedder import embed_texts
from internvideo_hf.inference.merging import check_finite
from internvideo_hf.inference.pipeline import DualEncoderPipeline, check_count
from internvideo_hf.inference.ranking import dual_softmax
from internvideo_hf.inference.runner import cosine_scale, embed_views, merge_embeddings
from internvideo_hf.processing.video_processing import list_videos


class VideoTextRetrievalPipeline(DualEncoderPipeline):
    """Ranks texts for each video, and videos for each text, with any model that embeds both in one space.

    >>> from transformers import pipeline
    >>> import internvideo_hf
    >>> retrieve = pipeline("video-text-retrieval", model=folder)
    >>> found = retrieve(["a.mp4", "b.mp4"], texts=["a dog runs", "a car stops"])
    >>> found["text_to_video"][0][0]
    {'video': 'b.mp4', 'index': 1, 'score': ..., 'similarity': ...}
    """

    def __call__(  # type: ignore[override]
        self,
        inputs: Any,
        texts: str | Sequence[str] | None = None,
        top_k: int | None = None,
        dual: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Compare videos with texts.

        Args:
            inputs: one video or several, of every kind that `VideoReader` takes; repeated videos count repeatedly.
            texts: one text or several.
            top_k: answers for each video and each text, the best first; all by default.
            dual: weigh each similarity by its softmax in the other direction before ranking, as the second set of
                published retrieval results does; scores then depend on all videos and texts of the call.
            **kwargs: `batch_size`, the videos per forward pass, 1 by default; other options of
                `transformers.Pipeline`; options of the video processor.

        Returns:
            `video_to_text`: for each video a list of `{"text", "index", "score", "similarity"}`, the best first;
            `score` is a probability over the texts. `text_to_video`: for each text a list of `{"video", "index",
            "score", "similarity"}`; `score` is a probability over the videos, and `video` the given path or address,
            or None for a video without one. `similarity`: the cosines, a list for each video.

        Raises:
            VideoDecodeError: if a video cannot be read.
            ValueError: if there are no videos or no texts, or a text is empty or too long for the model.
        """
        texts = [texts] if isinstance(texts, str) else list(texts or [])
        if not texts or not all(text.strip() for text in texts):
            raise ValueError("Pass texts=, one or several, none of them empty.")
        if top_k is not None:
            check_count("top_k", top_k)
        videos, _ = list_videos(inputs)
        if not videos:
            raise ValueError("Pass one video or several.")
        # Pipeline's own call: VideoPipeline's would take a list of one image as a single video.
        video_embeds = torch.cat(list(Pipeline.__call__(self, videos, **kwargs)))
        cosines = video_embeds @ embed_texts(self.model, self.processor, texts).T
        check_finite(cosines.numpy(), "A similarity")
        logits = cosine_scale(self.model).cpu() * cosines
        by_video, by_text = logits, logits.T
        if dual:
            by_video, by_text = (torch.from_numpy(dual_softmax(way.double().numpy())) for way in (by_video, by_text))
        names = [{"video": video if isinstance(video, str) else None} for video in videos]
        return {
            "video_to_text": _ranked(by_video, cosines, [{"text": text} for text in texts], top_k),
            "text_to_video": _ranked(by_text, cosines.T, names, top_k),
            "similarity": cosines.tolist(),
        }

    def _sanitize_parameters(self, **processor_options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return self._processor_parameters(processor_options), {}, {}

    def _forward(  # type: ignore[override]
        self, model_inputs: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        return {"embeds": merge_embeddings(embed_views(self.model, model_inputs["pixel_values_videos"]))}

    def postprocess(self, model_outputs: dict[str, torch.Tensor]) -> torch.Tensor:  # type: ignore[override]
        return model_outputs["embeds"].reshape(1, -1)


def _ranked(
    logits: torch.Tensor, cosines: torch.Tensor, names: Sequence[dict[str, Any]], top_k: int | None
) -> list[list[dict[str, Any]]]:
    """Return for each row the columns by name, the largest logit first."""
    order = logits.argsort(dim=1, descending=True, stable=True)[:, :top_k]
    scores = logits.softmax(dim=1)
    return [
        [{**names[i], "index": i, "score": scores[row, i].item(), "similarity": cosines[row, i].item()} for i in best]
        for row, best in enumerate(order.tolist())
    ]
