"""Released VideoMAE files: every tensor mapped, the right head classes, export to transformers."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModelForPreTraining,
    AutoModelForVideoClassification,
    AutoVideoProcessor,
    pipeline,
)

from internvideo_hf import (
    CheckpointError,
    InternVideoMAEForPreTraining,
    InternVideoMAEForShortTermAnticipation,
    InternVideoMAEForVideoActionDetection,
    InternVideoMAEForVideoClassification,
    auto,
    convert_checkpoint,
)
from internvideo_hf.checkpoints import convert as conversion
from internvideo_hf.checkpoints.families import internvideo_mae as family
from internvideo_hf.checkpoints.released import released_rows
from internvideo_hf.checkpoints.table import check_complete, convert_state_dict
from internvideo_hf.processing.presets import build_processor
from internvideo_hf.recipes.labels import load_labels, rows_in_k710

MANIFESTS = Path(__file__).parents[2] / "manifests"
NAMES = sorted(
    path.stem
    for pattern in ("vit_?_*.json", "ViT-H_*.json", "pretrain_giant_*.json", "videomae_?_*.json")
    for path in MANIFESTS.glob(pattern)
)
ROWS = [row for row in released_rows() if row["family"] == "internvideo_mae"]

WIDTH, PATCH, DECODER_WIDTH = 12, 4, 8
# What no shape tells, where the widths are none of the released ones.
SETTINGS = {
    "num_attention_heads": 2,
    "decoder_num_attention_heads": 2,
    "image_size": 16,
    "num_frames": 4,
    "position_image_size": 16,
    "position_num_frames": 4,
}
CUBES = 2 * 4 * 4


def blocks(prefix: str, width: int, count: int) -> dict[str, tuple[int, ...]]:
    shapes = {
        "norm1.weight": (width,),
        "norm1.bias": (width,),
        "attn.q_bias": (width,),
        "attn.v_bias": (width,),
        "attn.qkv.weight": (3 * width, width),
        "attn.proj.weight": (width, width),
        "attn.proj.bias": (width,),
        "norm2.weight": (width,),
        "norm2.bias": (width,),
        "mlp.fc1.weight": (4 * width, width),
        "mlp.fc1.bias": (4 * width,),
        "mlp.fc2.weight": (width, 4 * width),
        "mlp.fc2.bias": (width,),
    }
    return {f"{prefix}blocks.{index}.{name}": shape for index in range(count) for name, shape in shapes.items()}


def tensors_of(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def classifier(classes: int = 11, mean_pooling: bool = True) -> dict[str, torch.Tensor]:
    norm = "fc_norm" if mean_pooling else "norm"
    return tensors_of(
        {
            "patch_embed.proj.weight": (WIDTH, 3, 2, PATCH, PATCH),
            "patch_embed.proj.bias": (WIDTH,),
            **blocks("", WIDTH, 2),
            f"{norm}.weight": (WIDTH,),
            f"{norm}.bias": (WIDTH,),
            "head.weight": (classes, WIDTH),
            "head.bias": (classes,),
        }
    )


def pretraining() -> dict[str, torch.Tensor]:
    pixels = 3 * 2 * PATCH * PATCH
    return tensors_of(
        {
            "mask_token": (1, 1, DECODER_WIDTH),
            "encoder.patch_embed.proj.weight": (WIDTH, 3, 2, PATCH, PATCH),
            "encoder.patch_embed.proj.bias": (WIDTH,),
            **blocks("encoder.", WIDTH, 2),
            "encoder.norm.weight": (WIDTH,),
            "encoder.norm.bias": (WIDTH,),
            **blocks("decoder.", DECODER_WIDTH, 1),
            "decoder.norm.weight": (DECODER_WIDTH,),
            "decoder.norm.bias": (DECODER_WIDTH,),
            "decoder.head.weight": (pixels, DECODER_WIDTH),
            "decoder.head.bias": (pixels,),
            "encoder_to_decoder.weight": (DECODER_WIDTH, WIDTH),
        }
    )


@pytest.fixture
def convert(tmp_path: Path) -> Callable[..., conversion.ConversionReport]:
    """Write what is given under a file name, and convert it into `tmp_path / "out"`."""

    def convert(content: Any, name: str = "mine.pth", **options: Any) -> conversion.ConversionReport:
        if name.endswith(".safetensors"):
            save_file(content, tmp_path / name)
        else:
            torch.save(content, tmp_path / name)
        return convert_checkpoint(tmp_path / name, tmp_path / "out", **{"config_overrides": SETTINGS, **options})

    return convert


def converted(tmp_path: Path) -> dict[str, torch.Tensor]:
    return load_file(tmp_path / "out/model.safetensors")


def config_of(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "out/config.json").read_text())


def video(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def mask() -> torch.Tensor:
    ranks = torch.rand(2, CUBES, generator=torch.Generator().manual_seed(1)).argsort().argsort()
    return ranks < 24


# Released sizes, on the meta device


def read(name: str) -> dict[str, Any]:
    return json.loads((MANIFESTS / f"{name}.json").read_text())


def meta_state_dict(name: str) -> dict[str, torch.Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in read(name)["tensors"].items()}


def model_of(tensors: dict[str, torch.Tensor], settings: dict[str, Any]) -> torch.nn.Module:
    """Load the model of a file, with no missing and no unused tensors."""
    assert conversion._recognize(tensors, Path("file")) == "internvideo_mae"
    tensors = family.normalize(tensors)
    table = family.CONVERTER.table_for(tensors)
    ours, left_out = convert_state_dict(tensors, table)
    assert not left_out
    config = family.config_from(tensors, settings)
    with torch.device("meta"):
        model = auto.FAMILIES["internvideo_mae"].models[family.CONVERTER.model_class(tensors)](config)
    check_complete(model, ours, table)
    model.load_state_dict(ours, assign=True)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_every_released_tensor_has_its_place_and_none_is_left(name):
    manifest = read(name)
    model = model_of(meta_state_dict(name), {})
    assert len(manifest["tensors"]) == manifest["num_tensors"]
    assert model.num_parameters() == manifest["total_parameters"]
    if "num_classes" in manifest:
        assert type(model) is InternVideoMAEForVideoClassification
        assert model.config.num_labels == manifest["num_classes"]
        assert model.config.use_mean_pooling
    else:
        assert type(model) is InternVideoMAEForPreTraining
        assert model.config.decoder_num_hidden_layers == manifest["decoder_depth"]
        assert not model.config.use_mean_pooling


SIZES = {
    "vit_b": (768, 12, 12, 384, 6, 16),
    "vit_l": (1024, 24, 16, 512, 8, 16),
    "vit_h": (1280, 32, 16, 512, 8, 16),
    "pretrain_giant": (1408, 40, 16, 512, 8, 14),
}
SIZES |= {
    "videomae_s": (384, 12, 6, 192, 3, 16),
    "videomae_b": SIZES["vit_b"],
    "videomae_l": SIZES["vit_l"],
    "videomae_h": SIZES["vit_h"],
    "videomae_g": SIZES["pretrain_giant"],
}


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_read_from_the_shapes_and_heads_from_the_width(name):
    config = family.config_from(meta_state_dict(name), {})
    width, layers, heads, decoder_width, decoder_heads, patch_size = next(
        sizes for start, sizes in SIZES.items() if name.lower().replace("-", "_").startswith(start)
    )
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (width, layers, heads)
    assert (config.patch_size, config.tubelet_size, config.num_channels) == (patch_size, 2, 3)
    assert (config.image_size, config.num_frames) == (224, 16)
    assert config.position_embedding_type == "sinusoidal" and config.qkv_bias and not config.layer_scale_init_value
    assert config.layer_norm_eps == 1e-6 and config.hidden_act == "gelu"
    if "num_classes" not in read(name):
        assert (config.decoder_hidden_size, config.decoder_num_attention_heads) == (decoder_width, decoder_heads)


# The action detector's file has the names of a classifier's; it has tests of its own.
OTHERS = [row for row in ROWS if row["manifest"] != "stal_ava_huge_linear.json"]


@pytest.mark.parametrize("row", OTHERS, ids=lambda row: row["name"])
def test_settings_and_classes_of_a_row_fit_its_manifest(row):
    manifest, name = read(row["manifest"].removesuffix(".json")), row["manifest"].removesuffix(".json")
    model = model_of(meta_state_dict(name), row["config"])
    processor = build_processor(model.config)
    assert processor.num_frames == row["config"].get("num_frames", 16)
    assert processor.size["shortest_edge"] == row["config"].get("image_size", 224)
    if row["name"].startswith("VideoMAE-L Ego4D"):  # whose classes no set of ours has
        assert row["note"].startswith(f"a classifier of {manifest['num_classes']} ")
    elif row["labels"] is None:
        assert "num_classes" not in manifest
    else:
        assert len(load_labels(row["labels"])) == manifest["num_classes"]


def test_table_of_the_384_pixel_model_is_resampled_from_16_frames_of_224_pixels():
    row = next(row for row in ROWS if row["file"] == "ViT-H_f32_res384_89.54.pth")
    model = model_of(meta_state_dict("ViT-H_f32_res384_89.54_k400"), row["config"])
    assert model.internvideo_mae.positions.grid == (8, 14, 14)
    assert (model.config.num_frames, model.config.image_size, model.config.num_labels) == (32, 384, 400)


# What comes out


def test_tensors_equal_the_released_ones(convert, tmp_path):
    source = classifier()
    convert(source)
    ours = converted(tmp_path)
    fused = source["blocks.1.attn.qkv.weight"]
    expected = {
        "internvideo_mae.embeddings.weight": source["patch_embed.proj.weight"],
        "internvideo_mae.layers.1.layer_norm1.weight": source["blocks.1.norm1.weight"],
        "internvideo_mae.layers.1.layer_norm2.bias": source["blocks.1.norm2.bias"],
        "internvideo_mae.layers.1.self_attn.q_proj.weight": fused[:WIDTH],
        "internvideo_mae.layers.1.self_attn.k_proj.weight": fused[WIDTH : 2 * WIDTH],
        "internvideo_mae.layers.1.self_attn.v_proj.weight": fused[2 * WIDTH :],
        "internvideo_mae.layers.1.self_attn.q_proj.bias": source["blocks.1.attn.q_bias"],
        "internvideo_mae.layers.1.self_attn.v_proj.bias": source["blocks.1.attn.v_bias"],
        "internvideo_mae.layers.1.self_attn.out_proj.bias": source["blocks.1.attn.proj.bias"],
        "internvideo_mae.layers.0.mlp.fc1.weight": source["blocks.0.mlp.fc1.weight"],
        "internvideo_mae.layers.0.mlp.fc2.bias": source["blocks.0.mlp.fc2.bias"],
        "internvideo_mae.pooler_layernorm.weight": source["fc_norm.weight"],
        "classifier.weight": source["head.weight"],
        "classifier.bias": source["head.bias"],
    }
    for name, tensor in expected.items():
        assert torch.equal(ours[name], tensor), name
    assert sum(tensor.numel() for tensor in ours.values()) == sum(tensor.numel() for tensor in source.values())


def test_decoder_and_mask_token_equal_the_released_ones(convert, tmp_path):
    source = pretraining()
    convert(source)
    ours = converted(tmp_path)
    fused = source["decoder.blocks.0.attn.qkv.weight"]
    expected = {
        "internvideo_mae.layernorm.weight": source["encoder.norm.weight"],
        "encoder_to_decoder.weight": source["encoder_to_decoder.weight"],
        "decoder.mask_token": source["mask_token"][0, 0],
        "decoder.layers.0.self_attn.k_proj.weight": fused[DECODER_WIDTH : 2 * DECODER_WIDTH],
        "decoder.layers.0.mlp.fc1.bias": source["decoder.blocks.0.mlp.fc1.bias"],
        "decoder.layernorm.bias": source["decoder.norm.bias"],
        "decoder.head.weight": source["decoder.head.weight"],
    }
    for name, tensor in expected.items():
        assert torch.equal(ours[name], tensor), name
    assert sum(tensor.numel() for tensor in ours.values()) == sum(tensor.numel() for tensor in source.values())


@torch.no_grad()
def test_auto_classes_load_the_folder_of_a_classifier(convert, tmp_path):
    report = convert(classifier())
    model, info = AutoModelForVideoClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert type(model) is InternVideoMAEForVideoClassification and not any(info.values())
    assert (report.num_tensors, report.num_parameters) == (len(model.state_dict()), model.num_parameters())
    assert model(video()).logits.shape == (2, 11)
    assert not report.left_out
    processor = AutoVideoProcessor.from_pretrained(tmp_path / "out")
    assert (processor.num_frames, processor.sampler, processor.sampler_kwargs) == (
        4,
        "videomae_dense",
        {"sampling_rate": 4},
    )
    frames = torch.zeros(30, 3, 20, 40, dtype=torch.uint8)
    batch = processor(frames, return_tensors="pt")
    assert batch["pixel_values_videos"].shape == (1, 4, 3, 16, 16)


@torch.no_grad()
def test_auto_classes_load_the_folder_of_pretraining(convert, tmp_path):
    convert(pretraining())
    model, info = AutoModelForPreTraining.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert type(model) is InternVideoMAEForPreTraining and not any(info.values())
    assert model(video(), mask()).logits.shape == (2, 24, 3 * 2 * PATCH * PATCH)
    assert ModelCard.load(tmp_path / "out/README.md").data.pipeline_tag is None


def test_classifier_of_the_first_token_is_recognised_by_its_norm(convert, tmp_path):
    convert(classifier(mean_pooling=False))
    assert config_of(tmp_path)["use_mean_pooling"] is False
    assert "internvideo_mae.layernorm.weight" in converted(tmp_path)


def test_learned_positions_tell_the_size_of_the_clip(convert, tmp_path):
    source = classifier() | {"pos_embed": torch.randn(1, 2 * 5 * 5, WIDTH)}
    convert(source, config_overrides={"num_attention_heads": 2, "num_frames": 4})
    assert torch.equal(converted(tmp_path)["internvideo_mae.positions.table"], source["pos_embed"][0])
    config = config_of(tmp_path)
    assert config["position_embedding_type"] == "learned"
    assert (config["image_size"], config["position_image_size"], config["position_num_frames"]) == (20, 20, 4)


def test_layer_scale_and_missing_biases_are_recognised(convert, tmp_path):
    source = {name: tensor for name, tensor in classifier().items() if not name.endswith(("q_bias", "v_bias"))}
    source |= {f"blocks.{layer}.gamma_{branch}": torch.randn(WIDTH) for layer in range(2) for branch in (1, 2)}
    convert(source)
    assert torch.equal(converted(tmp_path)["internvideo_mae.layers.1.layer_scale2.factor"], source["blocks.1.gamma_2"])
    assert config_of(tmp_path)["qkv_bias"] is False


# Layouts


def backbone(source: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    outside = ("head", "fc_norm", "decoder", "encoder_to_decoder", "mask_token")
    return {
        name if name.startswith(outside) else f"backbone.{name.removeprefix('encoder.')}": tensor
        for name, tensor in source.items()
    }


LAYOUTS = {
    "bare": lambda source: source,
    "model": lambda source: {"model": source, "epoch": 3, "optimizer": {"state": {}}},
    "DeepSpeed": lambda source: {"module": source, "global_steps": 7, "dp_world_size": 8, "lr_scheduler": None},
    "module.": lambda source: {"model": {f"module.{name}": tensor for name, tensor in source.items()}},
    "backbone.": lambda source: {"state_dict": backbone(source)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("make", [classifier, pretraining])
def test_every_layout_gives_the_same_model(make, layout, convert, tmp_path):
    source = make()
    table = family.CONVERTER.table_for(source)
    expected, _ = convert_state_dict(source, table)
    report = convert(LAYOUTS[layout](source))
    found = converted(tmp_path)
    assert report.family == "internvideo_mae" and not report.left_out
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_safetensors_file_gives_the_same_model(convert, tmp_path):
    convert(classifier(), "mine.safetensors")
    assert torch.equal(converted(tmp_path)["classifier.weight"], classifier()["head.weight"])


def test_half_precision_of_deepspeed_becomes_float32(convert, tmp_path):
    source = {name: tensor.half() for name, tensor in classifier().items()}
    convert({"module": source, "optimizer_state_dict": None})
    found = converted(tmp_path)
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert torch.equal(found["classifier.weight"], source["head.weight"].float())
    assert config_of(tmp_path)["dtype"] == "float32"
    convert({"module": source}, dtype="float16", overwrite=True)
    assert torch.equal(converted(tmp_path)["classifier.weight"], source["head.weight"])


def test_file_with_the_scripts_arguments_is_refused_with_the_way_on(convert, tmp_path):
    content = {"model": classifier(), "epoch": 99, "scaler": {}, "args": Namespace(lr=1e-3, data_set="SSV2")}
    with pytest.raises(CheckpointError, match=r"was refused.*argparse\.Namespace.*--trust-pickle"):
        convert(content)
    assert not (tmp_path / "out").exists()
    assert convert(content, trust_pickle=True).family == "internvideo_mae"


# The head


@pytest.mark.parametrize("head", ["k400", "k600", "k700"])
def test_kinetics_710_head_gives_the_smaller_kinetics_sets(head, convert, tmp_path):
    source = classifier(710)
    report = convert(source, head=head)
    rows, labels, config = rows_in_k710(head), load_labels(head), config_of(tmp_path)
    assert report.head == head and len(rows) == len(labels)
    assert torch.equal(converted(tmp_path)["classifier.weight"], source["head.weight"][rows])
    assert torch.equal(converted(tmp_path)["classifier.bias"], source["head.bias"][rows])
    assert config["id2label"] == {str(index): label for index, label in enumerate(labels)}
    assert config["label2id"] == {label: index for index, label in enumerate(labels)}
    # The class that a row of the big head stands for, spelt alike in most cases.
    k710 = load_labels("k710")
    assert sum(k710[row] == label for row, label in zip(rows, labels, strict=True)) > 0.95 * len(labels)


@pytest.mark.parametrize(
    ("classes", "head", "message"),
    [
        (710, "ssv2", "head has 710 classes and ssv2 has 174"),
        (400, "k600", "head has 400 classes and k600 has 600"),
        (600, "k400", "head has 600 classes and k400 has 400"),
        (11, "k710", "head has 11 classes and k710 has 710"),
    ],
)
def test_head_of_other_classes_is_refused(classes, head, message, convert, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        convert(classifier(classes), head=head)
    assert not (tmp_path / "out").exists()


def test_unknown_set_and_a_model_without_head_are_refused(convert, tmp_path):
    with pytest.raises(ValueError, match="got 'kinetics', expected one of k400, k600"):
        convert(classifier(400), head="kinetics")
    with pytest.raises(CheckpointError, match="no classification head; leave out --head"):
        convert(pretraining(), head="k400")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("classes", "name", "head"),
    [
        (400, "mine.pth", "k400"),
        (600, "mine.pth", "k600"),
        (700, "mine.pth", "k700"),
        (710, "mine.pth", "k710"),
        (51, "mine.pth", "hmdb51"),
        (51, "ViT-H.pth", "hmdb51"),
        (174, "ViT-H.pth", "ssv1"),
        (174, "vit_b_hybrid_pt_800e_ssv2_ft.pth", "ssv2"),
        (174, "vit_l_hybrid_pt_800e_ssv2_ft.pth", "ssv2"),
        (710, "vit_b_hybrid_pt_800e_k710_ft.pth", "k710"),
        # A name that promises other classes than are there is not believed.
        (400, "vit_b_hybrid_pt_800e_ssv2_ft.pth", "k400"),
        (11, "vit_b_hybrid_pt_800e_k400_ft.pth", None),
        (174, "mine.pth", None),
        (11, "mine.pth", None),
    ],
)
def test_classes_are_known_by_their_number_or_the_name_of_the_file(classes, name, head, convert, tmp_path):
    report = convert(classifier(classes), name)
    labels = config_of(tmp_path)["id2label"]
    assert report.head == head
    expected = load_labels(head) if head else [f"LABEL_{index}" for index in range(classes)]
    assert list(labels.values()) == expected
    model = AutoModelForVideoClassification.from_pretrained(tmp_path / "out")
    assert model.config.num_labels == classes
    card = (tmp_path / "out/README.md").read_text()
    assert f"- Classes: {head or 'numbered; neither'}" in card


@pytest.mark.parametrize("head", ["ssv1", "ssv2"])
def test_ambiguous_head_is_told_by_the_option(head, convert, tmp_path):
    assert convert(classifier(174), head=head).head == head
    assert list(config_of(tmp_path)["id2label"].values()) == load_labels(head)


# Settings and the model card


def test_settings_of_a_uniquely_named_file_are_its_own(convert, tmp_path):
    heads = {"num_attention_heads": 2}
    convert(classifier(400), "ViT-H_f32_res384_89.54.pth", config_overrides=heads)
    config = config_of(tmp_path)
    assert (config["image_size"], config["num_frames"]) == (384, 32)
    assert (config["position_image_size"], config["position_num_frames"]) == (224, 16)
    processor = AutoVideoProcessor.from_pretrained(tmp_path / "out")
    assert (processor.num_frames, processor.size["shortest_edge"], processor.crop_size["height"]) == (32, 384, 384)
    convert(classifier(400), "ViT-H_f32_res384_89.54.pth", config_overrides=heads | {"num_frames": 16}, overwrite=True)
    assert config_of(tmp_path)["num_frames"] == 16 and config_of(tmp_path)["image_size"] == 384


def test_a_classifier_of_another_clip_size_resamples_the_table_of_the_released_one(convert, tmp_path):
    heads = {"num_attention_heads": 2}
    convert(classifier(400), "renamed.pth", config_overrides=heads | {"image_size": 384, "num_frames": 32})
    config = config_of(tmp_path)
    assert (config["position_image_size"], config["position_num_frames"]) == (224, 16)
    own = heads | {"num_frames": 32, "position_num_frames": 32}
    convert(classifier(400), "renamed.pth", config_overrides=own, overwrite=True)
    assert config_of(tmp_path)["position_num_frames"] == 32


def test_encoder_before_the_names_of_a_classifier_is_taken_off(convert, tmp_path):
    source = classifier(51)
    convert(source)
    expected = load_file(tmp_path / "out/model.safetensors")
    named = {name if name.startswith("head.") else f"encoder.{name}": tensor for name, tensor in source.items()}
    convert(named, overwrite=True)
    found = load_file(tmp_path / "out/model.safetensors")
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_card_names_the_files_that_the_classes_leave_possible(convert, tmp_path):
    convert(classifier(51), "ViT-H.pth")
    text = (tmp_path / "out/README.md").read_text()
    assert all(f"HMDB51/VideoMAE/split{split}" in text for split in (1, 2, 3)) and "SSV1" not in text
    convert(classifier(174), "ViT-H.pth", overwrite=True)
    card = ModelCard.load(tmp_path / "out/README.md")
    assert "# VideoMAE-H SSv1\n" in card.content and "HMDB51" not in card.content
    assert card.data.pipeline_tag == "video-classification" and "internvideo_mae" in card.data.tags
    convert(pretraining(), "pytorch_model.bin", overwrite=True)
    text = (tmp_path / "out/README.md").read_text()
    assert all(f"InternVideoMAE_models/resolve/main/mae-{size}/" in text for size in "blh") and "Classes" not in text


def test_card_of_a_file_without_an_address_says_so(convert, tmp_path):
    convert(classifier(600), "vit_h_k600_ft.pth")
    assert "VideoMAE-H K600: no address is known" in (tmp_path / "out/README.md").read_text()


def test_heads_that_no_shape_tells_are_asked_for(convert, tmp_path):
    with pytest.raises(CheckpointError, match=r"width of 12 is neither .*64.*Give num_attention_heads"):
        convert(classifier(), config_overrides=None)
    with pytest.raises(CheckpointError, match=r"width of 8 is neither .*64.*Give decoder_num_attention_heads"):
        convert(pretraining(), config_overrides={"num_attention_heads": 2})


# Files that do not fit


@pytest.mark.parametrize(
    ("make", "name"), [(make, name) for make in (classifier, pretraining) for name in make() if ".1." not in name]
)
def test_missing_tensor_is_named_and_nothing_is_written(make, name, convert, tmp_path):
    source = make()
    del source[name]
    with pytest.raises(CheckpointError) as caught:
        convert(source)
    assert name in str(caught.value)
    assert not (tmp_path / "out").exists()


# One more of these is another model of the same family.
SIZES_OF_THEIR_OWN = {("patch_embed.proj.weight", axis) for axis in (1, 2)}
# These tell a size themselves, so that the tensors which disagree with them are the ones that are named.
TELL_SIZES = (
    "patch_embed.proj.weight",
    "blocks.0.mlp.fc1.weight",
    "encoder_to_decoder.weight",
    "head.weight",
)


@pytest.mark.parametrize(
    ("make", "name"), [(make, name) for make in (classifier, pretraining) for name in make() if ".1." not in name]
)
def test_misshapen_tensor_is_named_and_nothing_is_written(make, name, convert, tmp_path):
    source = make()
    whole = source[name]
    for axis in range(whole.ndim):
        if (name, axis) in SIZES_OF_THEIR_OWN or (name == "mask_token" and axis < 2):
            continue
        with pytest.raises(ValueError) as caught:  # noqa: PT011 (the name is looked for below)
            convert(source | {name: torch.cat([whole, whole.narrow(axis, 0, 1)], dim=axis)})
        assert name in str(caught.value) or name.removeprefix("encoder.").removeprefix("decoder.") in TELL_SIZES
    others = [whole.flatten()[0], whole[..., None, None]]
    for other in others[:1] if name == "mask_token" else others:  # which is flattened, whatever its axes of length 1
        with pytest.raises(CheckpointError) as caught:
            convert(source | {name: other})
        assert name in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    ["blocks.0.norm3.weight", "blocks.0.attn.k_bias", "cls_token", "head.weightX", "decoder_head.weight", "fc_norm.x"],
)
def test_unknown_tensor_is_an_error(name, convert, tmp_path):
    with pytest.raises(CheckpointError, match=rf"unknown in this model: {name}\."):
        convert(classifier() | {name: torch.ones(WIDTH)})
    assert not (tmp_path / "out").exists()


def test_absurd_layer_number_is_refused_before_a_model_of_that_size_is_built(convert):
    with pytest.raises(CheckpointError, match=r"blocks\.999999999\.norm1\.weight implies more layers"):
        convert(classifier() | {"blocks.999999999.norm1.weight": torch.ones(WIDTH)})
    with pytest.raises(CheckpointError, match=r"missing: blocks\.2\."):
        convert(classifier() | {"blocks.2.norm1.weight": torch.ones(WIDTH)})


@pytest.mark.parametrize("damage", ["missing bias", "short bias", "scalar"])
def test_damaged_kinetics_710_head_is_no_crash(damage, convert):
    source = classifier(710)
    if damage == "missing bias":
        del source["head.bias"]
    elif damage == "short bias":
        source["head.bias"] = source["head.bias"][:10]
    else:
        source["head.weight"] = torch.tensor(1.0)
    with pytest.raises(CheckpointError, match="head"):
        convert(source, head="k600")


def test_image_model_of_the_same_names_is_refused(convert):
    source = classifier() | {"patch_embed.proj.weight": torch.ones(WIDTH, 3, PATCH, PATCH)}
    with pytest.raises(CheckpointError, match=r"patch_embed\.proj\.weight has the shape .* expected 5 axes"):
        convert(source)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 5}, "num_attention_heads=5 must divide hidden_size=12"),
        ({"image_size": 18}, "patch_size=4 must divide image_size=18"),
        ({"num_atention_heads": 2}, r"Did you mean num_attention_heads\?"),
        ({"tubelet_size": 0}, "Invalid model configuration"),
    ],
)
def test_setting_that_makes_no_sense_is_a_plain_value_error(changes, message, convert):
    with pytest.raises(ValueError, match=message) as caught:
        convert(classifier(), config_overrides=SETTINGS | changes)
    assert "StrictDataclass" not in str(caught.value)


# Size, data set, and whether it is the pretrained model -> epochs of the released ones.
ORIGINAL = [
    (f"{size} {data_set} {kind}", *epochs)
    for size, data_set, *epochs in (
        *(("S", "K400", 1600), ("B", "K400", 800, 1600), ("L", "K400", 1600), ("H", "K400", 1600)),
        *(("S", "SSv2", 2400), ("B", "SSv2", 800, 2400), ("B", "UCF101", 3200)),
    )
    for kind in ("", "pretrained ")
]


def test_every_row_of_the_family_is_there():
    kinetics = [f"VideoMAE-H {name}" for name in ("K600", "K700", "K710", "K400 384")]
    assert {row["name"] for row in ROWS} == {
        *(f"VideoMAE-{size}" for size in "BLH"),
        *(f"VideoMAE-B {name}" for name in ("K400", "K710", "SSv2")),
        *(f"VideoMAE-L {name}" for name in ("K400", "K700", "SSv2")),
        *kinetics,
        "VideoMAE-H SSv1",
        *(f"VideoMAE-H HMDB51 split {split}" for split in (1, 2, 3)),
        "VideoMAE-B 800e",
        "VideoMAE-H AVA-Kinetics",
        *(f"VideoMAE-L Ego4D {kind}" for kind in ("verbs", "nouns")),
        *(f"VideoMAE V2-{size} K710 distilled" for size in "SB"),
        *(f"VideoMAE V2-g{name}" for name in ("", " K710", " K400", " K400 from K710", " K600 from K710")),
        *(f"VideoMAE V2-g {name}" for name in ("SSv2", "UCF101", "HMDB51")),
        *(f"VideoMAE v1-{name}{epochs}e" for name, *numbers in ORIGINAL for epochs in numbers),
    }
    assert {row["manifest"].removesuffix(".json") for row in ROWS} == {*NAMES, "stal_ava_huge_linear"}


DETECTORS = [
    ("stal_ava_base_linear", 768, 12),
    ("stal_ava_large_linear", 1024, 16),
    ("stal_ava_huge_linear", 1280, 16),
]


def detector(classes: int = 80) -> dict[str, torch.Tensor]:
    return classifier(classes, mean_pooling=False)


def acar_head(classes: int) -> dict[str, torch.Tensor]:
    """Return ACAR's head as the released code names it."""
    shapes = {"conv1": (WIDTH, 2 * WIDTH, 1, 1), "conv2": (WIDTH, WIDTH, 3, 3), "fc1": (WIDTH, WIDTH)}
    shapes |= {"fc2": (classes, 2 * WIDTH)}
    parts = ("conv_q", "conv_k", "conv_v", "conv")
    shapes |= {f"hr2o.{number}.{part}": (WIDTH, WIDTH, 3, 3) for number in range(2) for part in parts}
    norms = [f"hr2o.{number}.norm.{kind}" for number in range(2) for kind in ("weight", "bias")]
    tensors = {f"{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    return {
        f"head.{name}": tensor for name, tensor in (tensors | {name: torch.randn(WIDTH) for name in norms}).items()
    }


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit_h_hybrid_pt_k710_ft_ak_ft.sh", "renamed.pth"])
def test_the_action_detector_keeps_its_head_and_its_settings(name, convert, tmp_path):
    source = detector()
    report = convert({"module": source}, name)
    assert (report.left_out, report.num_labels, report.head) == ({}, 80, "ava")
    model, info = InternVideoMAEForVideoActionDetection.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    assert torch.equal(model.internvideo_mae.layernorm.weight, source["norm.weight"])
    assert torch.equal(model.classifier.weight, source["head.weight"])
    config = model.config
    assert (config.roi_scale, config.roi_size, config.roi_sampling_ratio, config.roi_aligned) == (1 / 16, 7, 0, False)
    assert (config.attend_to_padding, config.problem_type) == (True, "multi_label_classification")
    # Column k is action k + 1 of AVA.
    assert [config.id2label[number] for number in (0, 11, 79)] == [
        "bend/bow (at the waist)",
        "stand",
        "watch (a person)",
    ]
    boxes = torch.tensor([[[0.0, 0, 10, 12]], [[3, 4, 9, 9]]])
    assert model(video(), boxes).logits.shape == (2, 1, 80)
    # The whole frame, its shorter side at 256; 122.7717, 115.9465, 102.9801 and 57.375 gray levels of 255.
    processor = AutoVideoProcessor.from_pretrained(tmp_path / "out")
    assert (processor.size.shortest_edge, processor.do_center_crop, processor.sampler_kwargs) == (
        256,
        False,
        {"sampling_rate": 4},
    )
    assert [255 * value for value in processor.image_mean] == pytest.approx([122.7717, 115.9465, 102.9801], abs=1e-4)
    assert [255 * value for value in processor.image_std] == pytest.approx([57.375] * 3)


def test_the_card_of_the_action_detector_says_what_is_known(convert, tmp_path):
    convert({"module": detector()}, "vit_h_hybrid_pt_k710_ft_ak_ft.sh")
    card = ModelCard.load(tmp_path / "out/README.md")
    assert "# VideoMAE-H AVA-Kinetics\n" in card.content and card.data.pipeline_tag is None
    assert "Published test: frame mAP 41.01 on AVA-Kinetics, 16 frames at 256 pixels" in card.text
    assert "- Classes: ava" in card.text and 'pipeline("video-action-detection"' in card.text
    with pytest.raises(CheckpointError, match="head has 80 classes and k400 has 400"):
        convert(detector(), head="k400", overwrite=True)


@torch.no_grad()
def test_a_detector_of_other_classes_is_told_from_a_classifier_by_its_task(convert, tmp_path):
    source = detector(9)
    convert(source)
    assert type(AutoModelForVideoClassification.from_pretrained(tmp_path / "out")).__name__.endswith("Classification")
    report = convert(source, task="action_detection", overwrite=True)
    assert (report.num_labels, report.head) == (9, None)
    model = InternVideoMAEForVideoActionDetection.from_pretrained(tmp_path / "out")
    assert torch.equal(model.classifier.bias, source["head.bias"]) and model.config.attend_to_padding
    # A classifier of as many classes as AVA has actions stays one.
    report = convert(classifier(80), overwrite=True)
    assert (report.num_labels, report.head) == (80, None)
    assert AutoVideoProcessor.from_pretrained(tmp_path / "out").do_center_crop


@torch.no_grad()
def test_acars_head_says_itself_what_it_is(convert, tmp_path):
    source = {name: tensor for name, tensor in detector(9).items() if not name.startswith("head.")} | acar_head(9)
    report = convert(source)
    assert (report.num_labels, report.left_out) == (9, {})
    model, info = InternVideoMAEForVideoActionDetection.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values()) and model.config.detection_head == "acar"
    features, feature_map = torch.randn(1, WIDTH), torch.randn(WIDTH, 2, 3)
    both = torch.cat([feature_map, features[0][:, None, None].expand_as(feature_map)])
    expected = nn.functional.conv2d(both[None], source["head.conv1.weight"])
    head = model.classifier
    found = head.map_projection(feature_map[None]) + head.box_projection(features)[:, :, None, None]
    torch.testing.assert_close(found, expected)
    del source["head.hr2o.1.conv_k.weight"]
    with pytest.raises(CheckpointError, match=r"missing: detector\.head\.hr2o\.1\.conv_k\.weight"):
        convert(source, overwrite=True)


@pytest.mark.parametrize(
    ("tensors", "task", "words"),
    [
        (classifier(9), "action_detection", "no action detector"),  # its norm is a classifier's
        (pretraining(), "action_detection", "no action detector"),
        (detector(9), "action_detecton", "action_detection"),
    ],
)
def test_what_is_no_detector_is_not_read_as_one(tensors, task, words, convert):
    with pytest.raises((CheckpointError, ValueError), match=words):
        convert(tensors, task=task)


@pytest.mark.parametrize(("name", "width", "heads"), DETECTORS)
def test_a_detector_has_the_tensors_of_its_manifest(name, width, heads):
    tensors = family.CONVERTER.normalize(meta_state_dict(name))
    assert family.is_detector(tensors)
    ours, left_out = convert_state_dict(tensors, family.CONVERTER.table_for(tensors))
    config = family.config_from(tensors, {})
    assert (config.hidden_size, config.num_attention_heads, config.use_mean_pooling) == (width, heads, False)
    assert not left_out and config.num_labels == 80
    with torch.device("meta"):
        model = InternVideoMAEForVideoActionDetection(config)
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
    assert {key: tensor.shape for key, tensor in ours.items()} == shapes
    assert model.num_parameters() == read(name)["total_parameters"]


def anticipation(verbs: int = 7) -> dict[str, torch.Tensor]:
    """Return a file of short-term anticipation, which has a verb more than there are."""
    tensors = {name: tensor for name, tensor in classifier(mean_pooling=False).items() if not name.startswith("head.")}
    sizes = {"verb_projection": verbs + 1, "ttc_projection": 1}
    heads = {f"ROIHEAD.{name}.weight": (size, WIDTH) for name, size in sizes.items()}
    return tensors | tensors_of(heads | {f"ROIHEAD.{name}.bias": (size,) for name, size in sizes.items()})


@torch.no_grad()
@pytest.mark.parametrize("verbs", [7, 79, 100, 399])  # 80, 101 and 400 rows are no set of classes of videos
def test_a_model_of_short_term_anticipation_says_itself_what_it_is(verbs, convert, tmp_path):
    source = anticipation(verbs)
    report = convert({"module": source})
    assert (report.left_out, report.head) == ({}, None)
    model, info = InternVideoMAEForShortTermAnticipation.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values()) and model.config.num_labels == verbs + 1
    assert torch.equal(model.classifier.weight, source["ROIHEAD.verb_projection.weight"])
    assert torch.equal(model.regressor.bias, source["ROIHEAD.ttc_projection.bias"])
    assert torch.equal(model.internvideo_mae.layernorm.weight, source["norm.weight"])
    config = model.config
    assert (config.roi_size, config.roi_sampling_ratio, config.roi_aligned) == (7, 0, True)
    assert (config.verb_loss_weight, config.time_loss_weight) == (1, 15)
    boxes = torch.tensor([[[0.0, 0, 10, 12]], [[3, 4, 9, 9]]])
    assert model(video(), boxes).logits.shape == (2, 1, verbs + 1)
    processor = AutoVideoProcessor.from_pretrained(tmp_path / "out")
    assert (processor.size.shortest_edge, processor.do_center_crop) == (256, False)
    assert processor.sampler_kwargs == {"sampling_rate": 2}
    assert (list(processor.image_mean), list(processor.image_std)) == ([0.45] * 3, [0.225] * 3)
    assert "as in the released test on Ego4D" in ModelCard.load(tmp_path / "out/README.md").text


def test_a_model_of_short_term_anticipation_is_whole_or_refused(convert):
    source = anticipation()
    with pytest.raises(CheckpointError, match="no classification head"):
        convert(source, head="k400")
    with pytest.raises(CheckpointError, match=r"ROIHEAD\.box2ttc\.weight"):
        convert(source | {"ROIHEAD.box2ttc.weight": torch.zeros(1, WIDTH)})
    del source["ROIHEAD.ttc_projection.weight"]
    with pytest.raises(CheckpointError, match=r"missing: ROIHEAD\.ttc_projection\.weight"):
        convert(source)


def test_the_start_of_short_term_anticipation_gives_its_encoder(convert, tmp_path):
    convert(classifier(118), "ego4d_verb_pretrain_vitl_k700.pt")
    assert "top-1 52.51 and top-5 86.05 on Ego4D verbs" in ModelCard.load(tmp_path / "out/README.md").text
    model = InternVideoMAEForShortTermAnticipation.from_pretrained(
        tmp_path / "out", num_labels=75, use_mean_pooling=False, ignore_mismatched_sizes=True
    )
    assert model.classifier.weight.shape == (75, WIDTH)


@pytest.mark.parametrize("head", ["ssv1", "ssv2"])
def test_something_something_is_sampled_over_the_video_whatever_the_name(head, convert, tmp_path):
    convert(classifier(174), head=head)
    processor = AutoVideoProcessor.from_pretrained(tmp_path / "out")
    assert (processor.sampler, processor.sampler_kwargs) == ("videomae_sparse", {})
    # The released test: frame i of clip c of C is int(tick * i + c * tick / C) with tick = length / frames.
    made = processor(
        torch.zeros(30, 3, 20, 40, dtype=torch.uint8), num_clips=2, return_tensors="pt", return_metadata=True
    )
    indices = made["video_metadata"][0].frames_indices.reshape(2, 4).tolist()
    assert indices == [[0, 7, 15, 22], [3, 11, 18, 26]]


def test_views_of_the_released_test_are_saved_and_used(convert, tmp_path):
    convert(classifier(174), "vit_b_hybrid_pt_800e_ssv2_ft.pth")
    processor = AutoVideoProcessor.from_pretrained(tmp_path / "out")
    assert processor.released_views == [2, 3] and processor.views == (2, 3)
    assert (processor.num_clips, processor.num_crops) == (1, 1)  # transformers' own pipeline sees one view
    card = (tmp_path / "out/README.md").read_text()
    assert "- Processor: 4 frames by videomae_sparse, 2 x 3 views, as in the released test on SSv2" in card
    frames = torch.zeros(30, 3, 20, 40, dtype=torch.uint8)
    classify = pipeline("multi-view-video-classification", model=str(tmp_path / "out"), device="cpu")
    answer = classify(frames, top_k=1)
    np.testing.assert_allclose(
        answer[0]["score"], classify(frames, top_k=1, num_clips=2, num_crops=3)[0]["score"], rtol=1e-6
    )
    assert len(classify.preprocess(frames)["pixel_values_videos"]) == 6
    assert len(classify.preprocess(frames, num_clips=1, num_crops=1)["pixel_values_videos"]) == 1


def test_hmdb51_says_that_its_test_is_unknown(convert, tmp_path):
    convert(classifier(51), "ViT-H.pth")
    card = (tmp_path / "out/README.md").read_text()
    assert "videomae_dense" in card and "does not state how it tested on HMDB51" in card
    assert AutoVideoProcessor.from_pretrained(tmp_path / "out").released_views is None


def test_a_name_that_any_run_gives_is_no_proof(convert, tmp_path):
    convert(classifier(400), "checkpoint.pth")
    card = (tmp_path / "out/README.md").read_text()
    assert "# checkpoint.pth\n" in card and "or your own" in card and "Published test" not in card
