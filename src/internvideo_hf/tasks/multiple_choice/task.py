"""Multiple choice: which of several captions a video shows."""

from internvideo_hf.tasks.base import Task

TASK = Task("multiple_choice")
