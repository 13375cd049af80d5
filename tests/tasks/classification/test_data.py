"""The published tests: every released classifier, its views, and how a model finds its own."""

import pytest

from internvideo_hf import UniFormerV2Config
from internvideo_hf.checkpoints.released import released_rows
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.models.internvideo_mae.configuration_internvideo_mae import InternVideoMAEConfig
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.classification.data import (
    find_tests,
    view_settings,
)

DATA_SETS = ["k400", "k600", "k700", "ssv2", "ssv1", "hmdb51", "mit", "anet", "hacs"]


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_released_classifier_of_the_data_set_is_a_row(name):
    protocol = load_protocol(f"classification/{name}")
    expected = {
        row["name"] for row in released_rows() if (row["evaluation"] or {}).get("data_set") == protocol.released
    }
    assert {entry.model for entry in protocol.published} == expected != set()
    assert all(entry.scores["top-1"] > 40 for entry in protocol.published if entry.scores)


# Transcribed from the model zoos and test scripts, by hand.
TESTS = [
    ("k400", "VideoMAE-B K400", (5, 3), {"top-1": 81.52, "top-5": 94.88}),
    ("k400", "VideoMAE-H K400 384", (7, 3), {"top-1": 89.54}),
    ("k400", "UniFormerV2-L K400 from K710 64x336", (2, 3), {"top-1": 90.0}),
    ("k400", "UniFormerV2-L K400 8x336 frozen", (3, 1), {"top-1": 86.7}),
    ("ssv2", "VideoMAE-B SSv2", (2, 3), {"top-1": 71.22, "top-5": 93.31}),
    ("ssv2", "UniFormerV2-L SSv2 32x224", (1, 3), {"top-1": 73.0}),
    ("hmdb51", "VideoMAE-H HMDB51 split 2", (None, None), {"top-1": 89.92}),
    ("anet", "UniFormerV2-L ActivityNet 16x224", (10, 3), {"top-1": 94.3}),
    ("mit", "UniFormerV2-B MiT 8x224", (4, 3), {"top-1": 42.6}),
]


@pytest.mark.parametrize(("data_set", "model", "views", "scores"), TESTS)
def test_views_and_scores_are_as_published(data_set, model, views, scores):
    (entry,) = [one for one in load_protocol(f"classification/{data_set}").published if one.model == model]
    assert (entry.test["num_clips"], entry.test["num_crops"]) == views and entry.scores == scores


def config_of(size: str, **values: object) -> InternVideoMAEConfig:
    return InternVideoMAEConfig.from_size(size, **values)


def test_a_released_model_is_found_by_its_configuration():
    k400, ssv2 = load_protocol("classification/k400"), load_protocol("classification/ssv2")
    (base,) = find_tests(k400, config_of("base"))
    assert base.model == "VideoMAE-B K400"
    (found,) = find_tests(ssv2, config_of("base"))
    assert view_settings([found])["processor"]["sampler"] == "videomae_sparse"
    large = UniFormerV2Config.from_size("large", "scene", num_frames=8, image_size=336, use_fusion_gate=False)
    tests = find_tests(k400, large)
    assert {test.model for test in tests} == {
        "UniFormerV2-L K400 from K710 8x336 frozen",
        "UniFormerV2-L K400 8x336 frozen",
    }
    assert find_tests(k400, config_of("base", num_frames=8)) == []


def test_a_model_may_be_named():
    protocol = load_protocol("classification/k400", ["model=VideoMAE-L K400"])
    (found,) = find_tests(protocol, config_of("base", num_frames=8))
    assert found.model == "VideoMAE-L K400"
    with pytest.raises(RecipeError, match="model: got 'VideoMAE-X', expected one of .*VideoMAE-L K400"):
        find_tests(load_protocol("classification/k400", ["model=VideoMAE-X"]), config_of("base"))
