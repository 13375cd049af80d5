"""Weight averaging: selected tensors, their weights, and refusals."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from models.model_checks import move_from_start
from safetensors.torch import load_file, save_file

from internvideo_hf import CheckpointError, InternVideoMMConfig, InternVideoMMModel, ViCLIPConfig, ViCLIPModel
from internvideo_hf.checkpoints import merge_checkpoints
from internvideo_hf.checkpoints.merging import is_averaged

SIZES = {"hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2}
TEXT = {**SIZES, "num_hidden_layers": 2, "vocab_size": 20, "max_position_embeddings": 6}


def viclip(**vision) -> ViCLIPModel:
    vision = {**SIZES, "num_hidden_layers": 2, "image_size": 16, "patch_size": 8, "num_frames": 2, **vision}
    return ViCLIPModel(ViCLIPConfig(vision_config=vision, text_config=TEXT, projection_dim=6))


def mm() -> InternVideoMMModel:
    vision = {**SIZES, "num_hidden_layers": 14, "image_size": 16, "patch_size": 8, "num_global_attention_heads": 2}
    vision |= {"global_layers": [12, 13]}
    return InternVideoMMModel(InternVideoMMConfig(vision_config=vision, text_config=TEXT, projection_dim=6))


@pytest.fixture
def save(tmp_path: Path):
    """Write a model with weights of a seed, and return its folder."""

    def save(name: str, model, seed: int = 0) -> Path:
        move_from_start(model, seed).save_pretrained(tmp_path / name)
        return tmp_path / name

    return save


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_all_of_viclip_is_averaged_but_the_table_of_times(save, tmp_path):
    base, trained = save("base", viclip(), 1), save("trained", viclip(), 2)
    (trained / "tokenizer.json").write_text("{}")
    start, end = weights(base), weights(trained)
    assert merge_checkpoints(base, trained, tmp_path / "out", weight=0.25) == len(start) - 1
    merged = weights(tmp_path / "out")
    assert set(merged) == set(start)
    for name, tensor in merged.items():
        share = 0.0 if name == "vision_model.embeddings.temporal_embedding" else 0.25
        torch.testing.assert_close(tensor, share * start[name] + (1 - share) * end[name])
    assert (tmp_path / "out/tokenizer.json").is_file()
    assert "0.25 `base`" in (tmp_path / "out/README.md").read_text()
    _, info = ViCLIPModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())


def test_the_list_of_internvideo_mm_ends_with_the_twelfth_layer_and_that_of_retrieval_does_not():
    names = list(mm().state_dict())
    kept = {
        variant: {name for name in names if not is_averaged(name, variant)}
        for variant in ("internvideo_mm", "retrieval")
    }
    assert "vision_model.layers.11.mlp.fc1.weight" not in kept["internvideo_mm"]
    assert {"vision_model.layers.12.mlp.fc1.weight", "logit_scale"} <= kept["internvideo_mm"]
    assert "vision_model.layers.12.mlp.fc1.weight" not in kept["retrieval"] and "logit_scale" not in kept["retrieval"]
    assert {"visual_projection.weight", "post_layernorm.weight"} <= kept["retrieval"] - kept["internvideo_mm"]
    for variant in kept:
        new = ("vision_model.global_blocks.0.mlp.fc1.weight", "vision_model.fusion_gate")
        assert {*new, "vision_model.video_embedding", "text_model.embeddings.mask_embedding"} <= kept[variant]
        assert not any(name.startswith("text_model.encoder") for name in kept[variant])


def test_the_variant_can_be_named(save, tmp_path):
    base, trained = save("base", mm(), 1), save("trained", mm(), 2)
    merge_checkpoints(base, trained, tmp_path / "out", variant="retrieval")
    merged, start, end = (weights(folder) for folder in (tmp_path / "out", base, trained))
    torch.testing.assert_close(merged["logit_scale"], (start["logit_scale"] + end["logit_scale"]) / 2)
    assert torch.equal(merged["visual_projection.weight"], end["visual_projection.weight"])


def test_of_several_trained_models_the_mean_is_taken_first(save, tmp_path):
    base, *trained = (save(f"model{seed}", viclip(), seed) for seed in range(3))
    merge_checkpoints(base, trained, tmp_path / "out", weight=0.0)
    first, second, merged = (weights(folder) for folder in (*trained, tmp_path / "out"))
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2)


def test_weights_in_several_files_are_read(save, tmp_path):
    base, trained = save("base", viclip(), 1), save("trained", viclip(), 2)
    merge_checkpoints(base, trained, tmp_path / "expected")
    tensors = weights(base)
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, base / file)
    (base / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    merge_checkpoints(base, trained, tmp_path / "out")
    for name, tensor in weights(tmp_path / "expected").items():
        assert torch.equal(weights(tmp_path / "out")[name], tensor)


def test_what_is_no_pair_of_models_is_refused_and_nothing_written(save, tmp_path):
    base, other, bigger = save("base", viclip()), save("mm", mm()), save("bigger", viclip(num_frames=4))
    deeper = save("deeper", viclip(num_hidden_layers=3))
    (tmp_path / "empty").mkdir()
    broken, gone = tmp_path / "broken", tmp_path / "gone"
    for folder in (broken, gone):
        shutil.copytree(base, folder)
    (broken / "model.safetensors").write_bytes(b"no tensors")
    (gone / "model.safetensors").unlink()
    refusals = [
        (other, "family internvideo_mm"),
        (bigger, r"temporal_embedding has the shape \(2, 8\) in .* and \(4, 8\)"),
        (deeper, "differ in which tensors"),
        (tmp_path / "empty", "holds no config.json"),
        (tmp_path / "none", "holds no config.json"),
        (broken, "is damaged"),
        (gone, "lacks model.safetensors"),
    ]
    for trained, message in refusals:
        with pytest.raises(CheckpointError, match=message):
            merge_checkpoints(base, trained, tmp_path / "out")
    for options, message in [
        ({"weight": 1.5}, "expected a number from 0 to 1"),
        ({"variant": "soup"}, "'soup', expected one of"),
    ]:
        with pytest.raises(ValueError, match=message):
            merge_checkpoints(base, base, tmp_path / "out", **options)
    with pytest.raises(ValueError, match="got no folder, expected one or more"):
        merge_checkpoints(base, [], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_training_left_beside_the_model_is_not_copied(save, tmp_path):
    base, trained = save("base", viclip(), 1), save("trained", viclip(), 2)
    left = ("optimizer.pt", "pytorch_model.bin", "trainer_state.json", "training_args.bin")
    for name in left:
        (trained / name).write_text("{}")
    (trained / "preprocessor_config.json").write_text("{}")
    merge_checkpoints(base, trained, tmp_path / "out")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert not written & set(left) and {"config.json", "preprocessor_config.json", "model.safetensors"} <= written
    (tmp_path / "file.pth").touch()
    with pytest.raises(CheckpointError, match="file.pth holds no config.json"):
        merge_checkpoints(tmp_path / "file.pth", trained, tmp_path / "none")


def test_a_folder_in_the_way_stays_unless_it_may_be_replaced(save, tmp_path):
    base, trained = save("base", viclip(), 1), save("trained", viclip(), 2)
    before = weights(trained)
    with pytest.raises(FileExistsError, match="an input of the average"):
        merge_checkpoints(base, trained, trained, overwrite=True)
    inside = shutil.copytree(trained, trained / "checkpoint-500")
    with pytest.raises(FileExistsError, match="is or holds .*checkpoint-500"):
        merge_checkpoints(base, inside, trained, overwrite=True)
    shutil.rmtree(inside)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(trained).items())
    there = save("there", viclip(), 3)
    with pytest.raises(FileExistsError, match="--overwrite"):
        merge_checkpoints(base, trained, there)
    merge_checkpoints(base, trained, there, overwrite=True)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/file").touch()
    with pytest.raises(FileExistsError, match="not a model's folder"):
        merge_checkpoints(base, trained, tmp_path / "notes", overwrite=True)
