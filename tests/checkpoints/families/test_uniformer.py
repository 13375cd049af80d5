"""UniFormer files: no missing or unused tensors, sizes from shapes, hands told by their 20 numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, AutoVideoProcessor

from internvideo_hf import (
    CheckpointError,
    FeatureExtractor,
    UniFormerConfig,
    UniFormerForHandPrediction,
    UniFormerForVideoClassification,
    VideoReader,
    convert_checkpoint,
)
from internvideo_hf.auto import auto_class
from internvideo_hf.checkpoints import convert as conversion
from internvideo_hf.checkpoints.families.uniformer import CONVERTER, config_from, recognizes, table_of
from internvideo_hf.checkpoints.starting import start_from
from internvideo_hf.checkpoints.table import check_complete, convert_state_dict

MANIFESTS = Path(__file__).parents[2] / "manifests"
OVERRIDES = {"head_dim": 8, "num_frames": 4, "image_size": 32}  # of the case, which no tensor shows


@pytest.fixture
def content(golden: Path) -> dict[str, torch.Tensor]:
    return torch.load(golden / "ego4d_fhp_uniformer_tiny/checkpoint.pth", weights_only=True)["model"]


def written(tmp_path: Path, content: object, name: str = "mine.pth") -> Path:
    torch.save(content, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize(
    ("outputs", "auto", "kind"),
    [
        (20, auto_class("AutoModelForHandPrediction"), UniFormerForHandPrediction),
        (118, AutoModelForVideoClassification, UniFormerForVideoClassification),
    ],
)
def test_nothing_is_missing_and_nothing_left_over(outputs, auto, kind):
    stored = json.loads((MANIFESTS / f"uniformer_b_{outputs}out.json").read_text())
    tensors = {name: torch.empty(shape, device="meta") for name, shape in stored["parameters"].items()}
    for name in tensors:
        if name.endswith("num_batches_tracked"):
            tensors[name] = tensors[name].long()
    assert len(tensors) == stored["num_tensors"] == 687
    assert recognizes(tensors) and conversion._recognize(tensors, "file") == "uniformer"
    assert CONVERTER.model_class(tensors) is auto
    config, table = config_from(tensors, {}), CONVERTER.table_for(tensors)
    public, found = UniFormerConfig(num_labels=outputs).to_dict(), config.to_dict()
    assert (config.num_frames, config.image_size) == ((8, 320) if outputs == 20 else (16, 224))
    for name in ("id2label", "label2id", "num_frames", "image_size"):
        public.pop(name)
    assert {name: found[name] for name in public} == public
    converted, left_out = convert_state_dict(tensors, table)
    assert not left_out
    with torch.device("meta"):
        model = kind(config)
    check_complete(model, converted, table)
    assert sum(tensor.numel() for tensor in model.state_dict().values()) == stored["total_numel_state_dict"]


def test_hands_are_named_and_their_processor_is_that_of_the_test(content, tmp_path):
    report = convert_checkpoint(written(tmp_path, {"model": content}), tmp_path / "out", config_overrides=OVERRIDES)
    assert (report.family, report.num_labels, report.left_out) == ("uniformer", None, {})
    model = auto_class("AutoModelForHandPrediction").from_pretrained(tmp_path / "out")
    assert type(model) is UniFormerForHandPrediction and model.config.num_labels == 20
    assert (model.config.id2label[0], model.config.id2label[19]) == ("pre_45 left x", "contact_frame right y")
    weight = model.uniformer.layers[2].self_attn
    fused = torch.cat([weight.q_proj.weight, weight.k_proj.weight, weight.v_proj.weight])
    assert torch.equal(fused, content["blocks3.0.attn.qkv.weight"])


def test_encoder_gives_features_of_the_result_and_of_every_layer(content, tmp_path):
    convert_checkpoint(written(tmp_path, {"model": content}), tmp_path / "out", config_overrides=OVERRIDES)
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    lengths = []
    for layer in (None, 0, 1, 2, 3, 4, 5):
        extractor = FeatureExtractor(tmp_path / "out", window=4, stride=4, layer=layer, device="cpu")
        (rows,) = extractor.rows(VideoReader(frames, fps=25))
        lengths.append(rows.shape[1])
    assert lengths == [16, 8, 8, 8, 16, 16, 16] and len(rows) == 2
    model = AutoModel.from_pretrained(tmp_path / "out")
    processor = AutoVideoProcessor.from_pretrained(tmp_path / "out")
    pixels = processor([frames[:4]], do_sample_frames=False, return_tensors="pt")
    last = model(**pixels, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(rows[0], last[0].mean(dim=0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [UniFormerForHandPrediction, UniFormerForVideoClassification])
def test_a_classifier_starts_models_with_other_outputs(kind, content, tmp_path):
    verbs = content | {name: content[name][:7] for name in ("head.weight", "head.bias")}
    convert_checkpoint(written(tmp_path, verbs), tmp_path / "out", config_overrides=OVERRIDES)
    config = AutoConfig.from_pretrained(tmp_path / "out")
    config.num_labels = 2
    model = start_from(kind(config), tmp_path / "out")
    assert torch.equal(model.uniformer.batch_norm.running_var, content["norm.running_var"])
    assert torch.equal(model.uniformer.layers[0].position_conv.weight, content["blocks1.0.pos_embed.weight"])
    assert model.classifier.weight.shape == (2, 16)


def test_other_outputs_are_classes(content, tmp_path):
    fewer = content | {name: content[name][:7] for name in ("head.weight", "head.bias")}
    report = convert_checkpoint(written(tmp_path, fewer), tmp_path / "out", config_overrides=OVERRIDES)
    assert report.num_labels == 7
    model = AutoModelForVideoClassification.from_pretrained(tmp_path / "out")
    assert type(model) is UniFormerForVideoClassification
    assert torch.equal(model.classifier.weight, fewer["head.weight"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"blocks4.0.norm1.weight": None}, r"missing: blocks4\.0\.norm1\.weight"),
        ({"head.bias": None}, "head.bias"),
        ({"patch_embed3.proj.weight": None}, r"lacks patch_embed3\.proj\.weight"),
        ({"blocks3.0.t_attn.qkv.weight": torch.ones(48, 16)}, r"unknown in this model: blocks3\.0\.t_attn"),
        (
            {"patch_embed2.proj.weight": torch.ones(8, 8, 3, 2, 2)},
            r"patch_embed2\.proj\.weight gives \(8, 8, 3, 2, 2\)",
        ),
        ({"blocks1.0.mlp.fc1.weight": torch.ones(32, 7, 1, 1, 1)}, r"blocks1\.0\.mlp\.fc1\.weight"),
        ({"norm.num_batches_tracked": torch.tensor(1.0)}, r"of another kind of number: norm\.num_batches_tracked"),
    ],
)
def test_files_that_do_not_fit_are_refused_by_their_own_names(change, words, content, tmp_path):
    wrong = {name: tensor for name, tensor in (content | change).items() if tensor is not None}
    with pytest.raises(CheckpointError, match=words):
        convert_checkpoint(written(tmp_path, {"model": wrong}), tmp_path / "out", config_overrides=OVERRIDES)
    assert not (tmp_path / "out").exists()


def test_models_of_images_are_not_taken_for_models_of_videos(content):
    flat = {name: tensor.squeeze(2) if tensor.ndim == 5 else tensor for name, tensor in content.items()}
    flat["patch_embed1.proj.weight"] = content["patch_embed1.proj.weight"][:, :, 0]
    assert recognizes(content) and not recognizes(flat)


def test_layers_are_numbered_through_all_stages():
    table = table_of([5, 8, 20, 7])
    assert table["blocks1.4.conv1.bias"].names == ("uniformer.layers.4.value_conv.bias",)
    assert table["patch_embed2.proj.bias"].names == ("uniformer.layers.5.patch_embedding.projection.bias",)
    assert table["blocks4.6.mlp.fc2.weight"].names == ("uniformer.layers.39.mlp.fc2.weight",)
