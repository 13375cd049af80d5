"""Adapters of the ViCLIP kinds: forward and loss, lengths, initialization from CLIP, two processes, text, pixels."""

import json
import math
import random
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from forks import run_ranks
from torch import distributed, nn
from torch.nn.functional import normalize

from internvideo_hf.checkpoints import convert_checkpoint, initialize_from_clip
from internvideo_hf.checkpoints.families.viclip import SPATIAL_POSITIONS, TABLE, TEMPORAL_POSITIONS, TEXT_POSITIONS
from internvideo_hf.checkpoints.released_file import load_state_dict
from internvideo_hf.inference.ranking import dual_softmax, retrieval_recalls
from internvideo_hf.models.common.losses import contrastive_loss, gathered_contrastive_loss
from internvideo_hf.models.viclip.configuration_viclip import ViCLIPConfig
from internvideo_hf.models.viclip.modeling_viclip import ViCLIPModel, draw_mask
from internvideo_hf.processing.presets.viclip import demo_pixels
from internvideo_hf.processing.processing import InternVideoProcessor, clean_text
from internvideo_hf.processing.tokenizer import build_clip_tokenizer
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.recipes import load_prompts
from internvideo_hf.recipes.captions import clean_caption
from internvideo_hf.training.schedules import warmup_cosine_floored
from internvideo_hf.video.sampling import SAMPLERS
from parity.compare import Comparison, checkpoint_of, load_config, load_tensors


def overrides(config: dict) -> dict:
    """Return our configuration overrides that no tensor shape gives, from the original constructors' arguments."""
    vision, text = config["vision"], config["text"]
    return {
        "vision_config": {
            "num_attention_heads": vision["heads"],
            "num_frames": vision["num_frames"] * vision["kernel_size"],
            "image_size": vision["input_resolution"],
        },
        "text_config": {
            "num_attention_heads": text["transformer_heads"],
            "max_position_embeddings": text["context_length"],
        },
        **({"temperature_min": config["temp_min"]} if "temp_min" in config else {}),
    }


def converted_model(folder: Path, tmp_path: Path, settings: dict) -> ViCLIPModel:
    """Return the case's released checkpoint, through the public converter and back from the folder that it wrote."""
    convert_checkpoint(checkpoint_of(folder), tmp_path / "model", config_overrides=settings, overwrite=True)
    return ViCLIPModel.from_pretrained(tmp_path / "model").eval()


def viclip_forward(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    model = converted_model(folder, tmp_path, overrides(config))
    inputs = ("video_BTCHW", "video_1frame_BTCHW", "image_BCHW", "input_ids")
    groups = tuple(name for name in stored if name.endswith(".idx"))
    compare = Comparison(stored, inputs=inputs + groups)
    with torch.no_grad():
        _features(model, stored, compare)
        _similarities(model, config, stored, compare)
    _training(model, config, stored, compare)
    compare.finish()


def _features(model: ViCLIPModel, stored: dict, compare: Comparison) -> None:
    tower, stages = model.vision_model, {}
    hooks = [
        tower.pre_layernorm.register_forward_hook(
            lambda module, args, output: stages.update(before_ln_pre=args[0], after_ln_pre=output)
        ),
        tower.post_layernorm.register_forward_hook(lambda module, args, output: stages.update(after_ln_post=output)),
    ]
    video = model.get_video_features(stored["video_BTCHW"], output_hidden_states=True)
    text = model.get_text_features(stored["input_ids"].long(), output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    stages |= {f"block{index}_out": state for index, state in enumerate(video.hidden_states[1:])}
    text_stages = {f"block{index}_out": state for index, state in enumerate(text.hidden_states[1:])}
    for name in stored:
        if match := re.fullmatch(r"(vision|text)\.(.+)_sample(\d+)_ND", name):
            kept = stages if match[1] == "vision" else text_stages
            compare.close(name, kept[match[2]][int(match[3])])
    compare.close("vision_embeds", video.pooler_output)
    compare.close("text_embeds", text.pooler_output)
    for name, pixels in (("1frame", "video_1frame_BTCHW"), ("image4d", "image_BCHW")):
        if pixels in stored and f"vision_embeds_{name}" in stored:  # patches of several frames take no image
            compare.close(f"vision_embeds_{name}", model.get_video_features(stored[pixels]).pooler_output)


def _similarities(model: ViCLIPModel, config: dict, stored: dict, compare: Comparison) -> None:
    pair = (stored["video_BTCHW"], stored["input_ids"].long())
    outputs = model(*pair, return_loss=True)
    compare.close("get_vid_features", outputs.video_embeds)
    compare.close("get_text_features", outputs.text_embeds)
    # A product of 70 by rounded cosines.
    compare.close("retrieval.sim_v2t_div_temp", outputs.logits_per_video, atol=2e-5)
    compare.close("retrieval.sim_t2v_div_temp", outputs.logits_per_text, atol=2e-5)
    compare.close("loss_only.no_idx", outputs.loss)
    if "temp_value" in config:
        torch.testing.assert_close(
            model.logit_scale.exp(), torch.tensor(1 / max(config["temp_value"], config["temp_min"]))
        )

    model.config.inference_scale = 100.0
    probabilities = model(*pair).logits_per_video.softmax(dim=-1)
    model.config.inference_scale = None
    compare.close("predict_label.all_probs", probabilities)
    for name in stored:
        if match := re.fullmatch(r"predict_label\.top(\d+)_(probs|labels)", name):
            best = probabilities.topk(int(match[1]), dim=-1)
            compare.close(name, best.values if match[2] == "probs" else best.indices)

    cosines = outputs.video_embeds @ outputs.text_embeds.T
    for name in stored:
        if match := re.fullmatch(r"actrec\.i2t_scores_(\d+)classes", name):
            scores = cosines.unflatten(1, (int(match[1]), -1)).mean(dim=-1)
            compare.close(name, scores)
            compare.close("actrec.t2i_scores", scores.T)
            compare.close("actrec.i2t_dsl", torch.from_numpy(dual_softmax(scores.numpy())))
            compare.close("actrec.t2i_dsl", torch.from_numpy(dual_softmax(scores.T.numpy())))


def _training(model: ViCLIPModel, config: dict, stored: dict, compare: Comparison) -> None:
    video, ids = stored["video_BTCHW"], stored["input_ids"].long()
    if "train.masked_bool" in stored:
        hidden = stored["train.masked_bool"].bool()
        torch.manual_seed(config["mask_seed"])
        drawn = draw_mask(*hidden.shape, config["masking_prob"])
        compare.close("train.masked_bool", drawn)
        compare.close("train.kept_token_indices", (~drawn).nonzero()[:, 1].reshape(len(drawn), -1))
        with torch.no_grad():
            compare.close("train.masked_vision_embeds", model.get_video_features(video, hidden).pooler_output)

    model.train()
    model.vision_model.config.mask_ratio = config["masking_prob"]
    if config.get("freeze_text"):
        model.text_model.requires_grad_(False)
        model.text_projection.requires_grad_(False)
    for name in [name.removesuffix(".idx") for name in stored if name.endswith(".idx")]:
        model.zero_grad()
        torch.manual_seed(config["mask_seed"])
        loss = model(video, ids, caption_ids=stored[f"{name}.idx"], return_loss=True).loss
        loss.backward()
        compare.close(f"{name}.loss_vtc", loss)
        gradients = released_gradients(model)
        for key in stored:
            if key.startswith(f"{name}.grad."):
                # Gradients reach 50, in sums of many terms.
                compare.close(key, gradients[key.removeprefix(f"{name}.grad.")], atol=1e-5, rtol=1e-4)

    if any(name.startswith("temp_clamp.") for name in stored):
        with torch.no_grad():
            model.temperature.fill_(config["temp_min"] / 10)
        torch.manual_seed(config["mask_seed"])
        compare.close("temp_clamp.loss_vtc", model(video, ids, return_loss=True).loss)
        compare.close("temp_clamp.temp_after", model.temperature)


def released_gradients(model: ViCLIPModel) -> dict[str, torch.Tensor]:
    """Return the gradients under the released names, in the released shapes."""
    grads = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    config, found = model.config, {}
    layers = max(config.vision_config.num_hidden_layers, config.text_config.num_hidden_layers)
    for released, line in TABLE.items():
        for index in range(layers if "{}" in released else 1):
            parts = [grads.get(name.format(index)) for name in line.names]
            if all(part is not None for part in parts):
                found[released.format(index)] = torch.cat(parts) if len(parts) > 1 else parts[0]
    for name in ("vision_encoder.proj", "text_encoder.text_projection"):
        if name in found:
            found[name] = found[name].T
    if (times := "vision_encoder.temporal_positional_embedding") in found:
        found[times] = found[times][None]
    return found


@torch.no_grad()
def viclip_resizing(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    model = converted_model(folder, tmp_path, overrides(config["model_config"]))
    compare = Comparison(stored, inputs=("video_BTCHW", "input_ids"))
    parameters = model.state_dict()
    compare.close("loaded.temporal_positional_embedding", parameters[TEMPORAL_POSITIONS][None])
    compare.close("loaded.text_positional_embedding", parameters[TEXT_POSITIONS])
    compare.close("vision_embeds", model.get_video_features(stored["video_BTCHW"]).pooler_output)
    if "input_ids" in stored:
        compare.close("text_embeds", model.get_text_features(stored["input_ids"].long()).pooler_output)
    compare.finish()

    # A model as released takes other numbers of frames without being converted for them; but a single frame is an
    # image to it, and lies in the middle of all times.
    if stored["video_BTCHW"].shape[1] == config["model_config"]["vision"]["kernel_size"]:
        return
    model = converted_model(folder, tmp_path, overrides(config["checkpoint_config"]))
    compare.close("vision_embeds", model.get_video_features(stored["video_BTCHW"]).pooler_output)


@torch.no_grad()
def viclip_clip_init(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    image_tower = load_state_dict(checkpoint_of(folder))
    clip = {f"visual.{name}": tensor for name, tensor in image_tower.items()} | _some_text_tower(config["output_dim"])
    model = initialize_from_clip(
        clip,
        "viclip",
        inflation="center" if config["center"] else "mean",
        vision_config={
            "num_attention_heads": config["heads"],
            "tubelet_size": config["kernel_size"],
            "num_frames": config["num_frames_param"] * config["kernel_size"],
            "image_size": config["model_resolution"],
        },
    )
    compare = Comparison(stored, inputs=("video_BCTHW",))
    parameters = model.state_dict()
    compare.close("loaded.conv1.weight", parameters["vision_model.embeddings.patch_embedding.weight"])
    compare.close("loaded.positional_embedding", parameters[SPATIAL_POSITIONS])
    assert not parameters[TEMPORAL_POSITIONS].any()
    compare.close("vision_embeds", model.get_video_features(stored["video_BCTHW"].transpose(1, 2)).pooler_output)
    compare.finish()


def _some_text_tower(output_dim: int, width: int = 64) -> dict[str, torch.Tensor]:
    """Return the smallest text tower in OpenAI's layout; the cases hold none, and look at the video alone."""
    block = "transformer.resblocks.0"
    shapes = {
        "token_embedding.weight": (10, width),
        "positional_embedding": (77, width),
        "text_projection": (width, output_dim),
        f"{block}.attn.in_proj_weight": (3 * width, width),
        f"{block}.attn.in_proj_bias": (3 * width,),
        f"{block}.attn.out_proj.weight": (width, width),
        f"{block}.mlp.c_fc.weight": (4 * width, width),
        f"{block}.mlp.c_fc.bias": (4 * width,),
        f"{block}.mlp.c_proj.weight": (width, 4 * width),
    }
    biases = [f"{block}.attn.out_proj.bias", f"{block}.mlp.c_proj.bias"]
    norms = [
        f"{name}.{kind}" for name in (f"{block}.ln_1", f"{block}.ln_2", "ln_final") for kind in ("weight", "bias")
    ]
    return {name: torch.ones(shape) for name, shape in (shapes | dict.fromkeys(biases + norms, (width,))).items()}


def viclip_two_rank_loss(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    processes = config["world_size"]
    run_ranks(_one_rank, (folder, tmp_path, processes), processes)
    compare = Comparison(stored, inputs=("vision_in", "text", "W", "temp", "idx"))
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(processes)]
    for rank, found in enumerate(ranks):
        compare.close(f"rank{rank}.loss", found["loss"])
        compare.close(f"rank{rank}.grad_temp", found["grad_temp"], atol=1e-5, rtol=1e-4)
        # The original's backward keeps what one process made of its rows; ours sums over all, which made the same.
        compare.close(f"rank{rank}.grad_W", found["grad_W"] / processes)
    averaged = torch.stack([found["grad_W"] for found in ranks]).mean(dim=0)
    compare.close("ddp_mean.grad_W", averaged / processes)
    compare.finish()

    # And what averaging over processes leaves is the gradient that one process with the whole batch has.
    weight = stored["W"].clone().requires_grad_()
    videos = normalize(stored["vision_in"] @ weight, dim=-1)
    contrastive_loss(videos @ normalize(stored["text"], dim=-1).T / stored["temp"], stored["idx"]).backward()
    torch.testing.assert_close(averaged, weight.grad, atol=1e-5, rtol=1e-5)


def _one_rank(rank: int, folder: Path, tmp_path: Path, processes: int) -> None:
    """Write the results of one process of a data-parallel training to a file."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=rank, world_size=processes)
    stored = load_tensors(folder)
    weight, temperature = nn.Parameter(stored["W"]), nn.Parameter(stored["temp"])
    vision_in, text, groups = (stored[name].tensor_split(processes)[rank] for name in ("vision_in", "text", "idx"))
    videos = normalize(vision_in @ weight, dim=-1)
    loss = gathered_contrastive_loss(videos, normalize(text, dim=-1), 1 / temperature, groups)
    loss.backward()
    found = {"loss": loss.detach(), "grad_W": weight.grad, "grad_temp": temperature.grad}
    torch.save(found, tmp_path / f"rank{rank}.pt")
    distributed.destroy_process_group()


def viclip_tokenizer(folder: Path, tmp_path: Path) -> None:
    config = load_config(folder)
    tokenizers, tables = cache(build_clip_tokenizer), {path.stem: path for path in folder.glob("*.json")}
    for row in json.loads(tables["tokens"].read_text()) if "tokens" in tables else ():
        tokenizer = tokenizers(row["context_length"])
        assert len(tokenizer) == config["vocab_size"]
        processor = InternVideoProcessor(InternVideoVideoProcessor(), tokenizer)
        tokens = processor(text=row["text"], truncation=True, padding="max_length")["input_ids"]
        assert tokens == row["ids"], row["text"]
        assert tokens[0] == config["sot"] and config["eot"] in tokens
        words = tokenizer(clean_text(row["text"]), truncation=False)["input_ids"]
        if len(words) > row["context_length"] and config.get("truncate_false_too_long"):
            with pytest.raises(ValueError, match="at most"):
                processor(text=row["text"])
    for row in json.loads(tables["bpe"].read_text()) if "bpe" in tables else ():
        tokenizer = tokenizers(77)
        words = tokenizer(clean_text(row["text"]))["input_ids"][1:-1]
        assert words == row["bpe"], row["text"]
        if not set(words) & {config["sot"], config["eot"]}:  # which the two set off by spaces in different ways
            decoded = tokenizer.decode(words, clean_up_tokenization_spaces=False)
            assert decoded.strip() == row["decoded"].strip(), row["text"]


def viclip_frames2tensor(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    width, height = config["target_size_WH"]
    size = {"height": height, "width": width}
    demo_pixels(ViCLIPConfig(vision_config={"num_frames": config["fnum"]})).save_pretrained(tmp_path)
    processor = InternVideoVideoProcessor.from_pretrained(tmp_path, size=size)
    frames = list(stored["frames_bgr"].numpy())
    assert len(frames) == config["num_input_frames"]
    found = processor(frames, return_tensors="pt", return_metadata=True)
    assert found["video_metadata"][0].frames_indices.tolist() == config["selected"]
    assert [list(processor.image_mean), list(processor.image_std)] == [config["mean"], config["std"]]
    compare = Comparison(stored, inputs=("frames_bgr",))
    compare.close("video", found["pixel_values_videos"])
    compare.finish()


def viclip_protocol(folder: Path, tmp_path: Path) -> None:
    tables = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json") if path.stem != "config"}
    checks = {
        "frame_indices": _frame_indices,
        "pre_text": _captions,
        "prompts": _prompts,
        "itm_eval": lambda table: _retrieval(table, load_tensors(folder)),
        "lr": _learning_rates,
    }
    for name, table in tables.items():
        checks[name](table)


def _frame_indices(table: dict[str, list]) -> None:
    assert set(table) <= {"middle", "fps", "rand"}
    for entry in table.get("middle", ()):
        assert SAMPLERS["viclip_middle"](entry["vlen"], entry["num_frames"])[0].tolist() == entry["middle"], entry
    for entry in table.get("fps", ()):
        rates = {"fps": entry["input_fps"], "sample_fps": float(entry["sample"].removeprefix("fps"))}
        frames = len(entry["idx"]) if entry["max_num_frames"] < 0 else entry["max_num_frames"]
        assert SAMPLERS["viclip_fps"](entry["vlen"], frames, **rates)[0].tolist() == entry["idx"], entry
    for entry in table.get("rand", ()):
        length, frames, seed = entry["vlen"], entry["num_frames"], entry["py_and_numpy_seed"]
        # The original falls back from `random` to `numpy.random` where an interval has one frame.
        generator = np.random.RandomState(seed) if length < 2 * frames else random.Random(seed)
        assert SAMPLERS["viclip_train"](length, frames, generator=generator)[0].tolist() == entry["rand"], entry


def _captions(table: list[dict]) -> None:
    for row in table:
        assert clean_caption(row["text"]) == row["out"], row
        for name in set(row) - {"text", "out"}:
            assert clean_caption(row["text"], max_words=int(name.removeprefix("out_max"))) == row[name], row


def _prompts(table: dict) -> None:
    prompts = load_prompts()["viclip"]
    assert len(prompts.templates) == table["num"] and prompts.mean_of == "cosines"
    (label,) = {text for text in table["example"] if any(other == f"the man is {text}" for other in table["example"])}
    sentences = [template.replace("{}", label) for template in prompts.templates]
    assert [clean_caption(sentence, prompts.clean) for sentence in sentences] == table["example"]


def _retrieval(table: dict[str, dict], stored: dict[str, torch.Tensor]) -> None:
    assert {f"scores_{name}" for name in table} == set(stored)
    for name, entry in table.items():
        scores, found = stored[f"scores_{name}"].double().numpy(), {}
        sides = {
            "txt": (scores, [entry["img2txt"][str(row)] for row in range(len(scores))]),
            "img": (scores.T, entry["txt2img"]),
        }
        for side, (similarity, partners) in sides.items():
            if isinstance(partners, dict):
                partners = [partners[str(row)] for row in range(len(similarity))]
            partners = [one if isinstance(one, list) else [one] for one in partners]
            recalls = retrieval_recalls(similarity, partners)
            found |= {f"{side}_r{key.removeprefix('R@').replace('mean', '_mean')}": recalls[key] for key in recalls}
        found["r_mean"] = (found["txt_r_mean"] + found["img_r_mean"]) / 2
        assert {key: round(value, 2) for key, value in found.items()} == entry["out"], name


def _learning_rates(table: dict[str, dict]) -> None:
    for name, entry in table.items():
        for step, expected in enumerate(entry["lrs"]):
            rate = warmup_cosine_floored(
                step,
                peak=entry["lr"],
                total_steps=entry["total_steps"],
                warmup_steps=entry["warmup_steps"],
                floor=entry["min_lr_multi"],
            )
            assert math.isclose(rate, expected, rel_tol=1e-9), (name, step)
