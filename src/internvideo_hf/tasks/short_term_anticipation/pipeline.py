"""Short-term anticipation from raw videos: which object is touched next, what is done to it, and when."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from internvideo_hf.inference.objects import ObjectDetector, Objects
from internvideo_hf.inference.pipeline import VideoPipeline, check_count, check_saved_as
from internvideo_hf.models.common.loading import classes_of
from internvideo_hf.tasks.box_views import Geometry, evaluation_view
from internvideo_hf.tasks.boxed_clips import channels_first
from internvideo_hf.tasks.boxes import Size, clip, from_fractions, is_nonempty
from internvideo_hf.tasks.key_frames import frames_at
from internvideo_hf.tasks.protocol import InteractionData
from internvideo_hf.tasks.short_term_anticipation.data import ClipRule
from internvideo_hf.utils.names import did_you_mean, nearest
from internvideo_hf.video import VideoReader
from internvideo_hf.video.errors import VideoDecodeError

OPTIONS = ("second", "top_k", "threshold")
"""Options of a call."""
THRESHOLD = 0.05
"""Least score of an object, as of the detector of the challenge's baseline."""


class VideoShortTermAnticipationPipeline(VideoPipeline):
    """Tells at a moment of a video which objects will be touched next, what will be done to them, and when.

    Args:
        args: of `transformers.Pipeline`.
        detector: folder or Hub name of any detector of objects of transformers, best one of objects that are touched
            next, which names the objects and scores how likely each is the next.
        kwargs: of `transformers.Pipeline`.

    >>> anticipate = pipeline("video-short-term-anticipation", model=model, detector="PekingU/rtdetr_r50vd")
    >>> anticipate("kitchen.mp4", second=12.5, top_k=1)
    [{'box': [312.0, 204.5, 398.0, 290.0], 'noun': 'cup', 'verb': 'take', 'time_to_contact': 0.62, 'score': 0.81}]
    """

    _load_video_processor = True

    def __init__(self, *args: Any, detector: str | Path | ObjectDetector, **kwargs: Any):
        super().__init__(*args, **kwargs)
        check_saved_as(self.model, "ForShortTermAnticipation")
        self.rule = ClipRule.of(self._process, InteractionData())
        self.verbs = classes_of(self.model.config)
        if not isinstance(detector, ObjectDetector):
            detector = ObjectDetector(detector, self.device, option="detector=")
        self.detector = detector

    def __call__(self, inputs: Any, **kwargs: Any) -> list[dict[str, Any]] | list[list[dict[str, Any]]]:  # type: ignore[override]
        """Anticipate in one or several videos.

        Args:
            inputs: one video or a list of videos, of every kind that `VideoReader` takes.
            **kwargs: options of the pipeline:

                - second (`float`): the moment that is asked about, in seconds; the end of the video by default. What
                  is after it is not looked at.
                - top_k (`int`): objects to return, the best first; all by default.
                - threshold (`float`): least score of an object, 0-1; 0.05 by default.

        Returns:
            For each video a list of objects, the highest score first:

                - `box`, left, top, right, bottom in pixels of the video; the right column and the bottom row belong to
                  the box;
                - `noun` and `score`: name and score of the object, of the detector;
                - `verb`: what will be done to it;
                - `time_to_contact`: seconds from the moment until then.

        Raises:
            VideoDecodeError: if a video cannot be read up to the moment, or ends before it.
            ValueError: if an option is invalid.
        """
        answers: list[dict[str, Any]] | list[list[dict[str, Any]]] = super().__call__(inputs, **kwargs)
        return answers

    def _sanitize_parameters(
        self, second: float | None = None, top_k: int | None = None, threshold: float | None = None, **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        for name in options:
            raise TypeError(f"Unknown option {name}.{did_you_mean(nearest(name, OPTIONS))}")
        if second is not None and not (0 <= second < math.inf):
            raise ValueError(f"second={second}, expected seconds from 0 on.")
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"threshold={threshold}, expected a score between 0 and 1.")
        forward = {} if threshold is None else {"threshold": threshold}
        postprocess = {} if top_k is None else {"top_k": check_count("top_k", top_k)}
        return ({} if second is None else {"second": second}), forward, postprocess

    def preprocess(self, video: Any, second: float | None = None) -> dict[str, Any]:  # type: ignore[override]
        with VideoReader(video) as reader:
            return {"frames": reader.read(self.rule.indices(_frame_of(reader, second)))}

    def _forward(self, model_inputs: dict[str, Any], threshold: float = THRESHOLD) -> dict[str, Any]:  # type: ignore[override]
        frames: np.ndarray = model_inputs["frames"]
        (objects,) = self.detector.find([frames[-1]], threshold)
        size: Size = (frames.shape[1], frames.shape[2])
        boxes = clip(from_fractions(objects.boxes, size), size)
        shown = is_nonempty(boxes)
        found = Objects(boxes[shown], objects.scores[shown], objects.labels[shown])
        if not len(found.boxes):
            return {"objects": found, "verbs": [], "times": []}
        verbs, times = self._anticipate(frames, found)
        return {"objects": found, "verbs": verbs, "times": times}

    @torch.no_grad()
    def _anticipate(self, frames: np.ndarray, objects: Objects) -> tuple[list[int], list[float]]:
        """Return the verb and the seconds to contact of each object, whose boxes are pixels of the frames."""
        pixels, geometry = evaluation_view(channels_first(frames), self.rule.pixels)
        boxes = _in_view(objects.boxes, geometry)
        device, dtype = self.model.device, self.model.dtype
        outputs = self.model(pixels[None].to(device, dtype), boxes[None].to(device))
        return outputs.logits[0].argmax(dim=-1).tolist(), outputs.times[0].float().tolist()

    def postprocess(  # type: ignore[override]
        self, model_outputs: dict[str, Any], top_k: int | None = None
    ) -> list[dict[str, Any]]:
        objects: Objects = model_outputs["objects"]
        names: Any = self.detector.model.config.id2label
        columns = (column.tolist() for column in objects)
        rows = zip(*columns, model_outputs["verbs"], model_outputs["times"], strict=True)
        return [
            {"box": box, "noun": names[noun], "verb": self.verbs[verb], "time_to_contact": time, "score": score}
            for box, score, noun, verb, time in rows
        ][:top_k]

    def get_iterator(
        self,
        inputs: Sequence[Any],
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterable[Any]:
        # Each video is a batch of boxes already.
        for video in inputs:
            outputs = self._forward(self.preprocess(video, **preprocess_params), **forward_params)
            yield self.postprocess(outputs, **postprocess_params)


def _in_view(boxes: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    return clip(geometry.follow(boxes), geometry.view)


def _frame_of(reader: VideoReader, second: float | None) -> int:
    """Return the number of the frame that is shown at a moment; the last frame for None."""
    if second is None:
        return reader.num_frames - 1
    timeline = reader.timeline
    if timeline is None:
        raise VideoDecodeError(reader.name, "its frames have no times", "Give a video file, or its frames a second.")
    if second > timeline[-1]:
        cause = f"it ends at {timeline[-1]:g} s, and the moment is at {second:g} s"
        raise VideoDecodeError(reader.name, cause, "Give an earlier second.")
    return int(frames_at(timeline, np.array([second]))[0])
