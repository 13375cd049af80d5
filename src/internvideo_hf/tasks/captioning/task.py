"""Captioning: describe a video in words."""

from internvideo_hf.tasks.base import Task

TASK = Task("captioning")
