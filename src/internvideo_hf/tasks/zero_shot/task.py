"""Zero-shot classification: which of the labels named with the question a video shows."""

from internvideo_hf.tasks.base import Task

TASK = Task("zero_shot")
