"""Calibrated scores on plain numbers."""

import pytest
import torch
from torch.nn.functional import normalize

from internvideo_hf.search.calibration import Calibration, calibrate, null_captions


def test_z_and_share_are_those_of_the_clip():
    clip = torch.tensor([[1.0, 0.0]])
    cosines = torch.tensor([0.1, 0.2, 0.3, 0.4])
    null = torch.stack([cosines, (1 - cosines**2).sqrt()], dim=1)
    scores = calibrate(torch.tensor([0.25]), clip, null, 1)
    assert scores.z.item() == pytest.approx(0, abs=1e-6)
    assert scores.share.item() == 0.5 and scores.chance.item() == pytest.approx(0.5)
    far = calibrate(torch.tensor([0.9]), clip, null, 1)
    assert far.share.item() == 1 and far.z.item() == pytest.approx(0.65 / cosines.std().item(), rel=1e-5)
    assert 0 < far.chance < 1e-6
    assert calibrate(torch.tensor([0.9]), clip, null, 1000).chance == pytest.approx(1000 * far.chance)


def test_a_better_query_scores_better_in_every_measure():
    generator = torch.Generator().manual_seed(1)
    clips = normalize(torch.randn(50, 16, generator=generator), dim=-1)
    null = normalize(torch.randn(200, 16, generator=generator), dim=-1)
    low, high = (calibrate(torch.full((50,), cosine), clips, null, 50) for cosine in (0.2, 0.4))
    assert (high.z > low.z).all() and (high.share >= low.share).all() and (high.chance < low.chance).all()


def test_strange_queries_match_about_as_seldom_as_is_said():
    generator = torch.Generator().manual_seed(2)
    draw = lambda rows: normalize(torch.randn(rows, 64, generator=generator), dim=-1)  # noqa: E731
    clips, null, strange = draw(500), draw(200), draw(400)
    best, at = (strange @ clips.T).max(dim=1)
    chance = torch.stack([calibrate(best[i : i + 1], clips[at[i : i + 1]], null, 500).chance[0] for i in range(400)])
    # As often as 0.05 says, or a little more or less: the tails are not quite normal.
    assert (chance <= 0.05).float().mean() < 0.1


def test_null_captions_are_many_and_differ():
    captions = null_captions()
    assert len(captions) == len(set(captions)) >= 200
    assert all(caption == caption.strip() and caption for caption in captions)


def test_a_model_has_its_own_captions_and_measured_cosine_or_the_general_rule():
    general = Calibration.of_model(None)
    assert general.captions == null_captions() and general.cosine is None and "one search in twenty" in general.rule
    own = {"captions": ["a red heart", "a moon"], "cosine": 0.5, "true": 0.9, "absent": 0.2, "gallery": 240}
    found = Calibration.of_model(own)
    assert found.captions == ("a red heart", "a moon")
    assert "0.500, as of 90% of the true sentences, and of 20%" in found.rule


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"captions": ["one"]},
        {"captions": ["a", 3]},
        {"captions": ["a", "b"], "cosine": 0.5},
        {"captions": ["a", "b"], "other": 1},
        ["a", "b"],
    ],
)
def test_a_file_of_another_form_is_refused(own):
    with pytest.raises(ValueError, match="null.captions"):
        Calibration.of_model(own)
