"""The processor of models of text and video."""

import html
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ftfy
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin
from transformers.utils import cached_file, logging

from internvideo_hf.processing.scripts import is_foreign
from internvideo_hf.utils.files import atomic_write_text
from internvideo_hf.utils.loader import SavedWithLoader

logger = logging.get_logger(__name__)
NULL_CAPTIONS = "null_captions.json"
_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
_NEVER_RAISE = {
    f"_raise_exceptions_for_{what}": False for what in ("gated_repo", "missing_entries", "connection_errors")
}


def clean_text(text: str) -> str:
    """Clean a text as CLIP's own tokenizer does before it splits words.

    Fix broken encodings and look-alike characters, resolve HTML entities twice (crawled captions escape them twice),
    collapse white space, convert to lower case.
    """
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip().lower()


class TextLengthError(ValueError):
    """A text has more tokens than the model takes.

    Args:
        cause: which text, and how many.
    """

    def __str__(self) -> str:
        return f"{self.args[0]} Shorten it, or pass truncation=True."

    @property
    def in_shell(self) -> str:
        """The message in words of the command line."""
        return f"{self.args[0]} Shorten it."


class InternVideoProcessor(SavedWithLoader, ProcessorMixin):
    """Turns videos into `pixel_values_videos` and texts into `input_ids`.

    Args:
        video_processor: an `InternVideoVideoProcessor`.
        tokenizer: CLIP's.

    Attributes:
        null_captions: the content of the folder's `null_captions.json`, by which searches with the model are
            calibrated, see `internvideo_hf.search.calibration`; None where it has none.
    """

    loaded_by = "AutoProcessor"
    text_kwargs = {"padding": True}
    null_captions: dict[str, Any] | None = None

    def __init__(self, video_processor: Any = None, tokenizer: Any = None) -> None:
        super().__init__(video_processor, tokenizer)  # type: ignore[no-untyped-call]

    @classmethod
    def from_pretrained(  # type: ignore[override]  # of any options
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> "InternVideoProcessor":
        """Load the processor of a model.

        Args:
            pretrained_model_name_or_path: folder, or name on the Hub.
            kwargs: options of transformers' processors, such as `revision`.

        Raises:
            ValueError: if `null_captions.json` is not JSON.
        """
        processor: InternVideoProcessor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        where = {name: kwargs[name] for name in _HUB_OPTIONS if kwargs.get(name) is not None}
        file = cached_file(str(pretrained_model_name_or_path), NULL_CAPTIONS, **_NEVER_RAISE, **where)
        if file is not None:
            processor.null_captions = json.loads(Path(file).read_text(encoding="utf-8"))
        return processor

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> list[str]:  # type: ignore[override]
        """Save the processor.

        Args:
            save_directory: the folder.
            kwargs: options of transformers' processors.

        Returns:
            The paths of the files.
        """
        files: list[str] = super().save_pretrained(save_directory, **kwargs)
        if self.null_captions is not None:
            path = Path(save_directory) / NULL_CAPTIONS
            atomic_write_text(path, json.dumps(self.null_captions, indent=1) + "\n")
            files.append(str(path))
        return files

    def __call__(self, text: str | Sequence[str] | None = None, videos: Any = None, **kwargs: Any) -> BatchFeature:
        """Prepare texts, videos, or both for a model.

        Args:
            text: one text or several; cleaned by `clean_text`.
            videos: one video or several, of any kind that the video processor takes.
            kwargs: options of the tokenizer and the video processor, such as `return_tensors="pt"`,
                `truncation=True`, `num_frames=16`.

        Returns:
            `input_ids` and `attention_mask`, `(texts, tokens)`, padded with zeros; `pixel_values_videos`.

        Raises:
            ValueError: if a text exceeds the model's length and `truncation` is not set, or neither text nor videos
                are given.
            VideoDecodeError: if a video cannot be read.
        """
        if text is None and videos is None:
            raise ValueError("Got neither text nor videos; pass text=, videos=, or both.")
        if text is not None and not isinstance(text, str) and len(text) == 0:
            raise ValueError("text is empty; pass one text or several.")
        if text is not None:
            text = clean_text(text) if isinstance(text, str) else list(map(clean_text, text))
        features: BatchFeature = super().__call__(text=text, videos=videos, **kwargs)
        if text is not None and "attention_mask" in features:
            single = isinstance(text, str) and not hasattr(features["input_ids"], "ndim")
            mask = [features["attention_mask"]] if single else features["attention_mask"]
            self._check_lengths(mask, [text] if isinstance(text, str) else text)
            features["input_ids"] = _pad_with_zeros(features["input_ids"], features["attention_mask"])
        return features

    def encode_questions(self, texts: Sequence[str]) -> BatchFeature:
        """Prepare questions for a model of answers, which reads one token less than the table of positions has.

        Longer ones are cut in front of their end, with a warning; the original fails on them.

        Args:
            texts: one or more.

        Returns:
            `input_ids` and `attention_mask`, tensors `(texts, tokens)`.
        """
        longest = self.tokenizer.model_max_length - 1
        cleaned = [clean_text(text) for text in texts]
        if any(len(ids) > longest for ids in self.tokenizer(cleaned, verbose=False)["input_ids"]):
            logger.warning_once(f"A question is longer than {longest} tokens, and is cut in front of its end.")
        return self(text=cleaned, truncation=True, max_length=longest, return_tensors="pt")

    def decode_text(self, ids: Any) -> str:
        """Return the text of token ids, up to its end.

        Args:
            ids: `(tokens,)`, a tensor or a list; padded with anything behind the end.
        """
        numbers = [int(number) for number in ids]
        if self.tokenizer.eos_token_id in numbers:
            numbers = numbers[: numbers.index(self.tokenizer.eos_token_id)]
        text: str = self.tokenizer.decode(numbers, skip_special_tokens=True)
        return text.strip()

    def _check_lengths(self, attention_mask: Any, texts: Sequence[str]) -> None:
        limit = self.tokenizer.model_max_length
        for row, text in zip(attention_mask, texts, strict=True):
            if (tokens := int(sum(row))) > limit:
                remark = " Letters of other scripts than the Latin take several each." if is_foreign(text) else ""
                raise TextLengthError(
                    f"The text {text[:40] + '...'!r} has {tokens} tokens, expected at most {limit}.{remark}"
                )


def _pad_with_zeros(input_ids: Any, attention_mask: Any) -> Any:
    # The original pads with zeros, the tokenizer with the end-of-text token. Setting its padding token to id 0,
    # which is "!", would make each "!" of a text a special token.
    if isinstance(input_ids, list):
        return [_pad_with_zeros(ids, mask) for ids, mask in zip(input_ids, attention_mask, strict=True)]
    return input_ids * attention_mask  # tensors, arrays, and single ids alike
