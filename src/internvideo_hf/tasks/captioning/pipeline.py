"""Captions of videos."""

from typing import Any

import torch

from internvideo_hf.inference.pipeline import VideoPipeline
from internvideo_hf.processing.processing import InternVideoProcessor, clean_text


class VideoToTextPipeline(VideoPipeline):
    """Describes videos with an InternVideo-MM that has its caption decoder.

    >>> describe = pipeline("video-to-text", model=folder)
    >>> describe("clip.mp4", num_beams=3)
    [{'generated_text': 'a dog runs over a field'}]
    """

    _load_processor = True
    processor: InternVideoProcessor

    def __call__(  # type: ignore[override]
        self, inputs: Any, **kwargs: Any
    ) -> list[dict[str, str]] | list[list[dict[str, str]]]:
        """Describe one or several videos.

        Args:
            inputs: one video or a list of videos, of every kind that `VideoReader` takes.
            **kwargs: options of the pipeline, of `generate` and of the video processor:

                - text (`str`): the beginning of every caption; none by default.
                - num_beams, do_sample, max_new_tokens, num_return_sequences, ...: see transformers' `generate`; by
                  default the best token each time, to the end of the text or of the table of positions.
                - batch_size (`int`): videos per forward pass, 1 by default.

        Returns:
            For each video a list of `{"generated_text"}`, as many as `num_return_sequences`, each with its beginning.
            One video gives one such list.

        Raises:
            VideoDecodeError: if a video cannot be read.
            ValueError: if an option is invalid, or the beginning fills the table of positions.
        """
        answers: list[dict[str, str]] | list[list[dict[str, str]]] = super().__call__(inputs, **kwargs)
        return answers

    def _sanitize_parameters(
        self, text: str | None = None, generate_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        settings = self.model.generation_config.to_dict()
        generate = {name: options.pop(name) for name in list(options) if name in settings}
        forward: dict[str, Any] = {**(generate_kwargs or {}), **generate}
        if text is not None:
            forward["beginning"] = self._begin(text)
        return self._processor_parameters(options, ["text", *settings]), forward, {}

    def _begin(self, text: str) -> list[int]:
        ids: list[int] = self.processor.tokenizer(clean_text(text))["input_ids"][:-1]  # without its end
        longest = self.model.config.text_config.max_position_embeddings
        if len(ids) >= longest:
            raise ValueError(f"The beginning has {len(ids)} tokens, and a caption at most {longest}. Shorten it.")
        return ids

    def _forward(  # type: ignore[override]
        self, model_inputs: dict[str, torch.Tensor], beginning: list[int] | None = None, **options: Any
    ) -> dict[str, torch.Tensor]:
        model: Any = self.model  # with the methods of GenerationMixin, which its type does not tell
        pixels = model_inputs["pixel_values_videos"]
        if pixels.shape[1] != 1:
            raise ValueError(f"Got {pixels.shape[1]} views of a video, expected one: a caption reads one clip.")
        clips = pixels[:, 0].to(model.dtype)
        ids = None if beginning is None else torch.tensor([beginning] * len(clips), device=clips.device)
        sequences = model.generate(clips, ids, **options)
        return {"sequences": sequences.unflatten(0, (len(clips), -1))}

    def postprocess(self, model_outputs: dict[str, torch.Tensor]) -> list[dict[str, str]]:  # type: ignore[override]
        sequences = model_outputs["sequences"].flatten(0, -2)
        return [{"generated_text": self.processor.decode_text(ids)} for ids in sequences]
