"""Contrastive training: which caption belongs to which video of a batch."""

from internvideo_hf.tasks.base import Task
from internvideo_hf.tasks.caption_training import training_on_captions

TASK = Task("contrastive", training=training_on_captions("AutoModel", takes_grad_cache=True))
