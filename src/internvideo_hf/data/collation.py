"""Collate samples into batches: views of a video together, unreadable samples dropped, mixup last."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from internvideo_hf.data.failures import TooManyFailuresError
from internvideo_hf.data.raw_clips import Mixing, RawClips
from internvideo_hf.data.samples import PIXELS, Sample
from internvideo_hf.utils.names import check_name
from internvideo_hf.video.augment import collate_views

_OF_EACH_VIEW = (PIXELS, "bool_masked_pos")  # suffixes of the names of fields that each view has for itself
_BLANK = "blank_"  # before the name of pixels, while they are collated
_MIXING = "mixing"  # of a batch that is still to be mixed
TARGETS = ("labels", "captions")
EQUAL_CAPTIONS = ("text", "label")


class VideoCollator:
    """Makes a batch of samples, as `collate_fn` of a data loader and `data_collator` of a Trainer.

    Args:
        targets: which of `labels` and `captions` the batch gets, where the samples have them.
        tokenize: turns a list of captions into tensors with an axis of captions, such as a tokenizer with
            `padding=True, return_tensors="pt"` given. Where None, `captions` stays a list of texts.
        equal_captions: which captions count as equal: those of one "text", or of one "label", which the batch then
            lacks. The batch has `caption_ids`, int64, shape (captions,), equal where captions are.
        mixup: None, or options of `mix_batch`, `num_labels` among them: `labels` then become probabilities.
        clean: applied to each caption first.
        keep_names: add `videos`, a list of the names of the videos, for messages, and with captions `video_ids`,
            int64, equal where the video is the same.
        fill_gaps: replace an unreadable video by a blank clip, with -100 for its label and ids, instead of making a
            smaller batch, so that every process of an evaluation has equally many.
    """

    def __init__(
        self,
        *,
        targets: Sequence[str] = TARGETS,
        tokenize: Callable[[list[str]], Mapping[str, Tensor]] | None = None,
        equal_captions: str | None = None,
        mixup: Mapping[str, Any] | None = None,
        clean: Callable[[str], str] | None = None,
        keep_names: bool = False,
        fill_gaps: bool = False,
    ):
        if equal_captions is not None:
            check_name(equal_captions, EQUAL_CAPTIONS, "equal_captions")
        if mixup is not None and "num_labels" not in mixup:
            raise ValueError(f"mixup: got {sorted(mixup)}, expected num_labels among them; add the number of classes")
        self.left_out = {"seed", "video", *TARGETS}.difference(targets)
        if equal_captions == "label":
            self.left_out.discard("labels")
        self.tokenize = tokenize
        self.equal_captions = equal_captions
        self.mixup = mixup
        self.clean = clean
        self.keep_names = keep_names
        self.fill_gaps = fill_gaps

    def __call__(self, samples: Sequence[Sample | Sequence[Sample]]) -> dict[str, Any]:
        """Stack samples: all views of a video, then the next video's.

        Args:
            samples: samples, or lists of samples, as of `VideosAndImages`.

        Returns:
            `pixel_values_videos`, float32, shape (videos * views, frames, channels, height, width), and the other
            input where a model has two; the samples' other fields, repeated for each view: `labels`, int64, shape
            (videos * views,), or float32, (videos * views, num_labels) with mixup; `bool_masked_pos`, bool,
            (videos * views, tokens); the captions. Samples of `RawClips` give `RawClips`, and `finish_batch` takes the
            steps that they lack.

        Raises:
            TooManyFailuresError: if no sample of the batch could be read.
            ValueError: if samples have different fields, or mixup lacks labels.
        """
        given = [part for entry in samples for part in ([entry] if isinstance(entry, Mapping) else entry)]
        read = [sample for sample in given if "failure" not in sample]
        if not read:
            raise TooManyFailuresError(
                f"None of the {len(given)} videos of a batch can be read; the last: {given[-1]['failure']} Train "
                "with larger batches, or leave out what `internvideo scan` finds."
            )
        if self.fill_gaps:
            read = [_blank_like(read[0]) if "failure" in sample else sample for sample in given]
        videos = [_views({key: sample[key] for key in sample.keys() - self.left_out}) for sample in read]
        captions = [view.pop("captions") for views in videos for view in views if "captions" in view]
        batch = _collated(videos)
        if captions and len(captions) != len(batch["pixel_values_videos"]):
            raise ValueError(
                f"captions: got {len(captions)} for {len(batch['pixel_values_videos'])} views, expected one for each; "
                "give every row a caption, or none"
            )
        if self.clean is not None:
            captions = [self.clean(caption) for caption in captions]
        if captions:
            batch.update({"captions": captions} if self.tokenize is None else self.tokenize(captions))
        if captions and self.equal_captions == "text":
            batch["caption_ids"] = _numbers(captions)
        elif captions and self.equal_captions == "label":
            if "labels" not in batch:
                raise ValueError("equal_captions='label': got captions without labels; add them to the manifest")
            batch["caption_ids"] = batch.pop("labels")
        if self.mixup is not None:
            _mix(batch, self.mixup, [sample["seed"] for sample in read])
        if self.keep_names:
            batch["videos"] = [sample["video"] for sample in read]
        if self.keep_names and captions:
            batch["video_ids"] = _numbers([sample["video"] for sample in read])
        return batch


def finish_batch(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Normalize the clips of a batch and mix them, on the device that has them.

    Args:
        batch: of `VideoCollator`; without `RawClips` it stays as it is.

    Returns:
        The batch that the collator makes of normalized clips.
    """
    finished: dict[str, Any] = {
        name: value.normalized() if isinstance(value, RawClips) else value for name, value in batch.items()
    }
    if (mixing := finished.pop(_MIXING, None)) is not None:
        finished[PIXELS], finished["labels"] = mixing(finished[PIXELS], finished["labels"])
    return finished


def _mix(batch: dict[str, Any], options: Mapping[str, Any], seeds: list[int]) -> None:
    if "labels" not in batch:
        raise ValueError("mixup: got samples without labels, expected a label for each; add them to the manifest")
    mixing = Mixing(options, seeds)
    if isinstance(batch[PIXELS], RawClips):
        batch[_MIXING] = mixing
    else:
        batch[PIXELS], batch["labels"] = mixing(batch[PIXELS], batch["labels"])


def _numbers(texts: Sequence[str]) -> Tensor:
    """Hash texts to numbers, the same in every process; -100 for empty ones."""
    return torch.tensor([zlib.crc32(text.encode()) if text else -100 for text in texts])


def _blank_like(sample: Sample) -> Sample:
    """Make a sample with blank pixels and ignored targets."""
    pixels = {name: _blank(value) for name, value in sample.items() if name.endswith(PIXELS)}
    blank = {**sample, **pixels, "video": ""}
    if "labels" in sample:
        blank["labels"] = torch.full_like(sample["labels"], -100)
    return blank | ({"captions": ""} if "captions" in sample else {})


def _blank(pixels: Tensor | RawClips) -> Tensor | RawClips:
    if isinstance(pixels, RawClips):
        return replace(pixels, blank=torch.ones_like(pixels.blank))
    return torch.zeros_like(pixels)


def _views(sample: Sample) -> list[dict[str, Any]]:
    if PIXELS not in sample or sample[PIXELS].ndim == 4:
        return [sample]
    return [
        {name: value[view] if name.endswith(_OF_EACH_VIEW) else value for name, value in sample.items()}
        for view in range(len(sample[PIXELS]))
    ]


def _collated(videos: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """Collate views; pixels that are not normalized by their tensors."""
    kinds = {name: value for name, value in videos[0][0].items() if isinstance(value, RawClips)}
    for view in (view for views in videos for view in views):
        for name in kinds.keys() & view.keys():
            view[name], view[_BLANK + name] = view[name].pixels, view[name].blank
    batch: dict[str, Any] = collate_views(videos)
    for name, kind in kinds.items():
        batch[name] = replace(kind, pixels=batch[name], blank=batch.pop(_BLANK + name))
    return batch
