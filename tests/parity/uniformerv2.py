"""Adapters of the UniFormerV2 kinds: classification, initialization from CLIP, and selection of head classes."""

import json
import re
from pathlib import Path

import torch
from einops import rearrange
from torch import nn

from internvideo_hf.checkpoints import convert_checkpoint
from internvideo_hf.checkpoints.clip import STARTS, initialize_from_clip
from internvideo_hf.checkpoints.families.uniformerv2 import HEAD, TABLE
from internvideo_hf.checkpoints.heads import select_classes, select_rows
from internvideo_hf.checkpoints.released_file import load_state_dict
from internvideo_hf.checkpoints.table import released_name
from internvideo_hf.models.uniformerv2.modeling_uniformerv2 import UniFormerV2ForVideoClassification
from internvideo_hf.recipes.labels import ROWS_IN_K710, load_labels
from parity.compare import Comparison, checkpoint_of, load_config, load_tensors


def overrides(config: dict) -> dict:
    """Return our configuration overrides that no tensor shape gives, from the original constructor's arguments."""
    return {
        "num_attention_heads": config["heads"],
        "num_global_attention_heads": config["n_head"],
        "global_layers": config["return_list"],
        "num_frames": config["num_frames"],
    }


def keep_stages(model: UniFormerV2ForVideoClassification, video: torch.Tensor) -> dict[str, torch.Tensor]:
    """Fill a dict with the outputs of the stages, in the original's layouts, whenever the model runs."""
    stages: dict[str, torch.Tensor] = {}
    tower = model.vision_model
    batch, rows = len(video), video.shape[-2] // tower.config.patch_size

    def keep(name, module, layout):
        module.register_forward_hook(lambda module, args, output: stages.__setitem__(name, layout(output).detach()))

    def token_first(tokens):
        return rearrange(tokens, "nt l c -> l nt c")

    def volume(patches):
        return rearrange(patches, "(n t) (h w) c -> n c t h w", n=batch, h=rows)

    keep("conv1", tower.embeddings.patch_embedding, lambda patches: patches)
    keep("ln_pre", tower.pre_layernorm, lambda tokens: tokens)
    for index, layer in enumerate(tower.layers):
        keep(f"resblock.{index}", layer, token_first)
        for number, block in enumerate((layer.local_block1, layer.local_block2), start=1):
            if block is not None:
                keep(f"resblock.{index}.lmhra{number}", block, volume)
    for index, block in enumerate(tower.global_blocks):
        keep(f"dec.{index}", block, lambda token: rearrange(token, "n one c -> one n c"))
        keep(f"dpe.{index}", block.position_conv, lambda patches: patches)
    keep("proj.0", model.layernorm, lambda pooled: pooled)
    return stages


def uniformerv2_classification(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    convert_checkpoint(checkpoint_of(folder), tmp_path / "model", config_overrides=overrides(config))
    # The stored training values are without dropout and drop path.
    model = UniFormerV2ForVideoClassification.from_pretrained(
        tmp_path / "model", global_dropout=0.0, classifier_dropout=0.0
    )
    compare = Comparison(stored, inputs=("video", "labels"))
    video = rearrange(stored["video"], "n c t h w -> n t c h w")
    stages = keep_stages(model, video)
    with torch.no_grad():
        logits = model.eval()(video).logits
    compare.close("logits", logits)
    compare.close("softmax", logits.softmax(dim=-1))
    for name in [name for name in stored if name in stages]:
        compare.close(name, stages[name])

    if "labels" not in stored:
        compare.finish()
        return
    outputs = model.train()(video, labels=stored["labels"].long())
    compare.close("train.logits", outputs.logits)
    compare.close("train.loss", outputs.loss)
    outputs.loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    state_dict = model.state_dict()
    for name in [name for name in stored if name.startswith(("grad.", "train.after."))]:
        released = name.removeprefix("grad.").removeprefix("train.after.")
        ours = ours_of(released)
        values = [gradients[key] if name.startswith("grad.") else state_dict[key] for key in ours]
        value = torch.cat(values) if len(values) > 1 else values[0]
        compare.close(name, value.reshape(stored[name].shape))
    compare.finish()


def ours_of(released: str) -> list[str]:
    """Our names of a released tensor."""
    line = next(line for line in TABLE if re.fullmatch(re.escape(line).replace(r"\{\}", r"\d+"), released))
    numbers = re.fullmatch(re.escape(line).replace(r"\{\}", r"(\d+)"), released).groups()
    return [name.format(*numbers) for name in TABLE[line].names]


@torch.no_grad()
def uniformerv2_clip_init(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    settings = overrides(config) | {"num_labels": config["num_classes"]}
    settings |= {"temporal_downsampling": config["temporal_downsample"], "use_fusion_gate": not config.get("frozen")}
    settings["image_size"] = config["image_size"]
    if not config["no_lmhra"]:
        settings["num_local_blocks"] = 2 if config["double_lmhra"] else 1
        settings["local_intermediate_size"] = int(config["width"] / config["dw_reduction"])
    model = initialize_from_clip(checkpoint_of(folder), "uniformerv2", **settings)
    compare = Comparison(stored, inputs=("video", "proj.2.weight", "proj.2.bias"))

    parameters = model.state_dict()
    added = [name for name in parameters if re.match(STARTS["uniformerv2"].new_parts, name)]
    new = {released_name(name, TABLE) for name in added}
    assert new == set(config.get("not_in_clip", new))
    for name, tensor in parameters.items():
        if released_name(name, TABLE) in config.get("zero_after_init", ()):
            assert not tensor.any(), f"{name} should start at zero"

    for kind, parameter in model.classifier.named_parameters():
        parameter.copy_(stored[f"proj.2.{kind}"])
    video = rearrange(stored["video"], "n c t h w -> n t c h w")
    stages = keep_stages(model, video)
    compare.close("logits", model(video).logits)
    compare.close("conv1_weight_3d", model.vision_model.embeddings.patch_embedding.weight)
    local = [stage.abs().max() for name, stage in stages.items() if ".lmhra1" in name]  # silent, or not there at all
    compare.close("lmhra1.out_absmax", max(local, default=torch.tensor(0.0)))
    for name in [name for name in stored if name in stages]:
        compare.close(name, stages[name])
    compare.finish()


SETS = {len(load_labels(name)): name for name in ROWS_IN_K710}


@torch.no_grad()
def uniformerv2_head_map(folder: Path, tmp_path: Path) -> None:
    """Return a K710 head for other numbers of classes: rows of the smaller set, or a fresh head (stored as zeros)."""
    stored, released = load_tensors(folder), load_state_dict(checkpoint_of(folder))
    compare = Comparison(stored)
    for case in sorted({name.rpartition(".")[0] for name in stored}):
        classes, delete = map(int, re.fullmatch(r"n(\d+)_delete(\d)", case).groups())
        rows = folder / f"data_list/k710/label_mixto{classes}.json"
        fresh = nn.Linear(released[f"{HEAD}.weight"].shape[1], classes)
        nn.init.zeros_(fresh.weight), nn.init.zeros_(fresh.bias)
        head = {f"{HEAD}.{kind}": tensor for kind, tensor in fresh.state_dict().items()}
        if classes == len(released[f"{HEAD}.weight"]):
            head = released
        elif delete:
            pass  # what `from_pretrained(..., num_labels=..., ignore_mismatched_sizes=True)` does
        elif rows.is_file():
            head = select_rows(released, HEAD, json.loads(rows.read_text()))
        elif classes in SETS and len(released[f"{HEAD}.weight"]) == 710:
            head = select_classes(released, HEAD, SETS[classes])[0]
        else:
            head = select_rows(released, HEAD, range(classes))
        for kind in ("weight", "bias"):
            compare.close(f"{case}.{kind}", head[f"{HEAD}.{kind}"], atol=0, rtol=0)
    compare.finish()
