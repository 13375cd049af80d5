"""Batches of masked pretraining."""

import torch

from internvideo_hf.tasks.pretraining.task import TASK


def test_batches_hold_pixels_and_masks():
    make, samples = TASK.training.make_collator, []
    for number in range(2):
        mask = torch.tensor([True, False, number == 0, number == 1])
        samples.append({"pixel_values_videos": torch.full((2, 3, 4, 4), float(number)), "bool_masked_pos": mask})
    batch = make(training=True)([{**sample, "video": "a.mp4", "index": n} for n, sample in enumerate(samples)])
    assert batch["pixel_values_videos"][:, 0, 0, 0, 0].tolist() == [0, 1]
    assert batch["bool_masked_pos"].sum(dim=1).tolist() == [2, 2]
    assert TASK.evaluation is None and set(TASK.training.label_names) <= batch.keys()
