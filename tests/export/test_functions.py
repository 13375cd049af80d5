"""The functions of models that are exported."""

import pytest
import torch

from internvideo_hf import InternVideoMAEForOpenSetClassification, InternVideoMMModel
from internvideo_hf.export.functions import functions_of
from internvideo_hf.models.common.exported.manifest import Port


@pytest.fixture(scope="module")
def clips():
    return {"pixel_values_videos": torch.rand(2, 4, 3, 64, 64)}


def test_a_classifier_also_gives_its_encoder(mae_folder, clips):
    model = InternVideoMAEForOpenSetClassification.from_pretrained(mae_folder).eval()
    (function,) = functions_of(model, "classifier", clips, None)
    assert function.outputs == ("logits", "uncertainty", "pooler_output", "last_hidden_state")
    found = function.reference(function.inputs)
    with torch.no_grad():
        expected, encoded = model(**clips), model.internvideo_mae(**clips)
    torch.testing.assert_close(found["logits"], expected.logits)
    torch.testing.assert_close(found["uncertainty"], expected.uncertainty)
    torch.testing.assert_close(found["pooler_output"], encoded.pooler_output)
    inputs, outputs = function.ports()
    assert inputs == {"pixel_values_videos": Port(("batch", 4, 3, 64, 64))}
    assert outputs["logits"] == Port(("batch", 400)) and outputs["uncertainty"] == Port(("batch",))


def test_a_dual_encoder_gives_both_towers(thin_folder, clips):
    model = InternVideoMMModel.from_pretrained(thin_folder).eval()
    ids = torch.tensor([[1, 5, 9], [1, 9, 0]])
    video, text = functions_of(model, "dual_encoder", clips, ids)
    inputs, outputs = text.ports()
    assert inputs == {"input_ids": Port(("batch", "tokens"), "int64")}
    assert outputs["last_hidden_state"].shape[:2] == ("batch", "tokens")
    with torch.no_grad():
        expected = model.get_text_features(ids).pooler_output
    torch.testing.assert_close(text.reference({"input_ids": ids})["pooler_output"], expected)
    assert outputs["pooler_output"] == video.ports()[1]["pooler_output"] == Port(("batch", expected.shape[1]))
