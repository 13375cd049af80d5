"""Adapter of the kind of short-term anticipation's model."""

from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

from internvideo_hf.checkpoints import convert_checkpoint
from internvideo_hf.checkpoints.families.internvideo_mae import ANTICIPATION
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae_anticipation import (
    InternVideoMAEForShortTermAnticipation,
    encode_boxes,
)
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae_detection import pad_boxes
from parity.compare import Comparison, checkpoint_of, load_config, load_tensors
from parity.internvideo_mae import as_ours, compare_gradients

INPUTS = ("boxes.", "packed_boxes", "video_BCTHW", "train.verb_labels", "train.ttc_targets")


def ego4d_sta(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    convert_checkpoint(checkpoint_of(folder), tmp_path / "model", config_overrides=_settings(config))
    model = InternVideoMAEForShortTermAnticipation.from_pretrained(tmp_path / "model").eval()
    assert model.config.num_labels == config["num_verbs"] + 1
    compare = Comparison(stored, inputs=tuple(name for name in stored if name.startswith(INPUTS)))
    video = as_ours(stored["video_BCTHW"])
    given = [stored.get(f"boxes.{number}", torch.zeros(0, 4)) for number in range(len(video))]
    boxes, mask = pad_boxes(given)
    packed = [torch.cat([torch.full((len(own), 1), number), own], dim=1) for number, own in enumerate(given)]
    torch.testing.assert_close(torch.cat(packed), stored.get("packed_boxes", torch.cat(packed)), rtol=0, atol=0)
    compare.close("box_embed", encode_boxes(torch.cat(given), model.config.hidden_size))
    with torch.no_grad():
        found = model(video, boxes, mask)
    compare.close("eval.verb_probs", found.logits[mask].softmax(dim=-1))
    compare.close("eval.ttc", found.times[mask][:, None])
    if any(name.startswith("train.") for name in stored):
        _compare_training(compare, model.train(), (video, boxes, mask))
    compare.finish()


def _settings(config: dict) -> dict:
    weights = config.get("loss_weights", {})
    told = {
        "num_attention_heads": config["heads"],
        "image_size": config["img"],
        "position_image_size": config["img"],
        "num_frames": config["frames"],
        "position_num_frames": config["frames"],
        "roi_size": config.get("roi", 7),
    }
    names = {"verb": "verb_loss_weight", "ttc": "time_loss_weight"}
    return told | {ours: weights[name] for name, ours in names.items() if name in weights}


def _compare_training(compare: Comparison, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    stored, mask = compare.stored, inputs[2]
    counts = mask.sum(dim=1).tolist()
    labels = {}
    if "train.verb_labels" in stored:
        verbs = stored["train.verb_labels"].long().split(counts)
        labels["verb_labels"] = pad_sequence(verbs, batch_first=True, padding_value=-100)
    if "train.ttc_targets_nan_as_minus1" in stored:
        times = stored["train.ttc_targets_nan_as_minus1"].flatten().split(counts)
        padded = pad_sequence(times, batch_first=True, padding_value=-1)
        labels["time_labels"] = padded.masked_fill(padded == -1, torch.nan)
    found = model(*inputs, **labels)
    compare.close("train.verb_logits", found.logits[mask])
    compare.close("train.ttc", found.times[mask][:, None])
    for name, ours in (("verb_loss", found.verb_loss), ("ttc_loss", found.time_loss), ("loss", found.loss)):
        if ours is not None:
            compare.close(f"train.{name}", ours)
    if found.loss is not None:
        found.loss.backward()
        compare_gradients(compare, "train.grad.", model, ANTICIPATION)
