"""The functions of models that are exported."""

import pytest
import torch
from transformers import AutoModelForMultimodalLM

from internvideo_hf import (
    ActionFormerConfig,
    ActionFormerForTemporalLocalization,
    InternVideoMAEForOpenSetClassification,
    InternVideoMMModel,
)
from internvideo_hf.export.functions import functions_of
from internvideo_hf.export.samples import drawn_features
from internvideo_hf.models.common.exported.graphs import Graph
from internvideo_hf.models.common.exported.manifest import Function, Port
from internvideo_hf.models.common.exported.modeling import ExportedCaptioner, ExportedLocalizer


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


def graphs_of(functions):
    """Return graphs that torch computes, where an export has a runtime."""

    def graph(function):
        module = torch.no_grad()(function.module)
        run = lambda arrays: [tensor.numpy() for tensor in module(*map(torch.from_numpy, arrays))]  # noqa: E731
        return Graph(function.name, Function("", *function.ports()), run)

    return {function.name: graph(function) for function in functions}


@pytest.mark.parametrize("options", [{"num_beams": 1}, {"num_beams": 3, "num_return_sequences": 2}])
def test_captions_without_a_cache_are_those_of_torch(captioner, options):
    model = AutoModelForMultimodalLM.from_pretrained(captioner).eval()
    config = model.config.vision_config
    clips = {"pixel_values_videos": torch.rand(2, 2, 3, config.image_size, config.image_size)}
    ids = torch.tensor([[1, 5, 9, 4], [1, 9, 3, 2]])
    functions = functions_of(model, "captioner", clips, ids)
    assert [function.name for function in functions] == ["video", "text", "caption"]
    assert functions[2].ports()[0]["input_ids"] == Port(("batch", "tokens"), "int64")
    exported = ExportedCaptioner(model.config, None, graphs_of(functions))
    exported.generation_config = model.generation_config
    expected = model.generate(*clips.values(), max_new_tokens=6, **options)
    assert torch.equal(exported.generate(*clips.values(), max_new_tokens=6, **options), expected)
    begun = torch.tensor([[1, 5, 9]])
    assert torch.equal(
        exported.generate(*clips.values(), begun, max_new_tokens=3),
        model.generate(*clips.values(), begun, max_new_tokens=3),
    )


@pytest.fixture(scope="module")
def head():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_levels": 3, "max_sequence_length": 16}
    config = ActionFormerConfig(feature_size=8, num_labels=4, attention_windows=5, **sizes)
    return ActionFormerForTemporalLocalization(config).eval()


@pytest.mark.parametrize("length", [16, 9, 1, 17, 41])
def test_levels_of_a_head_are_those_of_torch(head, length):
    functions = functions_of(head, "localizer", drawn_features(head.config), None)
    exported, features = ExportedLocalizer(head.config, None, graphs_of(functions)), torch.randn(2, length, 8)
    mask = torch.ones(2, length).bool()
    mask[1, max(1, length // 2) :] = False
    for options in ({}, {"attention_mask": mask}):
        with torch.no_grad():
            expected = head(features, **options)
        found = exported(features, **options)
        for name in ("logits", "offsets", "masks"):
            for ours, theirs in zip(found[name], expected[name], strict=True):
                torch.testing.assert_close(ours, theirs)


def test_torchs_own_format_takes_the_length_of_training_alone(head):
    (function,) = functions_of(head, "localizer", drawn_features(head.config, is_fixed=True), None)
    assert not function.variable and function.ports()[0]["features"] == Port(("batch", 16, 8))


def test_frames_are_of_any_number_where_none_has_an_embedding(mae_folder, thin_folder):
    clips = {"pixel_values_videos": torch.rand(2, 6, 3, 64, 64)}
    mae = InternVideoMAEForOpenSetClassification.from_pretrained(mae_folder).eval()
    (fixed,) = functions_of(mae, "classifier", clips, None)
    assert not fixed.variable
    config = InternVideoMMModel.config_class.from_pretrained(thin_folder)
    for has_downsampling, frames in ((False, "frames"), (True, "2*frames")):
        config.vision_config.temporal_downsampling = has_downsampling
        model = InternVideoMMModel(config).eval()
        video, _ = functions_of(model, "dual_encoder", clips, torch.tensor([[1, 5, 9]]))
        inputs, outputs = video.ports()
        assert inputs["pixel_values_videos"].shape[:2] == ("batch", frames)
        assert isinstance(outputs["last_hidden_state"].shape[1], str)
        assert outputs["pooler_output"] == Port(("batch", config.projection_dim))


@pytest.mark.parametrize("frames", [3, 5])
def test_frames_that_no_trace_can_vary_stay_fixed(thin_folder, frames):
    config = InternVideoMMModel.config_class.from_pretrained(thin_folder)
    config.vision_config.temporal_downsampling = True
    clips = {"pixel_values_videos": torch.rand(2, frames, 3, 64, 64)}
    video, _ = functions_of(InternVideoMMModel(config).eval(), "dual_encoder", clips, torch.tensor([[1, 5, 9]]))
    assert not video.variable and video.ports()[0]["pixel_values_videos"].shape[1] == frames
