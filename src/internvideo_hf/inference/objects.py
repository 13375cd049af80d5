"""Detectors of objects in frames: any that transformers loads by `AutoModelForObjectDetection`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, AutoModelForObjectDetection
from transformers.configuration_utils import PreTrainedConfig

from internvideo_hf.checkpoints.model_names import resolve_model
from internvideo_hf.inference.runner import load_model
from internvideo_hf.models.common.loading import revision
from internvideo_hf.utils.names import with_article
from internvideo_hf.utils.pretrained import load_pretrained


class Objects(NamedTuple):
    """The objects that a detector found in one frame, the highest score first.

    Args:
        boxes: left, top, right, bottom as fractions of the frame, float32 `(n, 4)`; they may reach beyond it.
        scores: 0-1, float32 `(n,)`.
        labels: numbers of the detector's classes, int64 `(n,)`.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def detector_config(name: str | Path, option: str) -> PreTrainedConfig:
    """Return the configuration of a detector of objects, before its weights are loaded.

    Args:
        name: folder of the detector, or its name on the Hub.
        option: of the command by which it is named, for messages, such as "--detector".

    Raises:
        ValueError: if it is another kind of model.
    """
    name = resolve_model(name)
    config: PreTrainedConfig = load_pretrained(AutoConfig, name)
    if type(config) not in AutoModelForObjectDetection._model_mapping:
        raise ValueError(
            f"{name} is not a detector of objects: its model_type is {config.model_type}. Give one that "
            f"transformers loads by AutoModelForObjectDetection, such as DETR or RT-DETR ({option})."
        )
    return config


def detector_processor(name: str | Path, option: str) -> Any:
    """Return the image processor of a detector of objects.

    Args:
        name: see `detector_config`.
        option: see `detector_config`.

    Raises:
        ValueError: if it cannot turn the detector's outputs into boxes.
    """
    processor: Any = load_pretrained(AutoImageProcessor, resolve_model(name))
    if not hasattr(processor, "post_process_object_detection"):
        raise ValueError(
            f"{name} has {with_article(type(processor).__name__)}, which cannot turn the outputs of a "
            f"detector into boxes. Give another detector ({option})."
        )
    return processor


def found_objects(processor: Any, outputs: Any, threshold: float) -> list[Objects]:
    """Return the objects of each frame of a detector's outputs; boxes and scores that are not finite are left out.

    Args:
        processor: of the detector.
        outputs: with `logits` and `pred_boxes`.
        threshold: least score, 0-1; exclusive.
    """
    outputs.logits, outputs.pred_boxes = outputs.logits.float(), outputs.pred_boxes.float()
    sizes = [(1, 1)] * len(outputs.logits)  # for fractions
    found = []
    for one in processor.post_process_object_detection(outputs, threshold=threshold, target_sizes=sizes):
        boxes, scores, labels = one["boxes"].float().cpu(), one["scores"].float().cpu(), one["labels"].cpu()
        known = boxes.isfinite().all(dim=1) & scores.isfinite()
        boxes, scores, labels = boxes[known], scores[known], labels[known]
        order = scores.argsort(descending=True, stable=True)
        found.append(Objects(boxes[order], scores[order], labels[order]))
    return found


class ObjectDetector:
    """Finds objects by any detector of transformers: DETR, YOLOS, RT-DETR, D-FINE, ...

    Args:
        name: folder of the detector, or its name on the Hub; no code of it runs.
        device: where it runs; the accelerator if there is one.
        dtype: number type in which it runs, such as "float16"; as saved if None.
        option: of the command by which it is named, for messages.

    Raises:
        ValueError: if it is not a detector of objects, or lacks weights.
    """

    def __init__(
        self,
        name: str | Path,
        device: str | torch.device | None = None,
        dtype: str | None = None,
        option: str = "--detector",
    ):
        detector_config(name, option)
        self.name = resolve_model(name)
        self.model = load_model(AutoModelForObjectDetection, self.name, device, dtype)
        self.processor = detector_processor(self.name, option)

    def facts(self) -> dict[str, Any]:
        """Return what determines the answers: the detector's weights, and their number type."""
        return {"detector": revision(self.name, self.model), "dtype": str(self.model.dtype)}

    @torch.no_grad()
    def find(self, frames: Sequence[NDArray[np.uint8]], threshold: float = 0.0) -> list[Objects]:
        """Find the objects in frames.

        Args:
            frames: uint8 `(height, width, 3)`, RGB.
            threshold: least score, 0-1; exclusive.
        """
        inputs = self.processor(images=list(frames), return_tensors="pt")
        inputs = {name: value.to(self.model.device) for name, value in inputs.items() if isinstance(value, Tensor)}
        outputs = self.model(**inputs | {"pixel_values": inputs["pixel_values"].to(self.model.dtype)})
        return found_objects(self.processor, outputs, threshold)
