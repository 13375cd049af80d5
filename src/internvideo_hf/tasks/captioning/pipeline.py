"""Captions of videos."""

from collections.abc import Sequence
from typing import Any

import torch

from internvideo_hf.inference.pipeline import VideoPipeline, check_count, check_saved_as
from internvideo_hf.processing.processing import InternVideoProcessor, clean_text
from internvideo_hf.processing.scripts import warn_of_foreign

ONE_VIEW = {"num_clips": 1, "num_crops": 1}


class VideoToTextPipeline(VideoPipeline):
    """Describes videos with an InternVideo-MM that has its caption decoder.

    transformers 5.24 has no pipeline from videos to texts but "image-text-to-text" and "any-to-any", which hold chats;
    the name follows its "image-to-text" of old.

    >>> describe = pipeline("video-to-text", model=folder)
    >>> describe("clip.mp4", num_beams=3)
    [{'generated_text': 'a dog runs over a field'}]
    """

    _load_processor = True
    processor: InternVideoProcessor

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        check_saved_as(self.model, "ForConditionalGeneration")

    def __call__(  # type: ignore[override]
        self, inputs: Any, **kwargs: Any
    ) -> list[dict[str, str]] | list[list[dict[str, str]]]:
        """Describe one or several videos.

        Args:
            inputs: one video or a list of videos, of every kind that `VideoReader` takes.
            **kwargs: options of the pipeline, of `generate` and of the video processor:

                - text (`str`): the beginning of every caption; none by default.
                - num_beams, do_sample, max_new_tokens, num_return_sequences, ...: settings of transformers'
                  `GenerationConfig`; by default the best token each time, to the end of the text or of the table of
                  positions. Other arguments of `generate` go into `generate_kwargs`, a `dict`.
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
        for name in {"num_beams", "num_return_sequences"} & forward.keys():
            check_count(name, forward[name])
        if forward.get("return_dict_in_generate"):
            raise ValueError("return_dict_in_generate: a pipeline returns texts. Call the model's generate.")
        if text is not None:
            forward["beginning"] = self._begin(text)
        if any(options.get(name, 1) != 1 for name in ONE_VIEW):
            raise ValueError("A caption reads one clip of a video: leave out num_clips and num_crops.")
        self._check_length(**{**getattr(self, "_forward_params", {}), **forward})
        return self._processor_parameters(options | ONE_VIEW, ["text", *settings]), forward, {}

    def _begin(self, text: str) -> list[int]:
        if not isinstance(text, str):
            raise ValueError(f"text is {text!r}, expected one text: the beginning of every caption.")
        warn_of_foreign([text])
        ids: list[int] = self.processor.tokenizer(clean_text(text), verbose=False)["input_ids"]
        return ids[:-1]  # without its end

    def _check_length(
        self,
        beginning: Sequence[int] = (0,),
        max_new_tokens: int | None = None,
        max_length: int | None = None,
        **_: Any,
    ) -> None:
        """Refuse a caption that would not fit into the table of positions, before a video is read."""
        begun, longest = len(beginning), self.model.config.text_config.max_position_embeddings
        if begun >= longest:
            raise ValueError(f"text has {begun} tokens, expected at most {longest - 1}. Shorten it.")
        if max_new_tokens is not None and not 1 <= max_new_tokens <= longest - begun:
            raise ValueError(
                f"max_new_tokens is {max_new_tokens}, expected 1 to {longest - begun}: a caption has at most "
                f"{longest} tokens, {begun} of which are its beginning."
            )
        if max_length is not None and not begun < max_length <= longest:
            raise ValueError(f"max_length is {max_length}, expected {begun + 1} to {longest}.")

    def _forward(  # type: ignore[override]
        self, model_inputs: dict[str, torch.Tensor], beginning: list[int] | None = None, **options: Any
    ) -> dict[str, torch.Tensor]:
        model: Any = self.model  # with the methods of GenerationMixin, which its type does not tell
        clips = model_inputs["pixel_values_videos"][:, 0].to(model.dtype)
        ids = None if beginning is None else torch.tensor([beginning] * len(clips), device=clips.device)
        sequences = model.generate(clips, ids, **options)
        return {"sequences": sequences.unflatten(0, (len(clips), -1))}

    def postprocess(self, model_outputs: dict[str, torch.Tensor]) -> list[dict[str, str]]:  # type: ignore[override]
        sequences = model_outputs["sequences"].flatten(0, -2)
        return [{"generated_text": self.processor.decode_text(ids)} for ids in sequences]
