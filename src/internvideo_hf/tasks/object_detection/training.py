"""Training of any detector of transformers on annotated frames."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from transformers import AutoModelForObjectDetection, EvalPrediction

from internvideo_hf.data.failures import FailureLog
from internvideo_hf.data.records import ManifestError, require_datasets
from internvideo_hf.data.samples import sample_seed
from internvideo_hf.inference.objects import Objects, detector_config, detector_processor, found_objects
from internvideo_hf.models.common.base import VideoPreTrainedModel
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.base import Preparation, Prepared, Training
from internvideo_hf.tasks.object_detection.annotations import Frame, read_frames
from internvideo_hf.tasks.object_detection.answers import Answers
from internvideo_hf.tasks.object_detection.frames import FrameFolder
from internvideo_hf.tasks.object_detection.metrics import MAX_BOXES, require_coco
from internvideo_hf.tasks.object_detection.settings import boxes_in_pixels, check_frames
from internvideo_hf.tasks.protocol import FrameData
from internvideo_hf.utils.names import with_article
from internvideo_hf.utils.pretrained import load_pretrained
from internvideo_hf.video.errors import VideoDecodeError

if TYPE_CHECKING:
    import datasets

Sample = dict[str, Any]
AUTO_CLASS = "AutoModelForObjectDetection"
OPTION = "--start-from"
_MULTIPLE = 32  # of which the sides of a batch are multiples
_ABSENT = -1.0  # score of a row that is no box


class TrainedDetector(VideoPreTrainedModel):
    """A detector of transformers as the Trainer of this package takes it.

    Args:
        detector: of objects.
        processor: of the detector, which makes boxes of its outputs in evaluation.
    """

    main_input_name = "pixel_values"
    input_modalities = ["image"]
    accepts_loss_kwargs = False
    # What learns a tenth as fast as the rest in DINO's recipe, wherever a detector has it.
    layer_group_rules = {
        r".*?(?:backbone|vit|sampling_offsets|reference_points)": "backbone",
        r"detector": "head",
    }
    backbone_groups = ("backbone",)

    def __init__(self, detector: Any, processor: Any):
        super().__init__(detector.config)
        self.detector, self.processor = detector, processor
        self.takes_mask = "pixel_mask" in inspect.signature(detector.forward).parameters
        self.post_init()
        tied = getattr(detector, "all_tied_weights_keys", None) or {}
        self.all_tied_weights_keys = {f"detector.{one}": f"detector.{other}" for one, other in tied.items()}

    def get_input_embeddings(self) -> Any:
        """Return None: frames are no tokens."""
        return None

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Leave the detector as it is."""

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint of the training; see transformers' `PreTrainedModel.save_pretrained`.

        Tensors keep their names: transformers would give some detectors those of their releases, by which a resumed
        training does not find them.
        """
        super().save_pretrained(*args, **{**kwargs, "save_original_format": False})

    def forward(
        self,
        pixel_values: torch.Tensor,
        pixel_mask: torch.Tensor | None = None,
        labels: Sequence[Mapping[str, torch.Tensor]] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Compute the detector's loss, and in evaluation its boxes.

        Args:
            pixel_values: frames, `(batch, 3, height, width)`.
            pixel_mask: `(batch, height, width)`, 1 on real pixels; for detectors that take one.
            labels: of each frame `class_labels` `(n,)` and `boxes` `(n, 4)`: center, width and height, 0-1.

        Returns:
            `loss`; its parts, which end in `_loss`; and in evaluation `detections`, `(batch, MAX_BOXES, 6)`: left,
            top, right, bottom as fractions of the frame, score, class; the score is -1 where there is no box.
        """
        inputs: dict[str, Any] = {"pixel_values": pixel_values, "labels": labels}
        if self.takes_mask:
            inputs["pixel_mask"] = pixel_mask
        outputs = self.detector(**inputs)
        parts = {name: value for name, value in (getattr(outputs, "loss_dict", None) or {}).items() if value.ndim == 0}
        answer = {f"{name.removeprefix('loss_')}_loss": value for name, value in parts.items()}
        answer["loss"] = outputs.loss
        if not self.training:
            rows = torch.full((len(pixel_values), MAX_BOXES, 6), _ABSENT)
            for number, found in enumerate(found_objects(self.processor, outputs, 0.0)):
                columns = torch.column_stack((found.boxes, found.scores, found.labels))[:MAX_BOXES]
                rows[number, : len(columns)] = columns.detach()
            answer["detections"] = rows.to(pixel_values.device)
        return answer


# ---- data -----------------------------------------------------------------------------------------------------------


def read_training_rows(
    path: Path,
    data_root: Path,
    *,
    frames: FrameData,
    labels: str | int | None = None,
    classes: list[str] | None = None,
    layout: str | None = None,
    skip_missing: bool = False,
) -> "tuple[datasets.Dataset, list[str]]":
    """Read annotated frames for training or validation.

    Args:
        path: see `read_frames`.
        data_root: unused; the frames are read later.
        frames: settings of the recipe.
        labels: unused: there is one class, the object type.
        classes: the class of the training list, for a validation list.
        layout: unused: detected.
        skip_missing: unused: frames are read later.

    Returns:
        A row for each frame, the fields of `Frame`; those without objects are left out for training. And the class.

    Raises:
        ManifestError: if the annotations are invalid, or none is left.
        RecipeError: if a setting makes no sense.
    """
    if labels is not None or layout is not None:
        raise RecipeError("data.labels and data.layout change nothing in object_detection. Leave them out.")
    check_frames(frames)
    found = [frame for frame in read_frames(path, frames) if frame.boxes is not None]
    if classes is None:
        found = [frame for frame in found if objects_of(frame)]
    if not found:
        cause = f"no frame of {', '.join(frames.moments)} has an object of the type {frames.object_type}"
        raise ManifestError(str(path), None, cause, "Check data.frames, and that it is not the file of the test.")
    return require_datasets().Dataset.from_list([asdict(frame) for frame in found]), [frames.object_type]


def objects_of(frame: Frame) -> list[tuple[float, float, float, float]]:
    """Return the boxes of a frame that are at least a pixel wide and high in it, cut to it, as released.

    Args:
        frame: annotated.
    """
    found = []
    for x, y, width, height in frame.boxes or ():
        right, bottom = x + width, y + height
        if frame.width is not None and frame.height is not None:
            right, bottom = min(right, frame.width), min(bottom, frame.height)
        x, y = max(x, 0.0), max(y, 0.0)
        if width >= 1 and height >= 1 and right > x and bottom > y:
            found.append((x, y, right - x, bottom - y))
    return found


def frame_of_row(row: Mapping[str, Any]) -> Frame:
    """Return the frame of a row from `read_training_rows`."""
    boxes = tuple((box[0], box[1], box[2], box[3]) for box in row["boxes"] or ())
    return Frame(**{**row, "boxes": boxes})


class FrameDataset(Dataset[Sample]):
    """Annotated frames as inputs of a detector.

    A sample depends on `seed`, the epoch and its index alone.

    Args:
        frames: annotated.
        folder: of the frames or videos.
        processor: of the detector.
        data: settings of the recipe.
        training: mirror and resize frames at random.
        seed: of these.
        failures: the log of frames that cannot be read, which give `{"failure": ...}`; None raises.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        folder: Path,
        processor: Any,
        data: FrameData,
        *,
        training: bool,
        seed: int = 0,
        failures: FailureLog | None = None,
    ):
        self.frames, self.source, self.processor, self.data = frames, FrameFolder(folder), processor, data
        self.training, self.seed, self.failures = training, seed, failures
        # In shared memory: workers that outlive an epoch see the next one's number.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.frames)

    def set_epoch(self, epoch: int) -> None:
        """Change the draws: call it before an epoch's iterator is made, as Trainer and Accelerate do."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> Sample:
        """Return `pixel_values`, `labels`, `video_ids` (the index) and `videos` (the name) of a frame.

        Raises:
            VideoDecodeError: if the frame cannot be read, and failures are not logged.
            TooManyFailuresError: if too many cannot be read.
        """
        frame = self.frames[index]
        try:
            pixels = self.source.read(frame)
        except VideoDecodeError as error:
            if self.failures is None:
                raise
            self.failures.add(index, error, len(self.frames))
            return {"failure": str(error), "video_ids": index}
        sample = self._sample(frame, pixels, np.random.default_rng(sample_seed(self.seed, int(self._epoch), index)))
        return {**sample, "video_ids": index, "videos": frame.name}

    def _sample(self, frame: Frame, pixels: NDArray[np.uint8], generator: np.random.Generator) -> Sample:
        height, width = pixels.shape[:2]
        across, down = width / (frame.width or width), height / (frame.height or height)
        boxes = [(x * across, y * down, w * across, h * down) for x, y, w, h in objects_of(frame)]
        options: dict[str, Any] = {}
        if self.training and generator.random() < self.data.flip:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
            boxes = [(width - x - w, y, w, h) for x, y, w, h in boxes]
        if self.training and self.data.shortest_edge is not None:
            least, most = self.data.shortest_edge
            edge = int(generator.integers(least, most + 1))
            options["size"] = {"shortest_edge": edge, "longest_edge": self.data.longest_edge}
        rows = [{"bbox": list(box), "category_id": 0, "area": box[2] * box[3], "iscrowd": 0} for box in boxes]
        inputs = self.processor(
            images=pixels,
            annotations={"image_id": frame.image, "annotations": rows},
            do_pad=False,
            do_convert_annotations=True,
            return_tensors="pt",
            **options,
        )
        labels = {name: inputs["labels"][0][name] for name in ("class_labels", "boxes")}
        return {"pixel_values": inputs["pixel_values"][0], "labels": labels}


def collate(samples: Sequence[Sample], *, fill_gaps: bool = False) -> dict[str, Any]:
    """Make a batch of frames, filled up with zeros to the right and below.

    Boxes stay fractions of the frame itself, as in DETR, whose positions count real pixels alone.

    Args:
        samples: of a `FrameDataset`.
        fill_gaps: replace a frame that cannot be read by a blank one without objects, instead of leaving it out.

    Returns:
        `pixel_values`, `pixel_mask`, `labels`, `videos`, and `video_ids`, the numbers of the frames, for the metrics.

    Raises:
        VideoDecodeError: if no frame of the batch can be read.
    """
    read = [sample for sample in samples if "failure" not in sample]
    if not read:
        raise VideoDecodeError("a batch", f"none of its frames can be read ({samples[-1]['failure']})", "Check them.")
    if fill_gaps:
        read = [_blank_like(read[0], sample) if "failure" in sample else sample for sample in samples]
    sides = [max(sample["pixel_values"].shape[axis] for sample in read) for axis in (1, 2)]
    alike = all(list(sample["pixel_values"].shape[1:]) == sides for sample in read)
    height, width = sides if alike else [-(-side // _MULTIPLE) * _MULTIPLE for side in sides]
    pixels = torch.zeros(len(read), 3, height, width)
    mask = torch.zeros(len(read), height, width, dtype=torch.int64)
    for number, sample in enumerate(read):
        _, rows, columns = sample["pixel_values"].shape
        pixels[number, :, :rows, :columns] = sample["pixel_values"]
        mask[number, :rows, :columns] = 1
    return {
        "pixel_values": pixels,
        "pixel_mask": mask,
        "labels": [sample["labels"] for sample in read],
        "videos": [sample["videos"] for sample in read],
        "video_ids": torch.tensor([sample["video_ids"] for sample in read]),
    }


def _blank_like(sample: Sample, failed: Sample) -> Sample:
    labels = {name: value[:0] for name, value in sample["labels"].items()}
    pixels = torch.zeros_like(sample["pixel_values"])
    return {"pixel_values": pixels, "labels": labels, "videos": "unreadable", "video_ids": failed["video_ids"]}


# ---- the task -------------------------------------------------------------------------------------------------------


def load_detector(settings: Any, classes: list[str], start: str) -> tuple[Any, Any]:
    """Load the detector that training starts from, with a new classifier where its classes differ.

    Args:
        settings: `model` of the recipe; `config` and `processor` change values of the detector's.
        classes: of the training list.
        start: folder of the detector, or its name on the Hub.

    Returns:
        The detector and its processor.

    Raises:
        RecipeError: if a setting is unknown.
        ValueError: if the start is not a detector, or lacks more than its classifier.
    """
    config: Any = detector_config(start, OPTION)
    for name in ("size", "kind", "vocabulary", "config_of_start"):
        if getattr(settings, name):
            raise RecipeError(f"model.{name} changes nothing in object_detection. Leave it out.")
    for name in settings.config:
        if not hasattr(config, name):
            raise RecipeError(f"Unknown setting model.config.{name} for {type(config).__name__}.")
    processor = detector_processor(start, OPTION)
    if not hasattr(processor, "do_convert_annotations"):
        raise ValueError(
            f"{start} has {with_article(type(processor).__name__)}, which cannot turn boxes into targets. Give a "
            f"detector such as DETR or RT-DETR ({OPTION})."
        )
    for name, value in settings.processor.items():
        if not hasattr(processor, name):
            raise RecipeError(f"Unknown option model.processor.{name} for {type(processor).__name__}.")
        setattr(processor, name, value)
    names = {"id2label": dict(enumerate(classes)), "label2id": {name: number for number, name in enumerate(classes)}}
    model, info = load_pretrained(
        AutoModelForObjectDetection,
        start,
        **names,
        **settings.config,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    if missing := sorted(info["missing_keys"]):
        raise ValueError(f"{start} lacks weights, the first is {missing[0]}. Give a complete detector ({OPTION}).")
    return model, processor


def _make_collator(*, training: bool, **_: Any) -> "partial[dict[str, Any]]":
    return partial(collate, fill_gaps=not training)


def _prepare(train: Any, validation: Any, model: Any, frames: FrameData, about: Preparation) -> Prepared:
    """Open the frames of both lists, and put the Trainer's interface around the detector."""
    folder, processor = about.data_root / frames.folder, about.processor
    if frames.shortest_edge is not None and "shortest_edge" not in dict(processor.size or {}):
        raise RecipeError(
            f"data.frames.shortest_edge is {frames.shortest_edge}, but this detector takes frames of one size, "
            f"{dict(processor.size or {})}. Set it to null."
        )
    samples = FrameDataset(
        list(map(frame_of_row, train)), folder, processor, frames, training=True, seed=about.seed,
        failures=about.failures,
    )  # fmt: skip
    trained = TrainedDetector(model, processor)
    if validation is None:
        return Prepared(samples, None, TASK_TRAINING, trained, _save)
    judge = _Judge(list(map(frame_of_row, validation)), frames.object_type)
    if unsized := next((frame.name for frame in judge.frames if frame.width is None or frame.height is None), None):
        raise RecipeError(
            f"data.validation: {unsized} has no width and height, in whose pixels boxes are scored. Add them, or set "
            "data.validation to null and use `internvideo evaluate`."
        )
    require_coco()
    held_out = FrameDataset(judge.frames, folder, processor, frames, training=False, failures=about.failures)
    training = replace(
        TASK_TRAINING,
        compute_metrics=judge.scores,
        details=lambda prediction, rows, config: judge.answers(prediction),
    )
    return Prepared(samples, held_out, training, trained, _save)


def _save(model: Any, folder: Path) -> None:
    model.detector.save_pretrained(folder)


@dataclass(frozen=True)
class _Judge:
    """Scores what a detector in training finds in the validation frames."""

    frames: Sequence[Frame]
    object_type: str

    def answers(self, prediction: EvalPrediction) -> Answers:
        """Return all boxes beside the true ones."""
        detections, numbers = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
        found = {}
        for rows, number in zip(torch.from_numpy(detections).float(), numbers.tolist(), strict=True):
            frame, rows = self.frames[number], rows[rows[:, 4] > _ABSENT]
            objects = Objects(rows[:, :4], rows[:, 4], rows[:, 5].long())
            assert frame.width is not None and frame.height is not None  # `_prepare` refuses others
            found[frame.image] = boxes_in_pixels(objects, None, frame.width, frame.height).numpy()
        return Answers(self.frames, found, self.object_type)

    def scores(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return COCO's scores in percent."""
        return self.answers(prediction).scores()


def _detections_of(outputs: Any, labels: Any) -> torch.Tensor:
    """Return the boxes among the outputs of an evaluation, which also hold the parts of the loss."""
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    found: torch.Tensor = next(part for part in outputs if part.ndim == 3)
    return found


TASK_TRAINING = Training(
    auto_class=AUTO_CLASS,
    make_collator=_make_collator,
    label_names=("video_ids",),
    read=read_training_rows,
    section="frames",
    prepare=_prepare,
    preprocess_logits=_detections_of,
    load=load_detector,
)
