"""Adapter of the UniFormer kind: Ego4D's future hand prediction."""

from pathlib import Path

import torch

from internvideo_hf.auto import auto_class
from internvideo_hf.checkpoints import convert_checkpoint
from internvideo_hf.checkpoints.families.uniformer import table_of
from internvideo_hf.checkpoints.table import Table, convert_state_dict
from internvideo_hf.models.uniformer.modeling_uniformer import UniFormerForHandPrediction
from parity.compare import Comparison, checkpoint_of, load_config, load_tensors

GRADIENT = "eval_mode.grad."


def overrides(config: dict) -> dict:
    """Return our configuration overrides that no tensor shape gives."""
    return {"head_dim": config["head_dim"], "num_frames": config["frames"], "image_size": config["input"]}


def ego4d_fhp(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    convert_checkpoint(checkpoint_of(folder), tmp_path / "model", config_overrides=overrides(config))
    model = auto_class("AutoModelForHandPrediction").from_pretrained(tmp_path / "model")
    assert type(model) is UniFormerForHandPrediction and not model.training
    assert list(model.config.depths) == config["depth"] and list(model.config.hidden_sizes) == config["embed_dim"]
    compare = Comparison(stored, ("video_BCTHW", "target", "mask"))
    clips, targets, mask = stored["video_BCTHW"].transpose(1, 2), stored.get("target"), stored.get("mask")

    if "features" in stored:
        tokens = model.uniformer(clips).last_hidden_state
        compare.close("features", tokens.transpose(1, 2).reshape(stored["features"].shape))
    outputs = model(clips, targets, mask)
    compare.close("outputs", outputs.logits)
    if targets is not None:
        _compare_losses(compare, model, (clips, targets, mask), table_of(config["depth"]))
    compare.finish()


def _compare_losses(compare: Comparison, model: torch.nn.Module, inputs: tuple, table: Table) -> None:
    outputs, mask = model(*inputs), inputs[2]
    compare.close("eval_mode.loss", outputs.loss)
    outputs.loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name in [name for name in compare.stored if name.startswith(GRADIENT)]:
        ours, _ = convert_state_dict({name.removeprefix(GRADIENT): compare.stored[name]}, table)
        compare.close(name, torch.cat([gradients[part] for part in ours]))
    outputs = model.train()(*inputs)  # batch norms normalize by the batch
    compare.close("train_mode.loss", outputs.loss)
    compare.close("train_mode.outputs_masked", outputs.logits if mask is None else outputs.logits * mask)
