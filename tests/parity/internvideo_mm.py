"""Adapters of the InternVideo-MM kinds: forward pass, initialization from CLIP, text, pixels, zero-shot scores."""

import hashlib
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from torch.nn.functional import cross_entropy, normalize

from internvideo_hf.checkpoints import convert_checkpoint
from internvideo_hf.checkpoints.clip import STARTS, initialize_from_clip
from internvideo_hf.checkpoints.families.internvideo_mm import PREFIX, TABLE
from internvideo_hf.checkpoints.table import released_name
from internvideo_hf.models.internvideo_mm.modeling_internvideo_mm import InternVideoMMModel
from internvideo_hf.processing.post_process import zero_shot_scores
from internvideo_hf.processing.processing import InternVideoProcessor, clean_text
from internvideo_hf.processing.tokenizer import build_clip_tokenizer
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.video import VideoReader
from parity.compare import Comparison, checkpoint_of, load_config, load_tensors


def overrides(config: dict) -> dict:
    """Return our configuration overrides that no tensor shape gives, from the original constructor's arguments."""
    ours = {
        "vision_config": {
            "num_attention_heads": config["vision_heads"],
            "num_global_attention_heads": config["n_head"],
            "global_layers": config["return_list"],
            "num_frames": config["num_frames"],
        },
        "text_config": {"num_attention_heads": config["text_heads"]},
    }
    if "decoder_heads" in config:
        ours["decoder_config"] = {"num_attention_heads": config["decoder_heads"]}
    return ours


def converted_model(folder: Path, tmp_path: Path) -> InternVideoMMModel:
    """Return the towers of the case's checkpoint, through the public converter and back from the folder it wrote."""
    told = overrides(load_config(folder))
    convert_checkpoint(checkpoint_of(folder), tmp_path / "model", config_overrides=told, part="towers")
    return InternVideoMMModel.from_pretrained(tmp_path / "model").eval()


@torch.no_grad()
def mm_forward(folder: Path, tmp_path: Path) -> None:
    model = converted_model(folder, tmp_path)
    stored = load_tensors(folder)
    compare = Comparison(stored, inputs=("video", "image", "text_ids", "text_masked_indices", "special_tokens_mask"))
    tower = model.vision_model
    stages = {}

    def keep(name):
        return lambda module, args, output: stages.__setitem__(name, output)

    tower.pre_layernorm.register_forward_hook(keep("visual.ln_pre"))
    for index, block in enumerate(tower.global_blocks):
        block.register_forward_hook(keep(f"visual.dec.{index}"))
        block.position_conv.register_forward_hook(keep(f"visual.dpe.{index}"))
        block.layer_norm_context.register_forward_pre_hook(
            lambda module, args, name=f"visual.dec_in.{index}": stages.__setitem__(name, args[0])
        )
    tower.register_forward_hook(lambda module, args, output: stages.__setitem__("visual.pooled", output.pooler_output))

    video, ids = rearrange(stored["video"], "n c t h w -> n t c h w"), stored["text_ids"].long()
    outputs = model(video, ids, output_hidden_states=True)
    frames = video.shape[1]
    compare.close("visual.ln_pre", stages["visual.ln_pre"])
    for index, state in enumerate(outputs.video_model_output.hidden_states[1:]):
        compare.close(f"visual.resblock.{index}", rearrange(state, "nt l c -> l nt c"))
    layouts = {
        "visual.dec": lambda token: rearrange(token, "n one c -> one n c"),
        "visual.dpe": lambda volume: volume,
        "visual.dec_in": lambda context: rearrange(_by_frame(context, frames), "n t l c -> (t l) n c"),
    }
    for name in stored:
        if (stage := name.rpartition(".")[0]) in layouts:
            compare.close(name, layouts[stage](stages[name]))
    compare.close("visual.pooled", stages["visual.pooled"])
    compare.close("video_feats", outputs.video_model_output.pooler_output)
    tokens = outputs.video_model_output.last_hidden_state
    compare.close("video_all_feats", rearrange(tokens, "n (t l) c -> l n t c", t=frames))
    compare.close("similarity", outputs.logits_per_video)
    compare.close("probs", outputs.logits_per_video.softmax(dim=-1))

    for index, state in enumerate(outputs.text_model_output.hidden_states[1:]):
        compare.close(f"text.resblock.{index}", rearrange(state, "n l c -> l n c"))
    compare.close("text_feats", outputs.text_model_output.pooler_output)
    compare.close("text_all_feats", outputs.text_model_output.last_hidden_state)
    if "text_masked_indices" in stored:
        masked = model.get_text_features(ids, bool_masked_pos=stored["text_masked_indices"])
        compare.close("text_feats_masked", masked.pooler_output)
    if "image" in stored:
        image = model.get_video_features(stored["image"][:, :, 0])
        compare.close("image_feats", image.pooler_output)
        compare.close("image_all_feats", rearrange(image.last_hidden_state, "n l c -> l n 1 c"))
    compare.finish()


def _by_frame(context: torch.Tensor, frames: int) -> torch.Tensor:
    """All class tokens, then all patches, as `(clip, frame, class token and patches, channel)`."""
    class_tokens, patches = context[:, :frames], context[:, frames:]
    return torch.cat([class_tokens[:, :, None], rearrange(patches, "n (t l) c -> n t l c", t=frames)], dim=2)


@torch.no_grad()
def mm_clip_init(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    sizes = overrides(config)
    sizes["vision_config"]["image_size"] = config["image_size"]
    model = initialize_from_clip(checkpoint_of(folder), **sizes)
    compare = Comparison(stored, inputs=("video", "image", "text_ids"))

    ids = stored["text_ids"].long()
    compare.close("text_feats", model.get_text_features(ids).pooler_output)
    if "image" in stored:
        compare.close("image_feats", model.get_video_features(stored["image"][:, :, 0]).pooler_output)
    video = rearrange(stored["video"], "n c t h w -> n t c h w")
    outputs = model.get_video_features(video)
    compare.close("video_feats", outputs.pooler_output)

    # The two readings of "identical to CLIP": the model is the second, up to the epsilon of the layer norm, which
    # stands under a variance that the gate has halved twice (the stored pair differs by the same amount).
    class_tokens = rearrange(outputs.last_hidden_state, "n (t l) c -> n t l c", t=video.shape[1])[:, :, 0]

    def project(tokens):
        return model.visual_projection(model.post_layernorm(tokens))

    compare.close("clip_frame_features_mean_after_proj", project(class_tokens).mean(dim=1))
    compare.close("clip_mean_of_frame_cls_then_ln_proj", project(class_tokens.mean(dim=1)))
    compare.finish()

    parameters = model.state_dict()
    added = [name for name in parameters if re.match(STARTS["internvideo_mm"].new_parts, name)]
    new = {released_name(name, TABLE).removeprefix(PREFIX) for name in added}
    assert new == set(config.get("not_in_clip", new))
    for name, tensor in parameters.items():
        # Query, key and value stand in one released tensor; their biases are zero at the start as well.
        if released_name(name, TABLE).removeprefix(PREFIX) in config.get("zero_after_init", ()):
            assert not tensor.any(), f"{name} should start at zero"


def mm_tokenizer(folder: Path, tmp_path: Path) -> None:
    stored = json.loads((folder / "tokens.json").read_text())
    limit = stored["context_length"]

    tokenizers = cache(build_clip_tokenizer)

    def tokenize(text: str, limit: int, **options) -> dict:
        assert len(tokenizers(limit)) == stored["vocab_size"]
        return InternVideoProcessor(InternVideoVideoProcessor(), tokenizers(limit))(text=text, **options)

    for row in stored.get("rows", ()):
        name = repr(row["text"][:60])
        if row["raises_without_truncate"]:
            with pytest.raises(ValueError, match="at most"):
                tokenize(row["text"], limit)
        tokens = tokenize(row["text"], limit, truncation=True)
        assert tokens["input_ids"] == row["ids"], name
        assert len(tokens["input_ids"]) == row["n_tokens"], name
        padded = tokenize(row["text"], limit, truncation=True, padding="max_length")
        padding = limit - row["n_tokens"]
        assert padded["input_ids"] == row["ids"] + [stored["pad"]] * padding, name
        # The original's "special tokens" are the padding alone.
        assert [not kept for kept in padded["attention_mask"]] == [False] * row["n_tokens"] + [True] * padding, name

        words = tokenizers(limit)(clean_text(row["text"]))["input_ids"][1:-1]
        assert len(words) == row["raw_bpe_len"], name
        assert (len(words) + 2 > limit) == row["truncated"], name
        if not row["truncated"]:
            # Ours drops the space that the original leaves behind the last word.
            assert (
                tokenizers(limit).decode(words, clean_up_tokenization_spaces=False).strip() == row["decoded"].strip()
            ), name
        assert (tokens["input_ids"][0], tokens["input_ids"][-1]) == (stored["sot"], stored["eot"]), name
    for row in [
        row for key, rows in stored.items() if key.startswith("context") and isinstance(rows, list) for row in rows
    ]:
        tokens = tokenize(row["text"], row["context_length"], truncation=True, padding="max_length")
        assert tokens["input_ids"] == row["ids"], row["text"]


def mm_load_video(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    frames, clip = np.load(folder / "frames.npz"), next(folder.glob("clip.*"))
    channels, num_frames, height, width = config["shape"]
    processor = InternVideoVideoProcessor(
        num_frames=num_frames,
        size={"shortest_edge": min(height, width) * 256 // 224},
        crop_size={"height": height, "width": width},
    )
    options = {"return_tensors": "pt", "return_metadata": True}
    plain = processor(clip, do_rescale=False, do_normalize=False, **options)
    cropped = rearrange(plain["pixel_values_videos"], "1 t c h w -> c t h w").numpy()
    assert plain["video_metadata"][0].frames_indices.tolist() == stored["frame_indices"].tolist()
    with VideoReader(clip) as reader:
        assert reader.num_frames == config.get("frames", reader.num_frames)
        np.testing.assert_array_equal(reader.read(stored["frame_indices"]), frames["decoded"])
    assert cropped.shape == (channels, num_frames, height, width)
    np.testing.assert_array_equal(cropped, frames["cropped_u8_cthw"])
    if "sha256_of_cropped_u8" in config:
        pixels = np.ascontiguousarray(cropped.astype(np.uint8))
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == config["sha256_of_cropped_u8"]

    tensor = rearrange(processor(clip, **options)["pixel_values_videos"], "1 t c h w -> c t h w")
    mean, std = (torch.tensor(processor.to_dict()[key])[:, None, None, None] for key in ("image_mean", "image_std"))
    exact = (torch.from_numpy(frames["cropped_u8_cthw"]) / 255 - mean) / std
    torch.testing.assert_close(tensor, exact, atol=1e-6, rtol=0)
    compare = Comparison(stored, inputs=("frame_indices",))
    if "tensor_corner" in stored:
        rows, columns = stored["tensor_corner"].shape[-2:]
        compare.close("tensor_corner", tensor[..., :rows, :columns], atol=1e-6, rtol=0)
    for name in stored:
        if match := re.fullmatch(r"tensor_sub(\d+)", name):
            compare.close(name, tensor[..., :: int(match[1]), :: int(match[1])], atol=1e-6, rtol=0)
    compare.close("tensor_mean_per_ct", tensor.mean(dim=(2, 3)))
    compare.finish()


@torch.no_grad()
def mm_zero_shot(folder: Path, tmp_path: Path) -> None:
    model = converted_model(folder, tmp_path)
    config, stored = load_config(folder), load_tensors(folder)
    compare = Comparison(stored, inputs=("frames", "option_ids", "answers", "zs.text_feats_prompt_major"))
    scale = model.logit_scale.exp()
    video_embeds = normalize(model.get_video_features(stored["frames"]).pooler_output, dim=-1)

    if "zs.text_feats_prompt_major" in stored:
        text_embeds = normalize(stored["zs.text_feats_prompt_major"], dim=-1)
        text_embeds = rearrange(text_embeds, "(p l) d -> p l d", p=config["num_prompts"])
        compare.close("zs.similarity", zero_shot_scores(video_embeds, text_embeds, scale)[0])
    if "option_ids" in stored:
        _multiple_choice(model, video_embeds, stored, compare)
    compare.finish()


def _multiple_choice(model: InternVideoMMModel, video_embeds: torch.Tensor, stored: dict, compare: Comparison) -> None:
    options = stored["option_ids"].long()
    option_embeds = normalize(model.get_text_features(options.flatten(0, 1)).pooler_output, dim=-1)
    option_embeds = rearrange(option_embeds, "(b o) d -> b o d", b=len(options))
    scores = model.logit_scale.exp() * torch.einsum("bd,bod->bo", video_embeds, option_embeds)
    compare.close("mc_score", scores)
    if "answers" in stored:
        compare.close("mc_loss", cross_entropy(scores, stored["answers"].long()))
