"""The output of a dual encoder."""

import torch

from internvideo_hf.models.common.outputs import VideoTextOutput


def test_fields_without_a_value_are_left_out_of_the_tuple():
    table = torch.zeros(2, 3)
    outputs = VideoTextOutput(logits_per_video=table, logits_per_text=table.T)
    assert list(outputs) == ["logits_per_video", "logits_per_text"] and len(outputs.to_tuple()) == 2
    assert outputs.loss is None
