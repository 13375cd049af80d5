"""Encoders of panoramas, and the frames of their videos."""

import numpy as np
import pytest
import torch
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from internvideo_hf import InternVideoMAEConfig, InternVideoMAEForVideoClassification, build_processor
from internvideo_hf.tasks.navigation.encoders import FrameBuffer, PooledEncoder, PretrainedEncoder
from internvideo_hf.tasks.navigation.environment import Panorama

VIEWS = 12


def frame(value: int) -> np.ndarray:
    """Return pictures of all views, of which each tells its number and the value."""
    return np.arange(VIEWS, dtype=np.uint8)[:, None, None, None] + np.full((VIEWS, 8, 8, 3), value, np.uint8)


def test_before_there_are_enough_frames_the_first_stands_in_front():
    buffer = FrameBuffer(frame(0), frames=4)
    assert buffer.clips().shape == (VIEWS, 4, 8, 8, 3)
    assert buffer.clips()[3, :, 0, 0, 0].tolist() == [3, 3, 3, 3]
    buffer.extend([frame(10), frame(20)])
    assert buffer.clips()[3, :, 0, 0, 0].tolist() == [3, 3, 13, 23]
    buffer.extend([frame(30), frame(40), frame(50)])
    assert buffer.clips()[0, :, 0, 0, 0].tolist() == [20, 30, 40, 50]


def test_pooled_features_are_means_of_pixels():
    pictures = np.zeros((VIEWS, 4, 4, 3), np.uint8)
    pictures[1, :2, :2, 0] = 255
    depth = np.ones((VIEWS, 4, 4), np.float32)
    depth[2, 2:] = 3
    clips = np.stack([pictures, 0 * pictures], axis=1)
    found = PooledEncoder(grid=2)(Panorama(pictures, depth), clips)
    assert found.still[0].tolist() == [-1] * 12
    assert found.still[1].tolist() == [1, -1, -1, -1, *[-1] * 8]  # red, upper left
    assert found.video[1, 0].item() == pytest.approx(0, abs=1e-6)
    assert found.depth[2].tolist() == [1, 1, 3, 3]


def test_pretrained_encoders_see_each_view_by_itself(tmp_path):
    config = InternVideoMAEConfig(
        hidden_size=12, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16,
        num_frames=4, num_labels=3,
    )  # fmt: skip
    torch.manual_seed(0)
    InternVideoMAEForVideoClassification(config).save_pretrained(tmp_path / "video")
    build_processor(config).save_pretrained(tmp_path / "video")
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16,
        projection_dim=6,
    )  # fmt: skip
    CLIPVisionModelWithProjection(vision).save_pretrained(tmp_path / "clip")
    size = {"shortest_edge": 32}
    CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path / "clip")
    source = np.random.default_rng(0)
    pictures = source.integers(0, 255, (VIEWS, 32, 32, 3), dtype=np.uint8)
    depth = source.random((VIEWS, 16, 16), dtype=np.float32)

    def shrink(depth):
        return depth[:, None, ::4, ::4].expand(-1, 5, -1, -1)

    encode = PretrainedEncoder(str(tmp_path / "video"), shrink, str(tmp_path / "clip"), device="cpu", clips_at_once=5)
    clips = np.stack([pictures] * 4, axis=1)
    found = encode(Panorama(pictures, depth), clips)
    assert [tuple(part.shape) for part in found] == [(VIEWS, 12), (VIEWS, 6), (VIEWS, 5)]
    torch.testing.assert_close(found.depth[:, 0], torch.from_numpy(depth[:, ::4, ::4]).mean(dim=(1, 2)))
    pictures[3], clips[4] = 0, 0
    changed = encode(Panorama(pictures, depth), clips)
    for name, view in (("still", 3), ("video", 4)):
        moved = (getattr(found, name) - getattr(changed, name)).abs().amax(dim=1) > 1e-4
        assert moved.nonzero().flatten().tolist() == [view], name
