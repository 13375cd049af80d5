"""Masked pretraining: the pixels of hidden tubelets from the visible ones."""

from typing import Any

from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.tasks.base import Task, Training


def _make_collator(*, training: bool, **_: Any) -> VideoCollator:
    return VideoCollator(targets=(), keep_names=True, fill_gaps=not training)


TASK = Task(
    "pretraining",
    training=Training(
        auto_class="AutoModelForPreTraining", make_collator=_make_collator, label_names=("bool_masked_pos",)
    ),
)
