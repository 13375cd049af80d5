"""From a raw video to who does what, where: key frames, the people in them, their actions and their tracks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.checkpoints.model_names import cache_folder
from internvideo_hf.data.contents import content_hash
from internvideo_hf.models.common.loading import classes_of, revision
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae_detection import pad_boxes
from internvideo_hf.tasks.action_detection.annotations import key_frame_name
from internvideo_hf.tasks.action_detection.detectors import KeyBoxes, People, PersonDetector
from internvideo_hf.tasks.action_detection.metrics import BoxTable
from internvideo_hf.tasks.action_detection.tracks import link_boxes
from internvideo_hf.tasks.box_views import pad_batch
from internvideo_hf.tasks.boxes import Size, extend, resize
from internvideo_hf.tasks.key_frames import (
    STRIDE,
    KeyClip,
    context_frames,
    frames_at,
    key_times,
    read_clips,
)
from internvideo_hf.utils.fingerprints import json_sha256
from internvideo_hf.utils.journal import Journal, delete_parts
from internvideo_hf.utils.locks import lock_file
from internvideo_hf.utils.storage import AnyPath
from internvideo_hf.video import VideoReader
from internvideo_hf.video.errors import VideoDecodeError

EVERY, LEAST_EVERY = 1.0, 0.001
"""Seconds from a key frame to the next, as in AVA; and the least, since names of key frames have milliseconds."""
_KEY_FRAME, _DAMAGED = -1, -2  # of rows that stand for a key frame, and not for a person in it


class Action(NamedTuple):
    """What a person does.

    Args:
        label: of the action.
        score: the action's probability times the person's score, 0-1.
    """

    label: str
    score: float


class Person(NamedTuple):
    """A person in a key frame.

    Args:
        track: number of the person in the video, from 1.
        box: left, top, right, bottom as fractions of the frame, 0-1.
        score: that it is a person, 0-1.
        actions: the best first.
        box_index: place of the box in the list that was given, or by score among those that were detected.
    """

    track: int
    box: tuple[float, float, float, float]
    score: float
    actions: list[Action]
    box_index: int


@dataclass(frozen=True)
class Detections:
    """The people of one video and their actions: a row for each person in each key frame.

    Args:
        times: of the key frames in seconds, rising, `(key frames,)`.
        frames: their numbers in the video, `(key frames,)`.
        is_whole: False for key frames of which nothing is known, since a frame around them is damaged.
        key_frames: place of each row's key frame in `times`, `(rows,)`.
        people: boxes, scores and indices of the rows.
        tracks: number of each row's person in the video, from 1, `(rows,)`.
        scores: of all actions, float32, `(rows, classes)`.
        classes: names of the actions.
        size: (height, width) of the video in pixels.
        duration: of the video in seconds.
    """

    times: NDArray[np.float64]
    frames: NDArray[np.int64]
    is_whole: NDArray[np.bool_]
    key_frames: Tensor
    people: People
    tracks: Tensor
    scores: Tensor
    classes: Sequence[str]
    size: Size
    duration: float

    @property
    def gaps(self) -> list[list[float]]:
        """Stretches that nothing is known of, `[start, end]` in seconds: around key frames that are not whole."""
        edges = [0.0, *((self.times[:-1] + self.times[1:]) / 2).tolist(), self.duration]
        found: list[list[float]] = []
        for place in np.flatnonzero(~self.is_whole).tolist():
            if found and found[-1][1] == edges[place]:
                found[-1][1] = edges[place + 1]
            else:
                found.append([edges[place], edges[place + 1]])
        return found

    def people_at(self, key_frame: int, top_k: int | None = None, min_score: float = 0.0) -> list[Person]:
        """Return the people in a key frame, in the order of their boxes.

        Args:
            key_frame: its place in `times`.
            top_k: actions of a person to keep, the best first; all if None.
            min_score: least score of an action, 0-1.
        """
        first, last = torch.searchsorted(self.key_frames, torch.tensor([key_frame, key_frame + 1])).tolist()
        found = []
        for row in range(first, last):
            order = self.scores[row].argsort(descending=True, stable=True)[:top_k]
            ranked = zip(order.tolist(), self.scores[row, order].tolist(), strict=True)
            actions = [Action(self.classes[number], score) for number, score in ranked if score >= min_score]
            left, top, right, bottom = self.people.boxes[row].tolist()
            found.append(
                Person(
                    int(self.tracks[row]),
                    (left, top, right, bottom),
                    float(self.people.scores[row]),
                    actions,
                    int(self.people.indices[row]),
                )
            )
        return found

    def to_dict(self, top_k: int | None = None, min_score: float = 0.0) -> dict[str, Any]:
        """Return plain objects, as pipelines and JSON have them.

        Args:
            top_k: see `people_at`.
            min_score: see `people_at`.
        """
        height, width = self.size
        pixels = np.array([width, height, width, height])
        key_frames = []
        for place in np.flatnonzero(self.is_whole).tolist():
            people = [
                {
                    "track": person.track,
                    "box": list(person.box),
                    "box_pixels": (pixels * person.box).tolist(),
                    "score": person.score,
                    "actions": [action._asdict() for action in person.actions],
                    "box_index": person.box_index,
                }
                for person in self.people_at(place, top_k, min_score)
            ]
            key_frames.append({"time": float(self.times[place]), "people": people})
        return {
            "duration": self.duration,
            "width": width,
            "height": height,
            "key_frames": key_frames,
            "gaps": self.gaps,
        }

    def table(self, video: str) -> BoxTable:
        """Return a row for each person and action, as evaluation takes it.

        Args:
            video: id of the video in the names of key frames.
        """
        names = np.array([key_frame_name(video, time) for time in self.times.tolist()], dtype=object)
        rows, classes = self.scores.shape
        return BoxTable(
            names[self.key_frames.numpy()].repeat(classes),
            self.people.boxes.numpy().repeat(classes, axis=0),
            np.tile(np.arange(classes), rows),
            self.scores.flatten().numpy(),
        )


def joined_table(found: Mapping[str, Detections]) -> BoxTable:
    """Return the rows of several videos together.

    Args:
        found: id of a video -> its people; at least one.
    """
    tables = [one.table(video) for video, one in found.items()]
    columns = ([getattr(table, name) for table in tables] for name in ("key_frames", "boxes", "labels", "scores"))
    return BoxTable(*map(np.concatenate, columns))


class _Plan(NamedTuple):
    """The key frames of a video: times in seconds, numbers of frames, and the people of each if they are given."""

    times: NDArray[np.float64]
    frames: NDArray[np.int64]
    people: list[People] | None


class ActionDetector:
    """Finds people in key frames of videos, and what each of them does.

    Each frame of a video is decoded once, and only those around the key frames at hand are held.

    Args:
        model: an action detector, on its device.
        processor: its video processor, which says how many frames around a key frame the model takes
            (`num_frames`), and how far apart (`sampler_kwargs["sampling_rate"]`, 4 where it does not say). It resizes
            the whole frame; it does not crop.
        detector: finds the people; None if their boxes are given.
        every: seconds from a key frame to the next, 0.001 or more.
        batch_size: key frames per forward pass of detector and model.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Any,
        detector: PersonDetector | None = None,
        every: float = EVERY,
        batch_size: int = 8,
    ):
        if not LEAST_EVERY <= every < float("inf"):
            raise ValueError(f"every={every}, expected seconds, {LEAST_EVERY:g} or more (--every).")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1.")
        self.model, self.processor, self.detector = model.eval(), processor, detector
        self.every, self.batch_size = every, batch_size
        self.classes = classes_of(model.config)
        self.num_frames: int = processor.num_frames
        self.stride: int = (processor.sampler_kwargs or {}).get("sampling_rate", STRIDE)

    def facts(self) -> dict[str, Any]:
        """Return what determines the answers for a video, but for the video and given boxes."""
        found = None if self.detector is None else self.detector.facts()
        model = revision(self.model.config._name_or_path, self.model)
        own = {"model": model, "dtype": str(self.model.dtype), "processor": self.processor.to_dict()}
        return own | {"every": self.every, "people": found}

    def detect(
        self,
        video: Any,
        given: Sequence[KeyBoxes] | None = None,
        parts: AnyPath | None = None,
        on_key_frames: Callable[[int, int], None] = lambda done, total: None,
    ) -> Detections:
        """Find the people of a video and their actions.

        Frames around a key frame beyond an end of the video are its first or last frame. A key frame is left out if
        one of the frames around it is damaged; `Detections.gaps` names the stretch.

        Args:
            video: an open reader, or of every kind that `VideoReader` takes.
            given: boxes of people, whose times are the key frames; None if they are detected.
            parts: a folder in which to keep what is done, from which the same call goes on after an interruption.
            on_key_frames: progress callback `(key frames done, all key frames)`.

        Raises:
            VideoDecodeError: if the video cannot be read, or has no times, or boxes are given for a time after its
                end.
        """
        with nullcontext(video) if isinstance(video, VideoReader) else VideoReader(video) as reader:
            plan = self._plan(reader, given)
            journal, size = Journal(parts), (reader.height, reader.width)
            table = journal.tensors()
            done = int((table["index"] < 0).sum()) if table else 0
            on_key_frames(done, len(plan.times))
            for first, batch in self._batches(reader, plan, done):
                people = self._people(batch, plan, first, size)
                journal.append(self._table(first, batch, people, size))
                on_key_frames(first + len(batch), len(plan.times))
            journal.write()
            assert reader.duration is not None
            return self._detections(plan, journal.tensors(), size, reader.duration)

    def _plan(self, reader: VideoReader, given: Sequence[KeyBoxes] | None) -> _Plan:
        timeline = reader.timeline
        if timeline is None or reader.duration is None:
            raise VideoDecodeError(
                reader.name, "its frames have no times", "Give a video file, or its frames a second."
            )
        if given is None:
            times = key_times(reader.duration, self.every)
            # Two key frames of one frame would be the same.
            frames, first = np.unique(frames_at(timeline, times), return_index=True)
            return _Plan(times[first], frames, None)
        times = np.array([one.time for one in given], dtype=np.float64)
        if len(times) and times[-1] >= timeline[-1]:
            cause = f"it ends at {timeline[-1]:g} s, and boxes are given for {times[-1]:g} s"
            raise VideoDecodeError(reader.name, cause, "Count the seconds from the beginning of this file.")
        return _Plan(times, frames_at(timeline, times), [one.people for one in given])

    def _batches(self, reader: VideoReader, plan: _Plan, done: int) -> Iterator[tuple[int, list[KeyClip]]]:
        """Yield the key frames from place `done` on, `batch_size` together, with the place of the first."""
        frames = plan.frames[done:].tolist()
        contexts = [context_frames(frame, reader.num_frames, self.num_frames, self.stride) for frame in frames]
        batch: list[KeyClip] = []
        for clip in read_clips(reader, frames, contexts, self._process):
            batch.append(clip)
            if len(batch) == self.batch_size or done + len(batch) == len(plan.frames):
                yield done, batch
                done, batch = done + len(batch), []

    def _process(self, frame: NDArray[np.uint8]) -> Tensor:
        """Return a whole frame as the model sees it, `(channels, height, width)`."""
        pixels: Tensor = self.processor.process_whole(frame[None])
        return pixels[0]

    def _people(self, batch: Sequence[KeyClip], plan: _Plan, first: int, size: Size) -> list[People]:
        """Return the people of each key frame that is whole."""
        whole = [place for place, clip in enumerate(batch) if clip.pixels is not None]
        if plan.people is not None:
            return [plan.people[first + place].inside(size) for place in whole]
        if self.detector is None:
            raise ValueError("Give boxes of people, or a detector that finds them.")
        frames = [frame for place in whole if (frame := batch[place].frame) is not None]
        return self.detector.detect(frames) if frames else []

    def _table(self, first: int, batch: Sequence[KeyClip], people: Sequence[People], size: Size) -> dict[str, Tensor]:
        """Return the rows of some key frames: one for each of them, and after it one for each person in it."""
        clips = [clip.pixels for clip in batch if clip.pixels is not None]
        scored = iter(zip(people, self._score(clips, people, size), strict=True))
        none, no_box = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4)
        rows: list[tuple[Tensor, ...]] = [(none, none, no_box, no_box[:, 0], torch.zeros(0, len(self.classes)))]
        blank = (
            torch.full((1, 4), torch.nan),
            torch.full((1,), torch.nan),
            torch.full((1, len(self.classes)), torch.nan),
        )
        for place, clip in enumerate(batch, first):
            mark = _DAMAGED if clip.pixels is None else _KEY_FRAME
            rows.append((torch.tensor([place]), torch.tensor([mark]), *blank))
            if clip.pixels is not None:
                found, scores = next(scored)
                places = torch.full((len(scores),), place)
                rows.append((places, found.indices, found.boxes, found.scores, scores))
        names = "key_frame", "index", "boxes", "person", "scores"
        return {name: torch.cat(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}

    @torch.no_grad()
    def _score(self, clips: Sequence[Tensor], people: Sequence[People], size: Size) -> list[Tensor]:
        """Return the scores of all actions for the people of each clip, `(n, classes)` each."""
        found = [torch.zeros(0, len(self.classes)) for _ in clips]
        busy = [place for place, one in enumerate(people) if len(one.boxes)]
        if not busy:
            return found
        pixels, pixel_mask = pad_batch([clips[place] for place in busy], self.model.config.patch_size)
        shown: Size = (clips[0].shape[-2], clips[0].shape[-1])
        boxes = [extend(resize(people[place].in_pixels(size), size, shown), shown) for place in busy]
        padded, box_mask = pad_boxes(boxes)
        device = self.model.device
        logits = self.model(
            pixels.to(device, self.model.dtype),
            padded.to(device),
            box_mask.to(device),
            pixel_mask=pixel_mask.to(device),
        ).logits
        for place, own, mask in zip(busy, logits.float().sigmoid().cpu(), box_mask, strict=True):
            found[place] = own[mask] * people[place].scores[:, None]
        return found

    def _detections(self, plan: _Plan, table: dict[str, Tensor], size: Size, duration: float) -> Detections:
        is_person = table["index"] >= 0 if table else torch.zeros(0, dtype=torch.bool)
        rows = {name: column[is_person] for name, column in table.items()} or self._table(0, [], [], size)
        counts = torch.bincount(rows["key_frame"], minlength=len(plan.times)).tolist()
        tracks = link_boxes(torch.split(rows["boxes"], counts))
        return Detections(
            plan.times,
            plan.frames,
            (table["index"][~is_person] == _KEY_FRAME).numpy() if table else np.zeros(0, bool),
            rows["key_frame"],
            People(rows["boxes"], rows["person"], rows["index"]),
            torch.cat([torch.zeros(0, dtype=torch.int64), *tracks]),
            rows["scores"],
            self.classes,
            size,
            duration,
        )


@contextmanager
def unfinished_parts(detector: ActionDetector, video: str, given: Sequence[KeyBoxes] | None = None) -> Iterator[Path]:
    """Yield the folder in the cache of models for `parts` of a video's answer; delete it if the block succeeds.

    Args:
        detector: whose settings belong to the folder.
        video: path or address.
        given: boxes of people.

    Raises:
        VideoDecodeError: if the video cannot be opened.
        LockedError: if another process works at the same.
    """
    VideoReader(video).close()  # which says best what is wrong
    boxes = None if given is None else [(one.time, *(column.tolist() for column in one.people)) for one in given]
    settings = json_sha256({"detector": detector.facts(), "video": content_hash(video), "boxes": boxes})
    parts = cache_folder() / "detect-actions" / settings[:32]
    parts.parent.mkdir(parents=True, exist_ok=True)
    with lock_file(parts):
        yield parts
        delete_parts(parts)
