"""Every tensor of every released InternVideo-MM file is mapped, at full size, on the meta device."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from internvideo_hf import auto
from internvideo_hf.checkpoints import convert as conversion
from internvideo_hf.checkpoints.errors import CheckpointError
from internvideo_hf.checkpoints.families.internvideo_mm import (
    TABLE,
    config_from,
    model_class,
    normalize,
    recognizes,
    table_for,
    towers,
)
from internvideo_hf.checkpoints.released import released_rows
from internvideo_hf.checkpoints.table import check_complete, convert_state_dict
from internvideo_hf.models.common.overrides import check_overrides
from internvideo_hf.models.internvideo_mm.modeling_internvideo_mm import InternVideoMMModel
from internvideo_hf.processing.presets import build_processor

MANIFESTS = Path(__file__).parents[2] / "manifests"
NAMES = sorted(path.name for path in MANIFESTS.glob("InternVideo-MM-*.json"))

# Section 1 of the specification: the sizes that the released constructors hold.
VISION = {
    "B-16": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_global_attention_heads": 12,
        "global_layers": [8, 9, 10, 11],
        "patch_size": 16,
        "image_size": 224,
        "num_frames": 8,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
    "L-14": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_global_attention_heads": 16,
        "global_layers": [20, 21, 22, 23],
        "patch_size": 14,
        "image_size": 224,
        "num_frames": 8,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
}
TEXT = {
    size: {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": 12,
        "num_attention_heads": heads,
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    }
    for size, width, heads in [("B-16", 512, 8), ("L-14", 768, 12)]
}
PROJECTION = {"B-16": 512, "L-14": 768}
CLASSES = {"-with-decoder": "ForConditionalGeneration", "-vqa-": "ForQuestionAnswering"}  # by a part of the name
PARAMETERS = {"B-16": 178_066_433, "L-14": 478_127_105}
TENSORS = {"B-16": 369, "L-14": 513}


def read(name: str) -> dict[str, Any]:
    return json.loads((MANIFESTS / name).read_text())


def size_of(name: str) -> str:
    return next(size for size in VISION if f"-{size}" in name)


def meta_state_dict(name: str) -> dict[str, torch.Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in read(name)["state_dict"].items()}


def test_all_released_layouts_have_a_manifest():
    kinds = ["", "-retrieval_pytorch_model.bin", "-vqa-msrvtt", "-vqa-msvd", "-vqa-tgif"]
    kinds += ["-with-decoder4", "-with-decoder6"]
    assert NAMES == sorted(f"InternVideo-MM-{size}{kind}.json" for size in VISION for kind in kinds)


@pytest.mark.parametrize("stripped", [False, True], ids=["as released", "without clip."])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_missing_and_nothing_left_over(name, stripped):
    manifest, tensors = read(name)["state_dict"], meta_state_dict(name)
    if stripped:
        tensors = {key.removeprefix("clip."): tensor for key, tensor in tensors.items()}
    assert recognizes(tensors)
    assert conversion._recognize(tensors, name) == "internvideo_mm"
    tensors = normalize(tensors)
    assert set(tensors) == set(manifest)
    table = table_for(tensors)
    converted, left_out = convert_state_dict(tensors, table)
    config = config_from(tensors, {})
    with torch.device("meta"):
        model = auto.FAMILIES["internvideo_mm"].models[model_class(tensors)](config)
    check_complete(model, converted, table)
    model.load_state_dict(converted, assign=True)

    kinds = [kind for part, kind in CLASSES.items() if part in name] or ["Model"]
    assert [type(model).__name__] == [f"InternVideoMM{kind}" for kind in kinds]
    assert set(left_out) == {key for key in manifest if key.endswith("rotary_emb.inv_freq")}
    held = sum(math.prod(shape) for key, shape in manifest.items() if key not in left_out)
    assert sum(tensor.numel() for tensor in model.state_dict().values()) == held


@pytest.mark.parametrize("name", NAMES)
def test_the_towers_alone_can_be_taken_out_of_every_file(name):
    manifest = read(name)["state_dict"]
    tensors, left_out = towers(meta_state_dict(name))
    assert set(left_out) == {key for key in manifest if not key.startswith("clip.")}
    converted, _ = convert_state_dict(tensors, table_for(tensors))
    assert model_class(tensors) is AutoModel
    with torch.device("meta"):
        model = InternVideoMMModel(config_from(tensors, {}))
    check_complete(model, converted, TABLE)
    assert set(converted) == set(dict(model.named_parameters()))  # and no buffer in the towers


@pytest.mark.parametrize("name", [name for name in NAMES if "decoder" in name])
def test_the_depth_of_the_decoder_is_the_file_s(name):
    tensors, depth = meta_state_dict(name), int(name[-6])
    config = config_from(tensors, {})
    assert config.decoder_config.num_hidden_layers == depth
    assert config_from(tensors, {"decoder_config": {"num_hidden_layers": depth}}).decoder_config.rope_theta == 10_000
    for other in (10 - depth, 1):
        with pytest.raises(CheckpointError, match=rf"decoder has {depth} layers, .*num_hidden_layers={other}\. Leave"):
            config_from(tensors, {"decoder_config": {"num_hidden_layers": other}})


@pytest.mark.parametrize("name", NAMES)
def test_the_released_sizes_are_read_from_the_shapes(name):
    size, config = size_of(name), config_from(meta_state_dict(name), {})
    for key, value in VISION[size].items():
        found = getattr(config.vision_config, key)
        assert (list(found) if isinstance(value, list) else found) == value, key
    for key, value in TEXT[size].items():
        assert getattr(config.text_config, key) == value, key
    assert config.projection_dim == (None if "vqa" in name else PROJECTION[size])


@pytest.mark.parametrize("name", NAMES)
def test_the_manifests_hold_the_released_numbers_of_tensors_and_parameters(name):
    size, manifest = size_of(name), read(name)["state_dict"]
    towers = {key: math.prod(shape) for key, shape in manifest.items() if key.startswith("clip.")}
    projections = {"clip.visual_proj", "clip.text_projection"} - set(manifest)
    assert bool(projections) == ("vqa" in name)
    assert len(towers) + len(projections) == TENSORS[size]
    width, text_width = VISION[size]["hidden_size"], TEXT[size]["hidden_size"]
    without = PROJECTION[size] * (width + text_width) if projections else 0
    assert sum(towers.values()) + without == PARAMETERS[size]


@pytest.mark.parametrize(
    "row", [row for row in released_rows() if row["family"] == "internvideo_mm"], ids=lambda row: row["name"]
)
def test_the_settings_of_a_row_fit_its_manifest(row):
    overrides = row["config"]
    check_overrides(overrides, auto.FAMILIES[row["family"]].config)
    config = config_from(meta_state_dict(row["manifest"]), overrides)
    frames = overrides.get("vision_config", {}).get("num_frames", 8)
    assert config.vision_config.num_frames == frames
    assert build_processor(config).video_processor.num_frames == frames


def test_every_row_of_the_mm_family_is_there():
    names = {row["name"] for row in released_rows() if row["family"] == "internvideo_mm"}
    data_sets = ["ActivityNet", "DiDeMo", "LSMDC", "MSR-VTT", "MSVD", "VATEX"]
    assert names == {
        "InternVideo-MM-B-16",
        "InternVideo-MM-L-14",
        *(f"InternVideo-MM-L-14 retrieval {data_set}" for data_set in data_sets),
        *(f"InternVideo-MM-L-14 VQA {data_set}" for data_set in ("MSR-VTT", "MSVD", "TGIF-FrameQA")),
    }
