"""Adapter of the kind `tcanet`."""

import re
from pathlib import Path

import torch

from internvideo_hf.checkpoints import convert_checkpoint
from internvideo_hf.checkpoints.families.tcanet import table_for
from internvideo_hf.checkpoints.released_file import load_state_dict
from internvideo_hf.checkpoints.table import Table
from internvideo_hf.models.tcanet.modeling_tcanet import TCANetForTemporalLocalization
from parity.compare import Comparison, checkpoint_of, load_config, load_tensors

INPUTS = ("features_BCT", "gt_boxes_sec", "proposals_sec", "video_second")
SETTINGS = {
    "temporal_interval": "step_seconds",
    "window_size": "attention_window",
    "prop_boundary_ratio": "context_ratio",
    "start_sample_num": "num_start_samples",
    "end_sample_num": "num_end_samples",
    "action_sample_num": "num_action_samples",
    "temporal_scale": "max_sequence_length",
    "heads": "num_attention_heads",
}


def overrides(config: dict) -> dict:
    """Return our configuration overrides from the original's options."""
    return {ours: config[theirs] for theirs, ours in SETTINGS.items() if theirs in config}


def model_of(folder: Path, tmp_path: Path, **changes) -> TCANetForTemporalLocalization:
    """Return the case's released checkpoint, through the public converter and back from the folder that it wrote."""
    settings = overrides(load_config(folder))
    convert_checkpoint(checkpoint_of(folder), tmp_path / "model", config_overrides=settings, overwrite=True)
    return TCANetForTemporalLocalization.from_pretrained(tmp_path / "model", **changes)


def tcanet(folder: Path, tmp_path: Path) -> None:
    stored = load_tensors(folder)
    model = model_of(folder, tmp_path)
    draws = tuple(f"train.uniform_draw.{number}" for number in range(2 * len(model.stages)))
    compare = Comparison(stored, inputs=INPUTS + draws)
    of_inference(model, compare)
    if any(name.startswith("train.") for name in stored):
        model = model_of(folder, tmp_path, hidden_dropout=0.0, attention_dropout=0.0).train()
        of_training(model, table_for(load_state_dict(checkpoint_of(folder))), compare)
    compare.finish()


@torch.no_grad()
def of_inference(model: TCANetForTemporalLocalization, compare: Comparison) -> None:
    features, proposals = compare.stored["features_BCT"].mT, compare.stored["proposals_sec"][..., :2]
    real = proposals.sum(-1) > 0
    encoded = model.tcanet(features).last_hidden_state
    compare.close("lgte_out", encoded.mT)
    outputs, current = model(features, proposals), proposals
    for number, stage in enumerate(model.stages):
        samples = stage.sample(encoded, current)
        for part, sampled in zip(("start", "action", "end"), samples, strict=True):
            compare.close(f"tbr{number + 1}.{part}_feature", sampled[real.flatten()])
        current = outputs.segments[number]
        compare.close(f"eval.proposals{number + 1}", current[real])
        compare.close(f"eval.iou{number + 1}", outputs.overlaps[number][real])


def of_training(model: TCANetForTemporalLocalization, table: Table, compare: Comparison) -> None:
    stored = compare.stored
    features, proposals = stored["features_BCT"].mT, stored["proposals_sec"][..., :2]
    real = proposals.sum(-1) > 0
    # The original draws for real proposals alone, for the middle and for the low examples of each stage in turn.
    draws = torch.zeros(*real.shape, len(model.stages), 2)
    for number in range(2 * len(model.stages)):
        if (name := f"train.uniform_draw.{number}") in stored:
            draws[..., number // 2, number % 2][real] = stored[name]
    outputs = model(features, proposals, labels=stored["gt_boxes_sec"], sampling_draws=draws)
    for number, losses in enumerate(zip(outputs.boundary_losses, outputs.overlap_losses, strict=True), 1):
        compare.close(f"train.rloss{number}", losses[0])
        compare.close(f"train.iloss{number}", losses[1])
    compare.close("train.total_loss", outputs.loss)
    outputs.loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name in stored:
        if match := re.fullmatch(r"train\.grad\.(.+)", name):
            compare.close(name, released_gradient(gradients, table, match[1]))


def released_gradient(gradients: dict[str, torch.Tensor], table: Table, released: str) -> torch.Tensor:
    """Return the gradient of a released tensor: one of ours, or several below each other."""
    for pattern, line in table.items():
        if match := re.fullmatch(re.escape(pattern).replace(r"\{\}", r"(\d+)"), released):
            return torch.cat([gradients[name.format(*match.groups())] for name in line.names])
    raise AssertionError(f"no line of the table makes {released}")
