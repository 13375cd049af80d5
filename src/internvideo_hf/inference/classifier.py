"""Classifiers with their processors and views: from videos to probabilities of the classes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForVideoClassification, AutoVideoProcessor
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.checkpoints.model_names import resolve_model
from internvideo_hf.data.samples import Row
from internvideo_hf.inference.merging import check_finite, class_scores
from internvideo_hf.inference.rows import Loader, Work, of_views, run_rows, video_name
from internvideo_hf.inference.runner import (
    RunSettings,
    VideoProcessor,
    Views,
    cast_of,
    load_model,
    logits_of_views,
    read_views,
)
from internvideo_hf.inference.stock import is_stock, load_stock_classifier
from internvideo_hf.models.common.configuration import head_slices
from internvideo_hf.models.common.loading import check_classifier, classes_of
from internvideo_hf.processing.stock import StockVideoProcessor
from internvideo_hf.utils.pretrained import load_pretrained
from internvideo_hf.utils.storage import AnyPath


@dataclass(frozen=True)
class Classifier:
    """A classifier with its own processor and views.

    Args:
        name: its folder, or name on the Hub.
        model: on its device, in evaluation mode.
        processor: frames and pixels.
        num_clips: clips of each video.
        num_crops: crops of each clip.
    """

    name: str
    model: PreTrainedModel
    processor: VideoProcessor
    num_clips: int
    num_crops: int

    def __post_init__(self) -> None:
        if isinstance(self.processor, StockVideoProcessor):
            self.processor.check_views(self.num_clips, self.num_crops)

    @classmethod
    def load(
        cls,
        name: str | Path,
        num_clips: int | None = None,
        num_crops: int | None = None,
        device: str | torch.device | None = None,
        dtype: str | None = None,
    ) -> "Classifier":
        """Load a classifier.

        Args:
            name: a converted folder, or a classifier of transformers, or a name on the Hub.
            num_clips: clips of each video; those of the released test if None, or as the processor is configured.
            num_crops: crops of each clip; the same.
            device: where it runs; the accelerator if there is one.
            dtype: number type of its weights and pixels, such as "float16"; as saved if None.

        Raises:
            ValueError: if it is not a classifier, weights are missing, or the number type is unknown.
        """
        name = resolve_model(name)
        check_classifier(name)
        model: PreTrainedModel
        processor: VideoProcessor
        if is_stock(name):
            model, processor = load_stock_classifier(name, device, dtype)
        else:
            model = load_model(AutoModelForVideoClassification, name, device, dtype)
            processor = load_pretrained(AutoVideoProcessor, name)
        clips, crops = processor.views
        return cls(str(name), model, processor, num_clips or clips, num_crops or crops)

    @property
    def classes(self) -> list[str]:
        """Names of its classes, in order."""
        return classes_of(self.model.config)

    @property
    def reader(self) -> Callable[[Row], Views]:
        """Makes the views of a row; it holds no model, which decoding workers do not need."""
        return partial(read_views, processor=self.processor, num_clips=self.num_clips, num_crops=self.num_crops)

    def views_of(self, row: Row) -> Views:
        """Return the model's inputs, `(views, frames, channels, height, width)` each; see `read_views`.

        Raises:
            VideoDecodeError: if the video cannot be read.
        """
        return self.reader(row)

    @torch.no_grad()
    def probabilities(self, views: Views, batch_size: int = 8) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the mean over views of `merging.class_scores`, float64, `(videos, classes)`.

        Args:
            views: of several videos: `(videos, views, frames, channels, height, width)` each.
            batch_size: views per forward pass.
        """
        videos = len(next(iter(views.values())))
        flat = {name: pixels.flatten(0, 1) for name, pixels in views.items()}
        logits = logits_of_views(self.model, flat, batch_size).double().cpu().numpy()
        heads = head_slices(self.model.config)
        rows = [class_scores(row, self.model.config.problem_type, heads) for row in logits]
        probabilities = np.stack(rows).reshape(videos, -1, len(rows[0]))
        return np.asarray(probabilities.mean(axis=1))

    def classify(
        self, rows: Sequence[Row], settings: RunSettings, parts: AnyPath | None = None
    ) -> tuple[np.ndarray[Any, np.dtype[np.float64]], dict[str, str]]:
        """Classify the videos of a list.

        Args:
            rows: see `read_views`.
            settings: batches, workers, unreadable videos, progress bar.
            parts: a folder for finished parts, so that the same call continues after an interruption. The caller puts
                everything that affects the result into its name, and deletes it afterwards. None keeps nothing.

        Returns:
            Probabilities, `(videos, classes)`, NaN for an unreadable video; and the causes by `video_name`.

        Raises:
            TooManyFailuresError: if more than `settings.max_damaged` of the videos are unreadable.
            ValueError: if a probability is not finite.
        """

        options = (("num_clips", self.num_clips), ("num_crops", self.num_crops), ("dtype", cast_of(self.model)))
        work = Work(
            self.reader,
            partial(of_views, compute=partial(_probabilities, batch_size=settings.batch_size)),
            Loader(Classifier.load, self.name, options, "model"),
            self.num_clips * self.num_crops,
        )
        found, causes = run_rows(
            rows, self, work, settings, parts=parts, description=f"Classifying by {Path(self.name).name}"
        )
        scores = found.get("probabilities", torch.empty(0, len(self.classes), dtype=torch.float64))
        return scores.numpy(), {video_name(rows[number]): cause for number, cause in causes.items()}


def _probabilities(classifier: Classifier, views: Views, batch_size: int) -> dict[str, torch.Tensor]:
    scores = classifier.probabilities(views, batch_size)
    check_finite(scores, f"A score of {classifier.name}")
    return {"probabilities": torch.from_numpy(scores)}
