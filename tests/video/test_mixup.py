"""Batch mixing for given ratios and boxes. The golden case pins the random draws."""

import numpy as np
import pytest
import torch

from internvideo_hf.video.mixup import mix_batch, mixed_targets

LABELS = torch.tensor([0, 2, 1])


def batch() -> torch.Tensor:
    """Three clips of two frames, all pixels of clip i being i."""
    return torch.arange(3.0)[:, None, None, None, None].expand(3, 2, 3, 8, 6).clone()


def test_targets_of_a_quarter():
    targets = mixed_targets(LABELS, 4, 0.25, smoothing=0.0)
    assert targets.tolist() == [[0.25, 0.75, 0, 0], [0, 0, 1, 0], [0.75, 0.25, 0, 0]]
    smooth = mixed_targets(LABELS, 4, 1.0, smoothing=0.2)
    torch.testing.assert_close(smooth[0], torch.tensor([0.85, 0.05, 0.05, 0.05]))


@pytest.mark.parametrize("seed", range(8))
def test_targets_say_how_much_of_a_clip_is_its_own(seed):
    mixed, targets = mix_batch(batch(), LABELS, 4, smoothing=0.0, generator=np.random.RandomState(seed))
    share = float(targets[0, 0])
    assert float((2 * torch.ones(()) - mixed[0].mean()) / 2) == pytest.approx(share, abs=1e-6)
    assert torch.equal(mixed[1], batch()[1]), "the middle one is its own partner"
    assert torch.equal(mixed[:, 0], mixed[:, 1]), "one box, or one share, for all frames"


def test_nothing_to_do_changes_no_pixel_and_smooths_all_the_same():
    for options in ({"mixup_alpha": 0, "cutmix_alpha": 0}, {"probability": 0}):
        clips, targets = mix_batch(batch(), LABELS, 4, **options, generator=np.random.RandomState(0))
        assert torch.equal(clips, batch())
        torch.testing.assert_close(targets, mixed_targets(LABELS, 4, 1.0))


def test_the_input_is_not_changed():
    clips = batch()
    mix_batch(clips, LABELS, 4, mixup_alpha=0, generator=np.random.RandomState(0))
    assert torch.equal(clips, batch())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clips": batch().byte()}, "normalize"),
        ({"clips": batch()[:2]}, "a label for each"),
        ({"labels": torch.tensor([0, 4, 1])}, "0 to 3"),
        ({"labels": torch.tensor([0, -1, 1])}, "-1 to 1"),
        ({"labels": torch.rand(3, 4)}, "mix a batch once"),
        ({"mixup_alpha": -1}, "at least 0"),
        ({"probability": 1.5}, "chances"),
        ({"smoothing": 1.0}, r"\[0, 1\)"),
    ],
)
def test_mistakes_are_named(change, words):
    arguments = {"clips": batch(), "labels": LABELS, "num_labels": 4, "generator": np.random.RandomState(0)} | change
    with pytest.raises(ValueError, match=words):
        mix_batch(**arguments)
