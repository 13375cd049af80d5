"""`convert_checkpoint`: a complete folder equal to the released file tensor by tensor, or an error and no folder."""

import copy
import json
import os
import re
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoProcessor
from transformers.processing_utils import ProcessorMixin

from internvideo_hf.checkpoints import CheckpointError, convert_checkpoint
from internvideo_hf.checkpoints import convert as conversion
from internvideo_hf.data.records import ManifestError
from internvideo_hf.models.internvideo_mm.modeling_internvideo_mm import InternVideoMMModel

TINY = torch.load(Path(__file__).parents[1] / "golden/mm_tiny_b/checkpoint.ckpt", weights_only=True)["state_dict"]
TOWERS = [name for name in TINY if name.startswith("clip.")]


def converted_tensors(tmp_path: Path) -> dict[str, torch.Tensor]:
    return load_file(tmp_path / "out/model.safetensors")


def assert_nothing_written(tmp_path: Path) -> None:
    """No folder, and no half of one under another name, hidden or not."""
    assert {path.name for path in tmp_path.iterdir()} <= {"source.ckpt"}


def grown(tensor: torch.Tensor, axis: int) -> torch.Tensor:
    return torch.cat([tensor, tensor.narrow(axis, 0, 1)], dim=axis)


# What comes out


def test_tensors_equal_the_released_ones_bit_by_bit(released, convert, tmp_path):
    convert(released)
    ours = converted_tensors(tmp_path)
    trunk, block = "clip.visual.transformer.resblocks.2.", "clip.visual.transformer.dec.1."
    text = "clip.transformer.resblocks.1."
    width, text_width = 20, 24
    fused = released[trunk + "attn.in_proj_weight"]
    cross = released[block + "attn.in_proj_bias"]
    text_fused = released[text + "attn.in_proj_weight"]
    expected = {
        "vision_model.embeddings.patch_embedding.weight": released["clip.visual.conv1.weight"],
        "vision_model.embeddings.class_embedding": released["clip.visual.class_embedding"],
        "vision_model.embeddings.position_embedding": released["clip.visual.positional_embedding"],
        "vision_model.video_embedding": released["clip.visual.transformer.temporal_cls_token"][0, 0],
        "vision_model.fusion_gate": released["clip.visual.transformer.balance"],
        "vision_model.layers.2.self_attn.q_proj.weight": fused[:width],
        "vision_model.layers.2.self_attn.k_proj.weight": fused[width : 2 * width],
        "vision_model.layers.2.self_attn.v_proj.weight": fused[2 * width :],
        "vision_model.layers.2.self_attn.out_proj.weight": released[trunk + "attn.out_proj.weight"],
        "vision_model.layers.2.layer_norm2.bias": released[trunk + "ln_2.bias"],
        "vision_model.layers.2.mlp.fc1.weight": released[trunk + "mlp.c_fc.weight"],
        "vision_model.global_blocks.1.cross_attn.q_proj.bias": cross[:width],
        "vision_model.global_blocks.1.cross_attn.k_proj.bias": cross[width : 2 * width],
        "vision_model.global_blocks.1.cross_attn.v_proj.bias": cross[2 * width :],
        "vision_model.global_blocks.1.layer_norm_query.weight": released[block + "ln_1.weight"],
        "vision_model.global_blocks.1.layer_norm_mlp.weight": released[block + "ln_2.weight"],
        "vision_model.global_blocks.1.layer_norm_context.weight": released[block + "ln_3.weight"],
        "vision_model.global_blocks.1.position_conv.weight": released["clip.visual.transformer.dpe.1.weight"],
        "text_model.encoder.layers.1.self_attn.k_proj.weight": text_fused[text_width : 2 * text_width],
        "text_model.encoder.layers.1.mlp.fc2.bias": released[text + "mlp.c_proj.bias"],
        "text_model.embeddings.token_embedding.weight": released["clip.token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": released["clip.positional_embedding"],
        "text_model.embeddings.mask_embedding": released["clip.text_mask_embedding"][0, 0],
        "text_model.final_layer_norm.weight": released["clip.ln_final.weight"],
        "post_layernorm.bias": released["clip.visual_ln_post.bias"],
        "visual_projection.weight": released["clip.visual_proj"].T,
        "text_projection.weight": released["clip.text_projection"].T,
        "logit_scale": released["clip.logit_scale"],
    }
    for name, tensor in expected.items():
        assert torch.equal(ours[name], tensor), name
    numbers = sum(tensor.numel() for name, tensor in released.items() if name.startswith("clip."))
    assert sum(tensor.numel() for tensor in ours.values()) == numbers


def test_the_folder_loads_with_nothing_missing_and_nothing_left(released, convert, tmp_path):
    report = convert(released)
    model, info = InternVideoMMModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values()), info
    assert (report.num_tensors, report.num_parameters) == (len(model.state_dict()), model.num_parameters())
    stored = converted_tensors(tmp_path)
    assert set(stored) == set(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, stored[name]), name


def test_loading_and_saving_again_changes_no_tensor_and_no_setting(released, convert, tmp_path):
    convert(released)
    AutoModel.from_pretrained(tmp_path / "out").save_pretrained(tmp_path / "again")
    before, after = converted_tensors(tmp_path), load_file(tmp_path / "again/model.safetensors")
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    first, second = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("out", "again"))
    assert first == second


def test_the_auto_classes_know_the_folder(released, convert, tmp_path):
    convert(released)
    assert type(AutoModel.from_pretrained(tmp_path / "out")) is InternVideoMMModel
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert config.architectures == ["InternVideoMMModel"]
    assert config.dtype == torch.float32
    assert config.vision_config.num_frames == 4
    assert list(config.vision_config.global_layers) == [1, 2]
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert processor.tokenizer.model_max_length == 14
    assert processor.video_processor.num_frames == 4
    assert dict(processor.video_processor.crop_size) == {"height": 24, "width": 24}
    batch = processor(text="a dog runs", videos=torch.zeros(6, 3, 40, 50, dtype=torch.uint8), return_tensors="pt")
    assert batch["pixel_values_videos"].shape == (1, 4, 3, 24, 24)


def test_the_number_type_is_the_one_asked_for(released, convert, tmp_path):
    exact = {name: tensor.double() for name, tensor in released.items()}
    for dtype in ("float32", "float16", "bfloat16"):
        convert(exact, dtype=dtype, overwrite=True)
        wanted = getattr(torch, dtype)
        stored = converted_tensors(tmp_path)
        assert {tensor.dtype for tensor in stored.values()} == {wanted}
        bias = released["clip.visual.ln_pre.bias"].to(wanted)
        assert torch.equal(stored["vision_model.pre_layernorm.bias"], bias)
        assert torch.equal(stored["visual_projection.weight"], released["clip.visual_proj"].to(wanted).T)
        assert AutoModel.from_pretrained(tmp_path / "out").dtype == wanted


def test_a_half_precision_file_gives_float32_by_default(released, convert, tmp_path):
    convert({name: tensor.half() for name, tensor in released.items()})
    stored = converted_tensors(tmp_path)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    assert torch.equal(stored["logit_scale"], released["clip.logit_scale"].half().float())


def test_all_layouts_of_one_model_give_the_same_folder(content, released, settings, convert, tmp_path):
    convert(content)
    expected = converted_tensors(tmp_path)
    towers = {name: tensor for name, tensor in released.items() if name.startswith("clip.")}
    save_file(released, tmp_path / "source.safetensors")
    torch.save(content, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    sources = [
        tmp_path / "source.safetensors",
        tmp_path / "old.ckpt",
        released,
        towers,
        {"model": released},
        {"module": released, "optimizer": {"step": 3}},
        {"model_state": released},
        {"state_dict": {f"module.{name}": tensor for name, tensor in released.items()}},
        {name.removeprefix("clip."): tensor for name, tensor in released.items()},
        {name.removeprefix("clip."): tensor for name, tensor in towers.items()},
        released | {"ema.decay": torch.tensor(0.999), "queue": torch.ones(3, dtype=torch.long)},
    ]
    for source in sources:
        report = convert(source, overwrite=True)
        found = converted_tensors(tmp_path)
        assert all(torch.equal(found[name], expected[name]) for name in expected) and len(found) == len(expected)
        assert report.family == "internvideo_mm"


def test_everything_outside_the_towers_is_reported_by_name_with_a_reason(released, convert):
    extra = {"vqa_classifier.0.weight": torch.ones(2), "queue": torch.ones(3, dtype=torch.long)}
    report = convert(released | extra)
    assert set(report.left_out) == {name for name in released if not name.startswith("clip.")} | set(extra)
    assert "caption decoder" in report.left_out["caption_decoder.visual_queries"]
    assert "question-answering" in report.left_out["vqa_classifier.0.weight"]
    assert report.left_out["queue"] == "outside the two towers"


# Captions and answers


def test_a_file_with_a_decoder_gives_the_full_model_or_the_towers(captioner, mm_folder, tmp_path):
    file = captioner.with_name("random.ckpt")
    config = AutoConfig.from_pretrained(captioner)
    assert config.architectures == ["InternVideoMMForConditionalGeneration"]
    assert type(AutoModel.from_pretrained(captioner)).__name__ == "InternVideoMMModel"
    card = ModelCard.load(captioner / "README.md")
    assert card.data.pipeline_tag == "video-text-to-text" and 'pipeline("video-to-text", ' in card.content
    report = convert_checkpoint(file, tmp_path / "towers", part="towers")
    assert {name.split(".")[0] for name in report.left_out} == {"caption_decoder"}
    towers, alone = (load_file(folder / "model.safetensors") for folder in (tmp_path / "towers", mm_folder))
    assert towers.keys() == alone.keys() and AutoConfig.from_pretrained(tmp_path / "towers").decoder_config is None


@pytest.mark.parametrize(
    ("answers", "names"),
    [
        (None, [f"answer {number}" for number in range(5)]),
        (["sing", "talk", "run", "dog", "hat"], ["sing", "talk", "run", "dog", "hat"]),
        (["sing", "talk", "run", "dog"], ["sing", "talk", "run", "dog", "background"]),
    ],
)
def test_answers_are_named_by_their_list(answerer, tmp_path, answers, names):
    options = {}
    if answers is not None:
        options["answers"] = tmp_path / "ans2label.json"
        options["answers"].write_text(json.dumps({name: number for number, name in enumerate(answers)}))
    report = convert_checkpoint(answerer.with_name("random.ckpt"), tmp_path / "out", **options)
    assert (report.num_answers, report.num_labels, report.left_out) == (5, None, {})
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert config.id2label == dict(enumerate(names)) and config.label2id[names[-1]] == 4
    card = ModelCard.load(tmp_path / "out/README.md")
    assert card.data.pipeline_tag == "visual-question-answering"
    assert ("Answers: 5, numbered" in card.content) == (answers is None)
    assert 'pipeline("video-question-answering", ' in card.content


def test_answers_that_do_not_fit_are_refused_before_anything_is_written(answerer, captioner, mae_folder, tmp_path):
    file, answers = answerer.with_name("random.ckpt"), tmp_path / "answers.txt"
    for number in (3, 6):
        answers.write_text("".join(f"{letter}\n" for letter in "abcdef"[:number]))
        with pytest.raises(ValueError, match=f"The list has {number} answers, expected 4 or 5"):
            convert_checkpoint(file, tmp_path / "out", answers=answers)
    with pytest.raises(ManifestError, match="cannot be read"):
        convert_checkpoint("no such file", tmp_path / "out", answers=tmp_path / "none.txt")
    for other in (captioner.with_name("random.ckpt"), mae_folder.with_name("classifier.pth")):
        with pytest.raises(CheckpointError, match="no head that answers questions"):
            convert_checkpoint(other, tmp_path / "out", answers=answers)
    with pytest.raises(CheckpointError, match="no head that answers questions"):
        convert_checkpoint(file, tmp_path / "out", answers=answers, part="towers")
    with pytest.raises(CheckpointError, match=r"no parts to choose from; leave out --part \(part=\)"):
        convert_checkpoint(mae_folder.with_name("classifier.pth"), tmp_path / "out", part="towers")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.txt"]


def test_a_file_without_projections_gives_a_model_without_a_shared_space(released, settings, convert, tmp_path):
    del released["clip.visual_proj"], released["clip.text_projection"]
    convert(released)
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert model.config.projection_dim is None
    with pytest.raises(ValueError, match="no shared space"):
        model(torch.zeros(1, 4, 3, 24, 24), torch.ones(1, 14, dtype=torch.long))


def test_the_files_are_readable_by_whom_the_users_mask_says(released, convert, tmp_path):
    convert(released)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/file").touch()
    for path in (tmp_path / "out/model.safetensors", tmp_path / "out/config.json"):
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain/file").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


# The model card


def card_of(name: str, released: dict, settings: dict, tmp_path: Path) -> ModelCard:
    torch.save({"state_dict": released}, tmp_path / name)
    convert_checkpoint(tmp_path / name, tmp_path / "out", config_overrides=settings)
    return ModelCard.load(tmp_path / "out/README.md")


def test_the_card_of_a_released_file_names_source_licence_and_left_outs(released, settings, tmp_path):
    card = card_of("InternVideo-MM-L-14.ckpt", released, settings, tmp_path)
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "zero-shot-video-classification"
    assert "internvideo_mm" in card.data.tags
    assert "# InternVideo-MM-L-14\n" in card.content
    assert "https://huggingface.co/OpenGVLab/InternVideo1.0" in card.content
    assert "not stated with the weights" in card.content
    for name in ("caption_decoder.visual_queries", "caption_decoder.text_norm.weight"):
        assert f"`{name}`" in card.content
    assert f"{len(load_file(tmp_path / 'out/model.safetensors'))} tensors" in card.content


def test_the_card_of_a_name_that_several_released_files_share_lists_them(released, settings, tmp_path):
    card = card_of("pytorch_model.bin", released, settings, tmp_path)
    assert "# pytorch_model.bin\n" in card.content
    assert "one of the released files of this name" in card.content
    for data_set in ("activitynet", "didemo", "lsmdc", "msrvtt", "msvd", "vatex"):
        assert f"/retrieval/{data_set}/" in card.content
    assert card.content.count("not stated with the weights") == 1


def test_the_card_of_a_file_of_ones_own_claims_nothing(released, settings, tmp_path):
    towers = {name: tensor for name, tensor in released.items() if name.startswith("clip.")}
    card = card_of("mine.ckpt", towers, settings, tmp_path)
    assert "a file that is not in the Model Zoo" in card.content
    assert "ask whoever made the file" in card.content
    assert card.content.rstrip().endswith("Nothing.")


def test_a_retrieval_fine_tune_keeps_the_frames_and_pixels_of_its_data_set(released, settings, tmp_path):
    torch.save(released, tmp_path / "pytorch_model.bin")
    convert_checkpoint(tmp_path / "pytorch_model.bin", tmp_path / "out", config_overrides=settings, data_set="msrvtt")
    processor = AutoProcessor.from_pretrained(tmp_path / "out").video_processor
    frames = np.random.default_rng(0).integers(0, 256, (75, 60, 90, 3), dtype=np.uint8)
    inputs = processor(list(frames), video_metadata={"fps": 25}, return_tensors="pt", return_metadata=True)
    # One frame a second from the first on, then frames that are zero after normalization, up to 12.
    assert inputs["video_metadata"][0].frames_indices.tolist() == [0, 25, 50] + [-1] * 9
    pixels = inputs["pixel_values_videos"][0]
    assert pixels.shape == (12, 3, 224, 224) and not pixels[3:].any() and pixels[:3].any()
    # Pillow's bicubic filter to a short side of 224, the center, CLIP's statistics.
    image = Image.fromarray(frames[25]).resize((336, 224), Image.Resampling.BICUBIC).crop((56, 0, 280, 224))
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    expected = ((np.asarray(image) / 255 - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(pixels[1].numpy(), expected, atol=1e-6)
    card = ModelCard.load(tmp_path / "out/README.md").content
    assert "# InternVideo-MM-L-14 retrieval MSR-VTT\n" in card and "as in the released test on MSR-VTT" in card


# Files that do not fit


def marked(name: str, *values: object) -> object:
    """Return a parameter set of a tensor; slow in layers behind the first, which have the same tensors."""
    later = re.search(r"\.[1-9]\d*\.", name)
    return pytest.param(name, *values, marks=[pytest.mark.slow] if later else [])


@pytest.mark.parametrize("name", [marked(name) for name in TOWERS])
def test_a_missing_tensor_is_named_and_nothing_is_written(name, released, convert, tmp_path):
    del released[name]
    with pytest.raises(CheckpointError) as caught:
        convert(released)
    assert name in str(caught.value)
    assert_nothing_written(tmp_path)


# One more of these is another model of the same family: a larger vocabulary, longer texts, a fourth color channel.
SIZES_OF_THEIR_OWN = {
    ("clip.token_embedding.weight", 0),
    ("clip.positional_embedding", 0),
    ("clip.visual.conv1.weight", 1),
}
# These tell a size themselves, so that the tensors which disagree with them are the ones that are named.
TELL_SIZES = (
    "clip.visual.conv1.weight",
    "clip.visual.positional_embedding",
    "clip.visual.transformer.resblocks.0.mlp.c_fc.weight",
    "clip.token_embedding.weight",
    "clip.transformer.resblocks.0.mlp.c_fc.weight",
    "clip.text_projection",
)


@pytest.mark.parametrize(
    ("name", "axis"),
    [
        marked(name, axis)
        for name in TOWERS
        for axis in range(TINY[name].ndim)
        if (name, axis) not in SIZES_OF_THEIR_OWN
    ],
)
def test_a_tensor_of_another_shape_is_named_and_nothing_is_written(name, axis, released, convert, tmp_path):
    released[name] = grown(released[name], axis)
    with pytest.raises(CheckpointError) as caught:
        convert(released)
    assert name in str(caught.value) or name in TELL_SIZES
    assert "expected" in str(caught.value) or "heads" in str(caught.value)
    assert_nothing_written(tmp_path)


@pytest.mark.parametrize("name", [marked(name) for name in TOWERS])
def test_a_tensor_with_another_number_of_axes_is_named(name, released, convert, tmp_path):
    for tensor in (released[name][None, None], released[name].flatten()[0]):
        flattened = name.endswith(("temporal_cls_token", "text_mask_embedding")) and tensor.ndim
        if tensor.shape == released[name].shape or flattened:
            continue  # axes of length 1 around these two are all the same to the model
        with pytest.raises(CheckpointError) as caught:
            convert(released | {name: tensor})
        assert name in str(caught.value)
        assert_nothing_written(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "clip.visual.transformer.resblocks.0.ln_9.weight",
        "clip.visual.transformer.resblocks.0.attn.in_proj_weightX",
        "clip.visual.proj",
        "clip.prompt_learner.weight",
        "clip.visualXconv1.weight",
    ],
)
def test_an_unknown_tensor_inside_the_towers_is_an_error(name, released, convert, tmp_path):
    released[name] = torch.ones(20)
    with pytest.raises(CheckpointError, match=rf"unknown in this model: {name}\."):
        convert(released)
    assert_nothing_written(tmp_path)


def test_a_layer_too_many_is_an_error(released, convert, tmp_path):
    released["clip.visual.transformer.resblocks.3.ln_1.weight"] = torch.ones(20)
    with pytest.raises(CheckpointError, match=r"missing: clip\.visual\.transformer\.resblocks\.3\."):
        convert(released)
    released["clip.visual.transformer.resblocks.03.ln_1.weight"] = released.pop(
        "clip.visual.transformer.resblocks.3.ln_1.weight"
    )
    with pytest.raises(CheckpointError):
        convert(released)
    assert_nothing_written(tmp_path)


def test_whole_numbers_in_place_of_weights_are_an_error(released, convert, tmp_path):
    released["clip.ln_final.weight"] = torch.ones(24, dtype=torch.int8)
    with pytest.raises(CheckpointError, match=r"kind of number: clip\.ln_final\.weight holds torch\.int8"):
        convert(released)
    assert_nothing_written(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["visual.conv1.weight", "visual.proj", "text_projection"], "image CLIP model.*initialize_from_clip"),
        (
            ["layer1.0.conv1.weight", "fc.bias"],
            r"no checkpoint of the families .*internvideo_mm.* first tensors are layer1\.0\.conv1\.weight",
        ),
    ],
)
def test_a_file_of_another_family_is_told_what_it_is(names, message, convert, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        convert({"model": {name: torch.ones(2, 2) for name in names}})
    assert_nothing_written(tmp_path)


@pytest.mark.parametrize("part", [0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_leaves_nothing_behind(part, case, convert, tmp_path):
    whole = (case / "checkpoint.ckpt").read_bytes()
    (tmp_path / "source.ckpt").write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(CheckpointError, match="Download it again"):
        convert(tmp_path / "source.ckpt")
    assert_nothing_written(tmp_path)


def test_a_malicious_file_runs_nothing_and_leaves_nothing_behind(content, convert, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch '{tmp_path / 'marker'}'",)

    with pytest.raises(CheckpointError, match=rf"{os.name}\.system"):
        convert(content | {"callbacks": Evil()})
    assert_nothing_written(tmp_path)


def test_a_file_that_needs_trust_converts_with_it(content, convert, tmp_path):
    from argparse import Namespace

    content["hyper_parameters"] = Namespace(lr=8e-5)
    with pytest.raises(CheckpointError, match=r"argparse\.Namespace"):
        convert(content)
    assert_nothing_written(tmp_path)
    assert convert(content, trust_pickle=True).family == "internvideo_mm"


# Settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_cfg": {}}, r"Unknown setting vision_cfg for InternVideoMMConfig\. Did you mean vision_config\?"),
        ({"vision_config": {"num_atention_heads": 4}}, r"Did you mean vision_config\.num_attention_heads\?"),
        ({"text_config": {"heads": 3}}, r"Unknown setting text_config\.heads for CLIPTextConfig"),
        ({"xyzzy": 1}, r"Unknown setting xyzzy for InternVideoMMConfig\.$"),
        ({"vision_config": 4}, "vision_config: got 4, expected settings by name"),
        ({"text_config": None}, "text_config: got None, expected settings by name"),
        ({"dtype": "float16"}, "Unknown setting dtype"),
        ({"architectures": ["Other"]}, "Unknown setting architectures"),
        ({"vision_config": {"num_attention_heads": "4"}}, "'num_attention_heads' expected int, got str"),
        ({"vision_config": {"num_attention_heads": 4.0}}, "'num_attention_heads' expected int, got float"),
        ({"vision_config": {"num_attention_heads": None}}, "'num_attention_heads' expected int, got NoneType"),
        ({"vision_config": {"num_attention_heads": 3}}, "num_attention_heads=3 must divide hidden_size=20"),
        ({"vision_config": {"num_global_attention_heads": 7}}, "num_global_attention_heads=7 must divide"),
        ({"vision_config": {"num_attention_heads": 0}}, "is out of range, expected 1 to"),
        ({"vision_config": {"patch_size": 0}}, "Invalid model configuration"),
        ({"vision_config": {"global_layers": [1, 3]}}, r"global_layers=\[1, 3\] must rise"),
        ({"vision_config": {"global_layers": "last"}}, "'global_layers'"),
        ({"vision_config": {"hidden_act": "nonsense"}}, "Invalid model configuration: .*nonsense"),
        ({"vision_config": {"hidden_size": -20}}, "is out of range, expected 1 to"),
        ({"text_config": {"num_attention_heads": 5}}, r"not a multiple of the number of attention heads \(5\)"),
        ({"text_config": {"num_attention_heads": 0}}, "is out of range, expected 1 to"),
        ({"projection_dim": "20"}, "'projection_dim'"),
    ],
)
def test_a_setting_that_makes_no_sense_is_a_plain_value_error(change, message, released, settings, convert, tmp_path):
    overrides = copy.deepcopy(settings)
    for key, value in change.items():
        if isinstance(value, dict) and key in overrides:
            overrides[key].update(value)
        else:
            overrides[key] = value
    with pytest.raises(ValueError, match=message) as caught:
        convert(released, config_overrides=overrides)
    assert "StrictDataclass" not in str(caught.value) and "\n" not in str(caught.value)
    assert_nothing_written(tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden_size": 40}, "clip.visual.class_embedding"),
        ({"num_hidden_layers": 4}, "clip.visual.transformer.resblocks.3."),
        ({"global_layers": [2]}, "clip.visual.transformer.dpe.1.weight"),
        ({"image_size": 32}, "clip.visual.positional_embedding"),
    ],
)
def test_a_size_that_contradicts_the_shapes_is_refused(change, named, released, settings, convert, tmp_path):
    settings["vision_config"].update(change)
    with pytest.raises(CheckpointError) as caught:
        convert(released)
    assert named in str(caught.value)
    assert_nothing_written(tmp_path)


def test_heads_that_no_shape_tells_are_asked_for(released, convert, tmp_path):
    with pytest.raises(CheckpointError, match="width of 20 is neither .*64.* Give num_attention_heads"):
        convert(released, config_overrides=None)
    assert_nothing_written(tmp_path)


def test_the_callers_settings_are_left_as_they_were(released, settings, convert):
    before = copy.deepcopy(settings)
    convert(released, config_overrides=settings)
    assert settings == before


def test_an_unknown_number_type_lists_the_known(released, convert, tmp_path):
    with pytest.raises(ValueError, match="'int8', expected one of float32, float16, bfloat16"):
        convert(released, dtype="int8")
    assert_nothing_written(tmp_path)


# The folder


def test_a_folder_that_is_not_empty_is_kept_unless_told_otherwise(released, convert, tmp_path):
    convert(released)
    before = converted_tensors(tmp_path)
    released["clip.logit_scale"] += 1
    with pytest.raises(FileExistsError, match="--overwrite"):
        convert(released)
    assert torch.equal(converted_tensors(tmp_path)["logit_scale"], before["logit_scale"])
    (tmp_path / "out/stale.txt").touch()
    convert(released, overwrite=True)
    assert torch.equal(converted_tensors(tmp_path)["logit_scale"], released["clip.logit_scale"])
    assert not (tmp_path / "out/stale.txt").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"source.ckpt", "out"}


def test_an_empty_folder_and_missing_parents_are_no_obstacle(case, settings, tmp_path):
    (tmp_path / "empty").mkdir()
    for output in (tmp_path / "empty", tmp_path / "new/deep/model"):
        report = convert_checkpoint(case / "checkpoint.ckpt", output, config_overrides=settings)
        assert report.output_dir == output
        assert (output / "config.json").is_file()
        assert [path.name for path in output.parent.iterdir() if path.name.startswith(".")] == []


def test_a_file_in_the_place_of_the_folder_is_never_replaced(released, convert, tmp_path):
    (tmp_path / "out").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="is a file"):
            convert(released, overwrite=overwrite)
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_that_holds_no_model_is_never_replaced(released, convert, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/holiday.jpg").touch()
    with pytest.raises(FileExistsError, match=r"no config\.json"):
        convert(released, overwrite=True)
    assert (tmp_path / "out/holiday.jpg").exists()


def test_a_folder_that_holds_the_checkpoint_itself_is_never_replaced(case, settings, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "config.json").touch()
    (folder / "source.ckpt").write_bytes((case / "checkpoint.ckpt").read_bytes())
    with pytest.raises(FileExistsError, match=r"holds source\.ckpt itself"):
        convert_checkpoint(folder / "source.ckpt", folder, config_overrides=settings, overwrite=True)
    assert (folder / "source.ckpt").exists()


def test_a_linked_folder_is_replaced_behind_its_link(released, convert, tmp_path):
    (tmp_path / "elsewhere/model").mkdir(parents=True)
    (tmp_path / "elsewhere/model/config.json").touch()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere/model")
    convert(released, overwrite=True)
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "elsewhere/model/model.safetensors").is_file()
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize("failure", [full_disk, interrupt])
@pytest.mark.parametrize(
    ("where", "name"),
    [
        (conversion, "save_safetensors"),
        (conversion, "write_card"),
        (ProcessorMixin, "save_pretrained"),
        (torch.Tensor, "numpy"),
        (Path, "rename"),
    ],
)
def test_a_failure_while_writing_leaves_what_was_there(where, name, failure, released, convert, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(where, name, failure)
        with pytest.raises((OSError, KeyboardInterrupt)):
            convert(released)
    assert_nothing_written(tmp_path)

    convert(released)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    released["clip.logit_scale"] += 1
    with monkeypatch.context() as patch:
        patch.setattr(where, name, failure)
        with pytest.raises((OSError, KeyboardInterrupt)):
            convert(released, overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"source.ckpt", "out"}


def test_the_old_folder_comes_back_where_the_new_one_cannot_take_its_place(released, convert, tmp_path, monkeypatch):
    convert(released)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    rename = Path.rename

    def fail_for_the_new_one(self, target):
        return full_disk() if self.name == "new" else rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with pytest.raises(OSError, match="No space"):
        convert(released, overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_failed_conversion_leaves_the_old_folder(released, convert, tmp_path):
    convert(released)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    del released["clip.logit_scale"]
    with pytest.raises(CheckpointError, match=r"clip\.logit_scale"):
        convert(released, overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
