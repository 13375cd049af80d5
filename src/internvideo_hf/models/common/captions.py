"""Generation of captions from visual tokens, as models do it in torch and when exported."""

from typing import Any

import torch
from transformers import DynamicCache, GenerationMixin
from transformers.cache_utils import EncoderDecoderCache

from internvideo_hf.models.common.narrowing import known


class CaptionGenerationMixin(GenerationMixin):
    """Writes captions, for a model with `get_visual_tokens` and a `text_config`."""

    @torch.no_grad()
    def generate(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        visual_tokens: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Write captions; see transformers' `GenerationMixin.generate` for the options and the result.

        Args:
            pixel_values_videos: `(videos, frames, channels, height, width)`.
            input_ids: beginnings of the captions without padding, `(videos, tokens)`, or one for all, `(1, tokens)`;
                the begin-of-text token by default. The end of text, which processors add, is left out.
            visual_tokens: of `get_visual_tokens`, in place of pixels.
            kwargs: such as `num_beams=3`, `do_sample=True`, `max_new_tokens=30`.

        Raises:
            ValueError: if there are no clips, a beginning is padded, there are not as many as clips, or an option is
                not supported.
        """
        for name in ("output_attentions", "output_hidden_states", "cache_implementation"):
            if kwargs.get(name):
                raise ValueError(
                    f"generate has no {name} for this model. Leave it out; call the model on the captions."
                )
        if visual_tokens is None:
            if pixel_values_videos is None:
                raise ValueError("Got no clips: pass pixel_values_videos, or the visual_tokens of get_visual_tokens.")
            visual_tokens = self.get_visual_tokens(pixel_values_videos)  # type: ignore[attr-defined]  # of the class
        mask = kwargs.get("attention_mask")
        if mask is not None and not mask.all():
            raise ValueError(
                "The beginnings of the captions are padded, but the decoder has no mask of padding. Generate from "
                "beginnings of one length at a time."
            )
        input_ids = self._beginnings(input_ids, visual_tokens)
        if "max_new_tokens" in kwargs and "max_length" not in kwargs:  # two limits, of which the configuration has one
            kwargs["max_length"] = input_ids.shape[1] + kwargs.pop("max_new_tokens")
        # Given, since transformers would look for padding in the beginnings by a token that also ends a text.
        kwargs["attention_mask"] = torch.ones_like(input_ids)
        if kwargs.get("use_cache", True) and kwargs.get("cache") is None:
            kwargs["cache"] = new_cache()
        return super().generate(input_ids, visual_tokens=visual_tokens, **kwargs)

    def _beginnings(self, input_ids: torch.Tensor | None, visual_tokens: torch.Tensor) -> torch.Tensor:
        """Return the beginning of each clip's caption, `(clips, tokens)`, without the end that processors add."""
        text, clips = self.config.text_config, len(visual_tokens)  # type: ignore[attr-defined]  # of the class
        if input_ids is None:
            return torch.full((clips, 1), known(text.bos_token_id), device=visual_tokens.device)
        end: Any = text.eos_token_id  # an integer, of which transformers' stub knows less
        if input_ids.shape[1] > 1 and (input_ids[:, -1] == end).all():
            input_ids = input_ids[:, :-1]
        if len(input_ids) not in (1, clips):
            raise ValueError(
                f"Got {clips} clips and {len(input_ids)} beginnings, expected one a clip, or one for all."
            )
        return input_ids.expand(clips, -1)


def new_cache() -> EncoderDecoderCache:
    """Return an empty cache, for keys and values of the text tower, of the decoder, and of the visual tokens."""
    return EncoderDecoderCache(DynamicCache(), DynamicCache())
