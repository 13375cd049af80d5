"""Released UniFormerV2 classifiers: every tensor at full size, classes, pixels, initialization from CLIP."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForVideoClassification, AutoVideoProcessor

from internvideo_hf import (
    CheckpointError,
    UniFormerV2Config,
    UniFormerV2ForVideoClassification,
    convert_checkpoint,
)
from internvideo_hf.checkpoints import convert as conversion
from internvideo_hf.checkpoints.families import uniformerv2
from internvideo_hf.checkpoints.heads import identify_classes
from internvideo_hf.checkpoints.released import released_rows, rows_of_file
from internvideo_hf.checkpoints.table import check_complete, convert_state_dict
from internvideo_hf.processing.presets import build_processor
from internvideo_hf.recipes.labels import load_labels, rows_in_k710

MANIFESTS = Path(__file__).parents[2] / "manifests"
INDEX = json.loads((MANIFESTS / "uniformerv2_index.json").read_text())
ROWS = [row for row in released_rows() if row["family"] == "uniformerv2"]

SIZES = {
    "b16": dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, patch_size=16, image_size=224),
    "l14": dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, patch_size=14, image_size=224),
    "l14_336": dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, patch_size=14, image_size=336),
}


def manifest(name: str) -> dict:
    return json.loads((MANIFESTS / f"{name}.json").read_text())


def meta_state_dict(name: str) -> dict[str, torch.Tensor]:
    return {
        key: torch.empty(
            shape, device="meta", dtype=torch.int64 if key.endswith("num_batches_tracked") else torch.float32
        )
        for key, shape in manifest(name)["state_dict"].items()
    }


# Full size


@pytest.mark.parametrize("stripped", [False, True], ids=["as released", "without backbone."])
@pytest.mark.parametrize("name", INDEX)
def test_nothing_is_missing_and_nothing_left_over(name, stripped):
    facts, tensors = manifest(name), meta_state_dict(name)
    if stripped:
        tensors = {key.removeprefix("backbone."): tensor for key, tensor in tensors.items()}
    assert conversion._recognize(tensors, Path(name)) == "uniformerv2"
    tensors = uniformerv2.CONVERTER.normalize(tensors)
    converted, left_out = convert_state_dict(tensors, uniformerv2.TABLE)
    config = uniformerv2.config_from(tensors, {})
    with torch.device("meta"):
        model = UniFormerV2ForVideoClassification(config)
    check_complete(model, converted, uniformerv2.TABLE)
    assert not left_out and len(tensors) == facts["n_tensors"]
    assert sum(parameter.numel() for parameter in model.parameters()) == facts["total_params"]


@pytest.mark.parametrize("name", INDEX)
def test_the_released_sizes_are_read_from_the_shapes(name):
    facts, config = manifest(name)["config"], uniformerv2.config_from(meta_state_dict(name), {})
    size = next(size for size in ("l14_336", "l14", "b16") if f"_{size}_" in name)
    motion = not facts["no_lmhra"]
    expected = SIZES[size] | {
        "num_labels": facts["num_classes"],
        "global_layers": facts["return_list"],
        "use_fusion_gate": not facts["frozen"],
        "num_local_blocks": 2 if motion else 0,
        "temporal_downsampling": facts["temporal_downsample"],
        "num_global_attention_heads": SIZES[size]["num_attention_heads"],
    }
    if motion:
        expected["local_intermediate_size"] = int(config.hidden_size / facts["dw_reduction"])
    assert {key: getattr(config, key) for key in expected} == expected


@pytest.mark.parametrize("name", INDEX)
def test_presets_are_the_released_architectures(name):
    facts, config = manifest(name)["config"], uniformerv2.config_from(meta_state_dict(name), {})
    size = {"l14_336": "large-336", "l14": "large", "b16": "base"}
    size = size[next(size for size in ("l14_336", "l14", "b16") if f"_{size}_" in name)]
    task = "scene" if facts["no_lmhra"] else "motion"
    preset = UniFormerV2Config.from_size(size, task, use_fusion_gate=not facts["frozen"])
    for key in ("hidden_size", "intermediate_size", "global_layers", "local_intermediate_size", "num_local_blocks"):
        assert getattr(config, key) == getattr(preset, key), key
    with torch.device("meta"):
        models = [UniFormerV2ForVideoClassification(each) for each in (config, preset)]
    shapes = [{key: t.shape for key, t in model.state_dict().items() if "classifier" not in key} for model in models]
    assert shapes[0] == shapes[1]


# Rows


def test_every_released_experiment_has_a_row():
    found = {(Path(row["manifest"]).stem, row["evaluation"]["num_frames"]) for row in ROWS}
    assert found == {(name, frames) for name, experiments in INDEX.items() for _, frames in experiments}
    assert len(ROWS) == sum(map(len, INDEX.values()))
    assert len({row["file"] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_a_row_fits_its_manifest(row):
    evaluation, name = row["evaluation"], Path(row["manifest"]).stem
    config = uniformerv2.config_from(meta_state_dict(name), row["config"])
    assert (config.num_frames, config.image_size) == (evaluation["num_frames"], evaluation["image_size"])
    if row["labels"] is not None:
        assert len(load_labels(row["labels"])) == config.num_labels
    expected = None if row["labels"] is None else row["labels"]
    rows = rows_of_file(row["file"], "uniformerv2")
    assert identify_classes(meta_state_dict(name), uniformerv2.HEAD, rows) == expected
    processor = build_processor(config)
    assert processor.num_frames == evaluation["num_frames"]
    assert processor.channel_order == ("bgr" if evaluation["data_set"] in ("SSv1", "SSv2") else "rgb")


# The specification's table, by data set: (architecture, frames x pixels) -> top-1 of the zoo
PUBLISHED = {
    ("K400", "B", 8, 224): {84.4, 85.6},
    ("K400", "L", 8, 224): {88.8},
    ("K400", "L", 16, 224): {89.1},
    ("K400", "L", 32, 224): {89.3},
    ("K400", "L", 32, 336): {89.7, 88.9},
    ("K400", "L", 64, 336): {90.0},
    ("K400", "L", 8, 336): {86.7, 87.8},
    ("SSv2", "B", 16, 224): {69.5},
    ("SSv2", "B", 32, 224): {70.7},
    ("SSv2", "L", 16, 224): {72.1},
    ("SSv2", "L", 32, 224): {73.0},
    ("SSv1", "B", 16, 224): {56.8},
    ("SSv1", "B", 32, 224): {59.4},
    ("SSv1", "L", 16, 224): {60.5},
    ("SSv1", "L", 32, 224): {62.7},
    ("MiT", "B", 8, 224): {42.6},
    ("MiT", "L", 8, 224): {47.0},
    ("MiT", "L", 8, 336): {47.8},
    ("ActivityNet", "L", 16, 224): {94.3},
    ("ActivityNet", "L", 32, 224): {94.7},
    ("HACS", "L", 16, 224): {95.5},
    ("HACS", "L", 32, 224): {95.4},
}


def test_rows_hold_the_published_scores():
    for (data_set, size, frames, pixels), scores in PUBLISHED.items():
        found = {
            row["evaluation"]["top1"]
            for row in ROWS
            if row["name"].startswith(f"UniFormerV2-{size} ")
            and [row["evaluation"][key] for key in ("data_set", "num_frames", "image_size")]
            == [data_set, frames, pixels]
        }
        assert found == scores, (data_set, size, frames, pixels)


# A file


@pytest.fixture
def checkpoint(golden, tmp_path) -> Path:
    """Return a model of motion with the classes of Something-Something, from the reference case."""
    tensors = torch.load(golden / "ufv2_local_global/checkpoint.pth", weights_only=True)
    return with_classes(tensors, 174, tmp_path / "sthv2.pyth")


def with_classes(tensors: dict[str, torch.Tensor], classes: int, path: Path) -> Path:
    width = tensors[f"{uniformerv2.HEAD}.weight"].shape[1]
    generator = torch.Generator().manual_seed(0)
    head = {
        f"{uniformerv2.HEAD}.weight": torch.randn(classes, width, generator=generator),
        f"{uniformerv2.HEAD}.bias": torch.randn(classes, generator=generator),
    }
    torch.save(tensors | head, path)
    return path


HEADS = {"num_attention_heads": 3, "num_global_attention_heads": 2}


def test_folder_of_a_motion_model_loads_and_sees_blue_first(checkpoint, tmp_path):
    report = convert_checkpoint(checkpoint, tmp_path / "model", config_overrides=HEADS, head="ssv2")
    assert (report.family, report.head, report.num_labels) == ("uniformerv2", "ssv2", 174)
    model = AutoModelForVideoClassification.from_pretrained(tmp_path / "model")
    processor = AutoVideoProcessor.from_pretrained(tmp_path / "model")
    assert model.config.id2label[1] == load_labels("ssv2")[1]
    blue = np.zeros((12, 24, 24, 3), np.uint8)
    blue[..., 2] = 255
    pixels = processor(blue, return_tensors="pt")["pixel_values_videos"]
    assert pixels.shape == (1, model.config.num_frames, 3, 24, 24)
    expected = torch.tensor([(1 - 0.45) / 0.225, -0.45 / 0.225, -0.45 / 0.225])
    torch.testing.assert_close(pixels[0, 0, :, 0, 0], expected)
    assert model(pixels).logits.shape == (1, 174)


@pytest.mark.parametrize("layout", ["flat", "model_state", "fp16", "without backbone."])
def test_layouts_give_the_same_model(layout, checkpoint, tmp_path):
    tensors = torch.load(checkpoint, weights_only=True)
    saved = {
        "flat": tensors,
        "model_state": {"epoch": 3, "model_state": tensors, "optimizer_state": {}, "cfg": "TRAIN: {}"},
        "fp16": {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()},
        "without backbone.": {name.removeprefix("backbone."): tensor for name, tensor in tensors.items()},
    }[layout]
    torch.save(saved, tmp_path / "other.pyth")
    convert_checkpoint(checkpoint, tmp_path / "a", config_overrides=HEADS)
    convert_checkpoint(tmp_path / "other.pyth", tmp_path / "b", config_overrides=HEADS)
    a, b = (UniFormerV2ForVideoClassification.from_pretrained(tmp_path / name).state_dict() for name in "ab")
    for name, tensor in a.items():
        expected = tensor.half().float() if layout == "fp16" and tensor.is_floating_point() else tensor
        assert torch.equal(b[name], expected), name


@pytest.mark.parametrize("head", ["k400", "k600", "k700", "k710", None])
def test_smaller_kinetics_heads_are_picked_out_of_k710(head, golden, tmp_path):
    tensors = torch.load(golden / "ufv2_frozen/checkpoint.pth", weights_only=True)
    source = with_classes(tensors, 710, tmp_path / "k710.pyth")
    overrides = {"num_attention_heads": 4, "num_global_attention_heads": 4}
    report = convert_checkpoint(source, tmp_path / "model", config_overrides=overrides, head=head)
    model = UniFormerV2ForVideoClassification.from_pretrained(tmp_path / "model")
    assert report.head == (head or "k710")
    rows = range(710) if head in (None, "k710") else rows_in_k710(head)
    weight = torch.load(source, weights_only=True)[f"{uniformerv2.HEAD}.weight"]
    assert torch.equal(model.classifier.weight, weight[list(rows)])
    assert list(model.config.id2label.values()) == load_labels(head or "k710")
    assert not model.config.use_fusion_gate


@pytest.mark.parametrize(("classes", "head"), [(174, None), (200, None), (339, "mit"), (7, None)])
def test_a_number_of_classes_that_two_data_sets_share_tells_nothing(classes, head, golden, tmp_path):
    tensors = torch.load(golden / "ufv2_frozen/checkpoint.pth", weights_only=True)
    source = with_classes(tensors, classes, tmp_path / "mine.pyth")
    overrides = {"num_attention_heads": 4, "num_global_attention_heads": 4}
    report = convert_checkpoint(source, tmp_path / "model", config_overrides=overrides)
    assert report.head == head
    assert ("numbered" in (tmp_path / "model/README.md").read_text()) == (head is None)


@pytest.mark.parametrize(
    "name",
    [
        "class_embedding",
        "conv1.weight",
        "transformer.resblocks.1.lmhra2.pos_embed.0.running_var",
        "transformer.resblocks.0.lmhra1.pos_embed.2.weight",
        "transformer.dpe.2.bias",
        "transformer.dec.0.attn.in_proj_bias",
        "transformer.proj.0.weight",
        "transformer.temporal_cls_token",
    ],
)
def test_a_missing_tensor_is_named_and_nothing_is_written(name, checkpoint, tmp_path):
    tensors = torch.load(checkpoint, weights_only=True)
    del tensors[f"backbone.{name}"]
    torch.save(tensors, tmp_path / "damaged.pyth")
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        convert_checkpoint(tmp_path / "damaged.pyth", tmp_path / "model", config_overrides=HEADS)
    assert not (tmp_path / "model").exists()


def test_a_released_name_tells_that_a_gate_is_missing(golden, tmp_path):
    tensors = torch.load(golden / "ufv2_global/checkpoint.pth", weights_only=True)
    del tensors["backbone.transformer.balance"]
    source = with_classes(tensors, 710, tmp_path / "k710_uniformerv2_b16_8x224.pyth")
    overrides = {"num_attention_heads": 4, "num_global_attention_heads": 4}
    with pytest.raises(CheckpointError, match=r"missing: backbone\.transformer\.balance"):
        convert_checkpoint(source, tmp_path / "model", config_overrides=overrides)


def test_frames_and_colors_of_a_motion_model_do_not_hang_on_its_name(golden, tmp_path):
    scene, motion = (
        torch.load(golden / f"ufv2_{name}/checkpoint.pth", weights_only=True) for name in ("global", "local_global")
    )
    for name, tensors, frames, order in (("scene", scene, 8, "rgb"), ("motion", motion, 16, "bgr")):
        heads = {"num_attention_heads": 1, "num_global_attention_heads": 1}
        convert_checkpoint(with_classes(tensors, 174, tmp_path / "mine.pyth"), tmp_path / name, config_overrides=heads)
        processor = AutoVideoProcessor.from_pretrained(tmp_path / name)
        assert (processor.num_frames, processor.channel_order) == (frames, order)
