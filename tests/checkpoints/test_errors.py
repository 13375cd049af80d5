"""The error of checkpoint files."""

import internvideo_hf
from internvideo_hf.checkpoints.errors import CheckpointError


def test_it_is_public_and_a_value_error():
    assert internvideo_hf.CheckpointError is CheckpointError and issubclass(CheckpointError, ValueError)
