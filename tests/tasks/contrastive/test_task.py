"""Contrastive training: its batches are those of captioning, and may pass in chunks."""

import torch
from transformers import AutoProcessor

from internvideo_hf.tasks import training_tasks


def test_a_batch_has_clips_captions_and_which_of_them_are_equal(mm_folder):
    processor = AutoProcessor.from_pretrained(mm_folder)
    samples = [
        {"pixel_values_videos": torch.zeros(2, 3, 8, 8), "captions": text, "video": name, "seed": 0}
        for text, name in (("a dog", "x"), ("a cat", "y"), ("a dog", "z"))
    ]
    contrastive, captioning = (training_tasks()[name] for name in ("contrastive", "captioning"))
    batches = [
        task.make_collator(training=True, processor=processor, equal_captions="text")(samples)
        for task in (contrastive, captioning)
    ]
    for batch in batches:
        ids = batch["caption_ids"]
        assert batch["input_ids"].shape == (3, 4) and batch["return_loss"] is True
        assert ids[0] == ids[2] != ids[1] and len(set(batch["video_ids"].tolist())) == 3
    assert contrastive.takes_grad_cache and not captioning.takes_grad_cache
