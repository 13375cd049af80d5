"""Retrieval: which text belongs to which video, both ways."""

from internvideo_hf.tasks.base import Task

TASK = Task("retrieval")
