"""Exported models in the place of model classes."""

from dataclasses import replace

import pytest
import torch
from handmade_export import write_folder
from huggingface_hub import constants
from transformers import AutoModel, AutoModelForVideoClassification

from internvideo_hf import UniFormerV2ForVideoClassification, UniFormerV2Model
from internvideo_hf.models.common.exported import manifest
from internvideo_hf.models.common.exported.graphs import Graph
from internvideo_hf.models.common.exported.manifest import Port
from internvideo_hf.models.common.exported.modeling import ExportedClassifier, ExportedEncoder
from internvideo_hf.models.common.loading import load_strict, revision
from internvideo_hf.models.uniformerv2.modeling_uniformerv2 import UniFormerV2ForHandPrediction


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture(scope="module")
def clips():
    return torch.rand(2, 2, 3, 4, 4)


def test_auto_classes_and_classes_load_it(folder, clips):
    for model in (
        AutoModelForVideoClassification.from_pretrained(folder),
        UniFormerV2ForVideoClassification.from_pretrained(folder),
        load_strict(AutoModelForVideoClassification, folder),
    ):
        assert isinstance(model, ExportedClassifier) and type(model).__name__ == "UniFormerV2ForVideoClassification"
        assert model.config.num_labels == 3 and model.name_or_path == str(folder)
        logits = model(pixel_values_videos=clips).logits
        torch.testing.assert_close(logits[:, 2], 2 * clips.sum(dim=(1, 2, 3, 4)))


def test_it_is_loaded_from_the_hub(folder, monkeypatch):
    asked = []

    def download(name, file, revision):
        asked.append((name, file, revision))
        return str(folder / file)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(manifest, "hf_hub_download", download)
    model = UniFormerV2ForVideoClassification.from_pretrained("you/model", revision="trial")
    assert isinstance(model, ExportedClassifier)
    first, *others = asked
    assert first == ("you/model", "export.json", "trial")
    assert {(file, commit) for _, file, commit in others} == {(name, folder.name) for name in model.manifest.files}


def test_what_is_not_there_is_said_as_of_any_model(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for source in ("you/model", "no-such-folder"):
        with pytest.raises(OSError, match="connect"):
            UniFormerV2ForVideoClassification.from_pretrained(source)


def test_the_encoder_of_a_classifier_pools(folder, clips):
    model = load_strict(AutoModel, folder)
    assert isinstance(model, ExportedEncoder) and type(model).__name__ == "UniFormerV2Model"
    outputs = model(pixel_values_videos=clips)
    torch.testing.assert_close(outputs.pooler_output, clips.sum(dim=(1, 2, 3, 4))[:, None])


def test_a_class_that_the_export_cannot_replace_is_refused(folder, tmp_path):
    expected = "holds a UniFormerV2ForVideoClassification, exported, expected a UniFormerV2ForHandPrediction"
    with pytest.raises(ValueError, match=expected):
        UniFormerV2ForHandPrediction.from_pretrained(folder)
    port = {"shape": ["batch", 3], "dtype": "float32"}
    video = {"file": "video.onnx", "inputs": {}, "outputs": {"logits": port}}
    write_folder(tmp_path / "logits", functions={"video": video})
    with pytest.raises(ValueError, match="expected a UniFormerV2Model"):
        UniFormerV2Model.from_pretrained(tmp_path / "logits")


def test_it_has_the_interface_of_a_model(folder):
    model = load_strict(AutoModelForVideoClassification, folder)
    assert (model.device.type, model.dtype, model.num_frames, model.num_parameters()) == ("cpu", torch.float32, 2, 3)
    assert model.to("cuda") is model and model.to(dtype=torch.float32) is model and not model.training
    with pytest.raises(ValueError, match=r"exported in float32 and cannot run in float16.*internvideo export --dtype"):
        model.to(torch.float16)
    with pytest.raises(ValueError, match="Copy its folder"):
        model.save_pretrained("elsewhere")


def test_options_that_would_change_it_are_refused(folder):
    model_class = UniFormerV2ForVideoClassification
    assert model_class.from_pretrained(folder, dtype="auto", num_labels=3).config.num_labels == 3
    with pytest.raises(ValueError, match="was exported in float32 and cannot run in bfloat16"):
        model_class.from_pretrained(folder, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="has num_labels=3, not 4. Leave that out"):
        model_class.from_pretrained(folder, num_labels=4)


def test_what_the_runtime_refuses_is_said_in_one_line(folder, capfd):
    graph = load_strict(AutoModelForVideoClassification, folder).graphs["video"]
    with pytest.raises(ValueError, match="The exported function 'video' failed: .*[Ii]nvalid") as refused:
        Graph("video", replace(graph.function, inputs={"pixel_values_videos": Port(("batch", 3))}), graph._run)(
            {"pixel_values_videos": torch.rand(1, 3)}
        )
    assert "\n" not in str(refused.value) and not capfd.readouterr().err


def test_what_the_graph_does_not_give_is_refused(folder, clips):
    model = load_strict(AutoModel, folder)
    model(pixel_values_videos=clips, output_hidden_states=False, return_dict=True)
    with pytest.raises(ValueError, match="no output_hidden_states.*gives logits, pooler_output"):
        model(pixel_values_videos=clips, output_hidden_states=True)


def test_its_revision_changes_with_its_manifest(folder, tmp_path):
    other = write_folder(tmp_path / "other", weights="1" * 64)
    model = load_strict(AutoModel, folder)
    assert revision(folder, model) != revision(other, load_strict(AutoModel, other))
