"""Action detection: who does what in the key frames of a video, and where."""

from internvideo_hf.tasks.base import Task

TASK = Task("action_detection")
