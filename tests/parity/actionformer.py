"""Adapters of ActionFormer: the head in evaluation and training, and its optimizer."""

import json
import re
from pathlib import Path

import pytest
import torch

from internvideo_hf.checkpoints import convert_checkpoint
from internvideo_hf.checkpoints.families.actionformer import settings_of, table_for
from internvideo_hf.checkpoints.released_file import load_state_dict
from internvideo_hf.checkpoints.table import Table, convert_state_dict, released_name
from internvideo_hf.data.features import FeatureGrid
from internvideo_hf.models.actionformer.configuration_actionformer import ActionFormerConfig
from internvideo_hf.models.actionformer.losses_actionformer import make_targets
from internvideo_hf.models.actionformer.modeling_actionformer import ActionFormerForTemporalLocalization
from internvideo_hf.tasks.temporal_localization.decoding import (
    Selection,
    Suppression,
    collect_candidates,
    suppress,
)
from internvideo_hf.training.parameter_groups import parameter_groups
from internvideo_hf.training.schedules import linear_then_cosine
from parity.compare import Comparison, checkpoint_of, load_config, load_tensors

WEIGHTS = {"eval": "state_dict_ema", "train": "state_dict"}  # the entries of a file that the original takes


def overrides(config: dict) -> dict:
    """Return our configuration overrides from the settings of the original."""
    return settings_of(config["model"] | {name: config[name] for name in ("train_cfg", "test_cfg") if name in config})


def model_of(folder: Path, tmp_path: Path, section: str, **changes) -> ActionFormerForTemporalLocalization:
    """Return the model with the weights that a section of the case belongs to."""
    config = load_config(folder)
    content = torch.load(checkpoint_of(folder), weights_only=True)
    entry = config.get("weights", {}).get(section, WEIGHTS[section]).split()[0]
    entry = entry if entry in content else "state_dict"
    content = {entry: content[entry]} if entry in content else content  # a bare state dict
    torch.save(content, tmp_path / f"{section}.pth.tar")
    convert_checkpoint(tmp_path / f"{section}.pth.tar", tmp_path / section, config_overrides=overrides(config))
    return ActionFormerForTemporalLocalization.from_pretrained(tmp_path / section, **changes)


def actionformer(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    inputs = tuple(name for name in stored if re.fullmatch(r".*\.(feats_CT|\d+\.(labels|segments_grid))", name))
    compare = Comparison(stored, inputs=inputs)
    if any(name.startswith("eval.") for name in stored):
        model = model_of(folder, tmp_path, "eval")
        for video in {match[1] for name in stored if (match := re.fullmatch(r"eval\.(.+)\.feats_CT", name))}:
            of_video(model, video, config.get("eval_videos", {}).get(video, {}), compare)
    if any(name.startswith("train.") for name in stored):
        rate = config.get("drop_path_for_train_golden", 0.0)
        model = model_of(folder, tmp_path, "train", drop_path_rate=rate).train()
        of_training(model, table_for(load_state_dict(checkpoint_of(folder))), compare)
    compare.finish()


@torch.no_grad()
def of_video(model: ActionFormerForTemporalLocalization, name: str, facts: dict, compare: Comparison) -> None:
    place, features = f"eval.{name}", compare.stored[f"eval.{name}.feats_CT"].T[None]
    outputs, pyramid = model(features), model.actionformer(features)
    compare.close(f"{place}.padded_len", torch.tensor(outputs.masks[0].shape[1]))
    compare.close(f"{place}.mask", outputs.masks[0][:, None])
    for level, points in enumerate(outputs.points):
        compare.close(f"{place}.backbone.{level}", pyramid.feature_maps[level].transpose(1, 2))
        compare.close(f"{place}.cls_logits.{level}", outputs.logits[level])
        compare.close(f"{place}.offsets.{level}", outputs.offsets[level])
        compare.close(f"{place}.points.{level}", points)

    levels = (outputs.logits, outputs.offsets, outputs.masks, model.config.strides)
    (raw,) = collect_candidates(*levels, Selection(**model.config.selection))
    final = suppress(raw, Suppression(**model.config.suppression))
    for stage, found in (("raw", raw), ("nms", final), ("final", final)):
        assert facts.get(f"num_{stage}", len(found.scores)) == len(found.scores)
        compare.close(f"{place}.{stage}.segments_grid", found.segments)
        compare.close(f"{place}.{stage}.scores", found.scores)
        compare.close(f"{place}.{stage}.labels", found.labels)
    if f"{place}.final.segments_sec" in compare.stored:
        grid = FeatureGrid(facts["feat_stride"], facts["feat_num_frames"], facts["fps"])
        compare.close(f"{place}.final.segments_sec", grid.to_seconds(final.segments, facts.get("duration")))


def of_training(model: ActionFormerForTemporalLocalization, table: Table, compare: Comparison) -> None:
    stored = compare.stored
    videos = sorted({int(match[1]) for name in stored if (match := re.match(r"train\.(\d+)\.", name))})
    rows = [stored[f"train.{video}.feats_CT"].T for video in videos]
    features = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.arange(features.shape[1]) < torch.tensor([[len(row)] for row in rows])
    labels = [
        {
            "segments": stored.get(f"train.{video}.segments_grid", torch.zeros(0, 2)),
            "class_labels": stored.get(f"train.{video}.labels", torch.zeros(0)).long(),
        }
        for video in videos
    ]
    for call in ("train", "train.second_call"):
        outputs = model(features, mask, labels)
        if call == "train":
            outputs.loss.backward()
        compare.close(f"{call}.cls_loss", outputs.class_loss)
        compare.close(f"{call}.reg_loss", outputs.segment_loss)
        compare.close(f"{call}.final_loss", outputs.loss)
        compare.close(f"{call}.loss_normalizer_after", model.loss_normalizer)
    compare.close("train.mask", outputs.masks[0][:, None])
    config, points = model.config, torch.cat(outputs.points)
    targets = make_targets(points, labels, config.num_labels, config.center_sampling_radius)
    compare.close("train.targets.cls", targets[0])
    compare.close("train.targets.offsets", targets[1])

    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    names = {name: name.removeprefix("train.grad.") for name in stored if name.startswith("train.grad.")}
    for name, released in names.items():
        ((ours, _),) = convert_state_dict({released: stored[name]}, table)[0].items()
        compare.close(name, gradients[ours].reshape(stored[name].shape))


def tal_optimizer(folder: Path, tmp_path: Path) -> None:
    config = load_config(folder)
    if (folder / "groups.json").is_file():
        _of_groups(folder, config)
    if (folder / "lr.json").is_file():
        _of_rates(folder, config)


def _of_groups(folder: Path, config: dict) -> None:
    model = ActionFormerForTemporalLocalization(ActionFormerConfig(**overrides(config)))
    expected = {
        name: decay
        for group, decay in (("decay", config["weight_decay"]), ("no_decay", 0.0))
        for name in json.loads((folder / "groups.json").read_text())[group]
    }
    table = table_for(dict.fromkeys(expected))
    found = {
        released_name(name, table): group["weight_decay"]
        for group in parameter_groups(model, config.get("lr", 1e-3), config["weight_decay"], rule="actionformer")
        for name in group["names"]
    }
    assert found == expected


def _of_rates(folder: Path, config: dict) -> None:
    rates, warmup = json.loads((folder / "lr.json").read_text()), config["warmup_epochs"] * config["iters_per_epoch"]
    total = (config["epochs"] + config["warmup_epochs"]) * config["iters_per_epoch"]
    assert len(rates) <= total
    for step, rate in enumerate(rates):
        ours = linear_then_cosine(step, total, warmup, end=config.get("eta_min", 1e-8), peak=config["lr"])
        assert ours == pytest.approx(rate, rel=1e-9, abs=1e-15), step
