"""Adapter of the kinds of action detection's model: with a linear head, and with ACAR's."""

import re
from collections.abc import Callable
from pathlib import Path

import torch

from internvideo_hf.checkpoints import convert_checkpoint
from internvideo_hf.checkpoints.families.internvideo_mae import DETECTOR, DETECTOR_PREFIX
from internvideo_hf.checkpoints.table import convert_state_dict
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae_detection import (
    InternVideoMAEForVideoActionDetection,
    pad_boxes,
)
from internvideo_hf.tasks import boxes
from parity.compare import Comparison, checkpoint_of, load_config, load_tensors
from parity.internvideo_mae import as_ours, keep_stages, overrides

INPUTS = ("pixel_values", "boxes_", "labels_", "det_scores_")


def stal_model(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    convert_checkpoint(
        checkpoint_of(folder), tmp_path / "model", config_overrides=_settings(config), task="action_detection"
    )
    model = InternVideoMAEForVideoActionDetection.from_pretrained(tmp_path / "model").eval()
    compare = Comparison(stored, inputs=tuple(name for name in stored if name.startswith(INPUTS)))
    video = as_ours(stored["pixel_values"])
    width, height = config.get("image_size_wh", (video.shape[4], video.shape[3]))
    size = (height, width)
    given = _of_clips(stored, "boxes_", len(video), 4)
    labels = torch.nn.utils.rnn.pad_sequence(
        [entry.float() for entry in _of_clips(stored, "labels_", len(video), model.config.num_labels)],
        batch_first=True,
    )

    def propose(name: str, rule: Callable[[torch.Tensor], torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Compare our proposals with the stored ones, which the model then gets."""
        ours = [rule(own) for own in given]  # once: a draw for dropout may follow those of the boxes
        for number, own in enumerate(ours):
            compare.close(f"{name}_{number}", own)
        return pad_boxes([stored.get(f"{name}_{number}", own) for number, own in enumerate(ours)])

    extension = tuple(config.get("test_extend", boxes.EXTENSION))
    padded, mask = propose("eval_proposals", lambda own: boxes.extend(own, size, extension))
    found = _compare_stages(compare, model, video, padded, mask)
    compare.close("logits", found.logits[mask])
    for number, own in enumerate(given):
        compare.close(f"post_boxes_{number}", own)
        if f"det_scores_{number}" in stored:
            scores = found.logits[number, : len(own)].sigmoid() * stored[f"det_scores_{number}"].reshape(-1, 1)
            compare.close(f"post_scores_{number}", scores)
    for name in ("loss_eval_mode", "eval_loss"):
        if name in stored:
            compare.close(name, model(video, padded, mask, labels=labels).loss)
    if any(name.startswith(("train_", "grad_train.")) for name in stored):
        torch.manual_seed(config["train_jitter"]["torch_seed"])
        amount = tuple(config["train_jitter"]["args"])
        padded, mask = propose("train_proposals", lambda own: boxes.jitter(own, size, amount=amount))
        found = model.train()(video, padded, mask, labels=labels)
        compare.close("train_logits", found.logits[mask])
        compare.close("train_loss", found.loss)
        found.loss.backward()
        _compare_gradients(compare, "grad_train.", model)
    compare.finish()


def _settings(config: dict) -> dict:
    constructor, told = config["constructor"], overrides(config)
    grid = re.search(r"(\d+)-pixel,\s*(\d+)-frame grid", config.get("position_table", ""))
    size, frames = map(int, grid.groups()) if grid else (told["image_size"], told["num_frames"])
    told |= {"position_image_size": size, "position_num_frames": frames}
    names = {
        "pooler_scale": "roi_scale",
        "pooler_resolution": "roi_size",
        "pooler_sampling_ratio": "roi_sampling_ratio",
        "pooler_aligned": "roi_aligned",
    }
    told |= {ours: constructor[name] for name, ours in names.items() if name in constructor}
    return told | ({"layer_norm_eps": config["layernorm_eps"]} if "layernorm_eps" in config else {})


def _of_clips(stored: dict[str, torch.Tensor], prefix: str, clips: int, width: int) -> list[torch.Tensor]:
    """Return what is stored of each clip; a clip without boxes may have no entry."""
    return [stored.get(f"{prefix}{number}", torch.zeros(0, width)) for number in range(clips)]


@torch.no_grad()
def _compare_stages(
    compare: Comparison,
    model: InternVideoMAEForVideoActionDetection,
    video: torch.Tensor,
    padded: torch.Tensor,
    mask: torch.Tensor,
):
    encoder, stages = model.internvideo_mae, {}
    layers = {f"act.blocks.{number}": layer for number, layer in enumerate(encoder.layers)}
    outputs = keep_stages({"act.norm": encoder.layernorm, "roi_features": model.box_pooler, **layers})
    model.box_pooler.register_forward_pre_hook(lambda module, args: stages.update(maps=args[0], boxes=args[1]))
    found = model(video, padded, mask)
    compare.close("feature_map", stages["maps"])
    compare.close("roi_features", outputs["roi_features"][mask])
    aligned = model.box_pooler.align(stages["maps"], stages["boxes"]).unflatten(0, mask.shape)[mask]
    for name in compare.stored:
        if re.fullmatch(r"act\.roi_align(_\w+)?_first_roi", name):
            compare.close(name, aligned[:1])
        elif match := re.fullmatch(r"(act\..+)_first\d+", name):
            compare.leading(name, outputs[match[1]])
        elif name in layers or name == "act.norm":
            compare.close(name, outputs[name])
    return found


def _compare_gradients(compare: Comparison, prefix: str, model: torch.nn.Module) -> None:
    """Compare stored gradients, which have the released names: each is converted as its weight is."""
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    for stored in [name for name in compare.stored if name.startswith(prefix)]:
        released = re.sub(r"^head\.", f"{DETECTOR_PREFIX}head.", stored.removeprefix(prefix))
        for name, expected in convert_state_dict({released: compare.stored[stored]}, DETECTOR)[0].items():
            torch.testing.assert_close(gradients[name], expected, atol=1e-5, rtol=1e-5)
        compare.open.discard(stored)
