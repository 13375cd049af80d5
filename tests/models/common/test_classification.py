"""The forward that all classifiers of one encoder share."""

import pytest
import torch
from models.internvideo_mae import test_modeling_internvideo_mae as internvideo_mae
from models.model_checks import draw
from models.uniformerv2 import test_modeling_uniformerv2 as uniformerv2
from models.viclip import test_modeling_viclip as viclip

from internvideo_hf import (
    InternVideoMAEForVideoClassification,
    UniFormerV2ForVideoClassification,
    ViCLIPForVideoClassification,
)
from internvideo_hf.models.common.classification import VideoClassifier, classification_loss

CLASSIFIERS = {
    InternVideoMAEForVideoClassification: internvideo_mae,
    UniFormerV2ForVideoClassification: uniformerv2,
    ViCLIPForVideoClassification: viclip,
}


@torch.no_grad()
@pytest.mark.parametrize("kind", CLASSIFIERS, ids=lambda kind: kind.__name__)
def test_logits_and_loss_come_of_the_encoder(kind):
    model = kind(CLASSIFIERS[kind].tiny_config(num_labels=5)).eval()
    assert isinstance(model, VideoClassifier) and model.accepts_loss_kwargs is False
    assert model.get_input_embeddings() is model.encoder.get_input_embeddings()
    clips, labels = draw(2, 4, 3, 32, 32), torch.tensor([1, 4])
    outputs = model(clips, labels=labels, output_hidden_states=True)
    assert torch.equal(outputs.logits, model.classify(model.encoder(clips)))
    assert torch.equal(outputs.loss, torch.nn.functional.cross_entropy(outputs.logits, labels))
    assert len(outputs.hidden_states) == model.encoder.config.num_hidden_layers + 1
    assert model(clips).loss is None


def test_loss_is_in_float32_and_takes_soft_targets():
    logits, labels = draw(3, 5).half(), torch.tensor([0, 4, 2])
    loss = classification_loss(logits, labels)
    assert loss.dtype == torch.float32
    soft = torch.nn.functional.one_hot(labels, 5).float()
    torch.testing.assert_close(classification_loss(logits, soft), loss)
    assert classification_loss(logits, None) is None
