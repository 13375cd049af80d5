"""What both dual encoders have in common."""

import pytest
import torch
from models.internvideo_mm import test_modeling_internvideo_mm as internvideo_mm
from models.model_checks import assert_same, draw, tensors_of
from models.viclip import test_modeling_viclip as viclip

from internvideo_hf import UniFormerV2Config, UniFormerV2ForVideoClassification
from internvideo_hf.models.common.dual_encoder import comparison_problem

FAMILIES = [pytest.param(internvideo_mm, id="internvideo_mm"), pytest.param(viclip, id="viclip")]


@pytest.mark.parametrize("family", FAMILIES)
def test_unequal_counts_are_compared_without_a_loss_and_refused_with_one(family):
    model, videos = family.moved_model(), draw(2, family.FRAMES, 3, 32, 32)
    assert model(videos, family.IDS, family.MASK).logits_per_video.shape == (2, 3)
    with pytest.raises(ValueError, match="2 videos and 3 texts"):
        model(videos, family.IDS, family.MASK, return_loss=True)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["get_video_features", "get_text_features"])
def test_features_come_as_a_tuple_on_request(method, family):
    model = family.moved_model()
    arguments = {"get_video_features": [draw(1, 1, 3, 32, 32)], "get_text_features": [family.IDS]}[method]
    features = getattr(model, method)
    assert_same([*features(*arguments, return_dict=False)], [*tensors_of(features(*arguments)).values()])


@pytest.mark.parametrize("family", FAMILIES)
def test_scale_of_the_cosines_is_that_of_the_table(family):
    model = family.moved_model()
    outputs = model(draw(3, family.FRAMES, 3, 32, 32), family.IDS, family.MASK)
    expected = model.cosine_scale() * outputs.video_embeds @ outputs.text_embeds.T
    torch.testing.assert_close(outputs.logits_per_video, expected)
    torch.testing.assert_close(model.logit_scale.exp(), torch.as_tensor(model.cosine_scale()))


@pytest.mark.parametrize("family", FAMILIES)
def test_temperature_is_clamped_in_training(family):
    model = family.moved_model().train()
    parameter = dict(model.named_parameters())["temperature" if family is viclip else "logit_scale"]
    torch.nn.init.constant_(parameter, 1e-4 if family is viclip else 9.0)
    model(draw(3, family.FRAMES, 3, 32, 32), family.IDS, family.MASK, return_loss=True).loss.backward()
    torch.testing.assert_close(torch.as_tensor(model.cosine_scale()), torch.tensor(100.0))


class Tokenizer:
    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size


def test_reasons_why_a_model_compares_nothing_are_named():
    model = internvideo_mm.moved_model()
    vocabulary = model.config.text_config.vocab_size
    assert comparison_problem(model) is None and comparison_problem(model, Tokenizer(vocabulary)) is None
    assert f"has {vocabulary + 1} tokens" in comparison_problem(model, Tokenizer(vocabulary + 1))
    assert "no shared space" in comparison_problem(internvideo_mm.moved_model(projection_dim=None))
    with torch.device("meta"):
        classifier = UniFormerV2ForVideoClassification(UniFormerV2Config())
    assert "has no get_video_features" in comparison_problem(classifier)
