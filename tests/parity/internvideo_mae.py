"""Adapters of the VideoMAE model kinds: classification, pretraining, and the released loader."""

import re
from pathlib import Path

import torch
from einops import rearrange
from torch.nn.functional import cross_entropy

from internvideo_hf.checkpoints import convert_checkpoint
from internvideo_hf.checkpoints.families.internvideo_mae import CLASSIFIER, PRETRAINING
from internvideo_hf.checkpoints.released_file import load_state_dict
from internvideo_hf.checkpoints.table import Table, convert_state_dict, released_name
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae import (
    InternVideoMAEForPreTraining,
    InternVideoMAEForVideoClassification,
    cut_into_tubelets,
    select_tokens,
)
from parity.compare import Comparison, checkpoint_of, load_config, load_tensors


def overrides(config: dict) -> dict:
    """Return our configuration overrides that no tensor shape gives, from the original constructor's arguments."""
    constructor = config["constructor"]
    told = {
        "num_attention_heads": constructor.get("num_heads") or constructor["encoder_num_heads"],
        "image_size": constructor["img_size"],
        "num_frames": constructor.get("all_frames") or config.get("num_frames", 16),
    }
    if "decoder_num_heads" in constructor:
        told["decoder_num_attention_heads"] = constructor["decoder_num_heads"]
    if "num_segment" in constructor:
        told["num_segments"] = constructor["num_segment"]
    return told


def as_ours(video: torch.Tensor) -> torch.Tensor:
    return rearrange(video, "b c t h w -> b t c h w")


def keep_stages(modules: dict[str, torch.nn.Module]) -> dict[str, torch.Tensor]:
    """Fill a dict with the outputs of modules by name, once they have run."""
    stages: dict[str, torch.Tensor] = {}

    def keep(name: str, output) -> None:
        stages[name] = output[0] if isinstance(output, tuple) else output

    for name, module in modules.items():
        module.register_forward_hook(lambda module, args, output, name=name: keep(name, output))
    return stages


def compare_gradients(compare: Comparison, prefix: str, model: torch.nn.Module, table: Table) -> None:
    """Compare all stored gradients, which have the released names, with those of the tensors that each became."""
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    for stored in [name for name in compare.stored if name.startswith(prefix)]:
        released = stored.removeprefix(prefix)
        pattern = re.sub(r"(?<=blocks\.)\d+", "{}", released)
        numbers = re.findall(r"(?<=blocks\.)\d+", released)
        ours = [name.format(*numbers) for name in table[pattern].names]
        gradient = torch.cat([gradients[name] for name in ours]) if len(ours) > 1 else gradients[ours[0]]
        compare.close(stored, gradient.reshape(compare.stored[stored].shape))


def videomae_classification(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    told = overrides(config)
    # The released loader re-samples the table of a clip that the text names; other cases have their own grid.
    grid = re.search(r"(\d+)-pixel,\s*(\d+)-frame grid", config.get("position_table", ""))
    size, frames = map(int, grid.groups()) if grid else (told["image_size"], told["num_frames"])
    told |= {"position_image_size": size, "position_num_frames": frames}
    convert_checkpoint(checkpoint_of(folder), tmp_path / "model", config_overrides=told)
    model = InternVideoMAEForVideoClassification.from_pretrained(tmp_path / "model").eval()
    encoder, segments = model.internvideo_mae, model.config.num_segments
    compare = Comparison(stored, inputs=("pixel_values", "labels", "soft_targets"))
    stages = keep_stages(
        {
            "act.patch_embed": encoder.embeddings,
            **{f"act.attn{index}": layer.self_attn for index, layer in enumerate(encoder.layers)},
            **{f"act.mlp{index}": layer.mlp for index, layer in enumerate(encoder.layers)},
            **{f"act.blocks.{index}": layer for index, layer in enumerate(encoder.layers)},
        }
    )
    model.dropout.register_forward_hook(
        lambda module, args, output: stages.__setitem__("act.head_dropout_in", args[0])
    )

    video = as_ours(stored["pixel_values"])
    _, grid = cut_into_tubelets(encoder, video)
    compare.close("pos_embed", encoder.positions(grid)[None])
    logits = model(video).logits
    compare.close("logits", logits)
    for name in [name for name in stored if name.startswith("act.")]:
        compare.leading(name, stages[name])
    if segments > 1:
        model.train()
        logits = model(video).logits
        compare.close("logits_train_segment_mean", logits)
    if "labels" in stored:
        labels = stored["labels"][: len(logits)].long()
        compare.close("loss_ce", cross_entropy(logits, labels))
        compare.close("loss_ce", model(video, labels=labels).loss)
        for name in stored:
            if match := re.fullmatch(r"loss_label_smoothing_([\d.]+)", name):
                compare.close(name, cross_entropy(logits, labels, label_smoothing=float(match[1])))
    if "soft_targets" in stored:
        loss = model(video, labels=stored["soft_targets"]).loss
        compare.close("loss_soft_target", loss)
        loss.backward()
        compare_gradients(compare, "grad_soft.", model, CLASSIFIER)
    compare.finish()


def videomae_pretraining(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    convert_checkpoint(checkpoint_of(folder), tmp_path / "model", config_overrides=overrides(config))
    model = InternVideoMAEForPreTraining.from_pretrained(tmp_path / "model").eval()
    encoder, decoder, mask = model.internvideo_mae, model.decoder, stored["mask"]
    compare = Comparison(stored, inputs=("pixel_values", "mask"))
    modules = {"act.encoder.norm": encoder.layernorm, "act.encoder_to_decoder": model.encoder_to_decoder}
    modules |= {f"act.encoder.blocks.{index}": layer for index, layer in enumerate(encoder.layers)}
    modules |= {f"act.decoder.blocks.{index}": layer for index, layer in enumerate(decoder.layers)}
    stages = keep_stages(modules)

    video = as_ours(stored["pixel_values"])
    output = model(video, mask)
    compare.close("pred", output.logits)
    compare.close("loss_norm", output.loss)
    cubes, grid = cut_into_tubelets(encoder, video)
    # Ours embeds visible cubes only; the stored stage is of all of them.
    stages["act.encoder.patch_embed"] = encoder.embeddings(cubes)
    for name in [name for name in stored if name.startswith("act.")]:
        compare.leading(name, stages[name])
    for name in stored:
        if match := re.fullmatch(r"pos_embed_(encoder|decoder)_(first|last)(\d+)", name):
            table, count = {"encoder": encoder, "decoder": decoder}[match[1]].positions(grid)[None], int(match[3])
            compare.close(name, table[:, :count] if match[2] == "first" else table[:, -count:])
    compare.close("target_norm", model.targets(select_tokens(cubes, mask)))
    output.loss.backward()
    compare_gradients(compare, "grad.", model, PRETRAINING)

    model.config.norm_pix_loss = False
    targets = model.targets(select_tokens(cubes, mask))
    for name in stored:
        if re.fullmatch(r"target_raw_first\d+", name):
            compare.leading(name, targets)
    compare.close("loss_raw", model(video, mask).loss)
    compare.finish()


HEADS = {"Kinetics-400": "k400", "Kinetics-600": "k600", "Kinetics-700": "k700"}


@torch.no_grad()
def videomae_loading(folder: Path, tmp_path: Path) -> None:
    """Load a checkpoint like the released fine-tuning loader, with converter and `from_pretrained`."""
    config, stored = load_config(folder), load_tensors(folder)
    constructor, told = config["constructor"], overrides(config)
    state_dict = load_state_dict(checkpoint_of(folder))
    if not config.get("own_grid_table", True):
        told |= {"position_image_size": 224, "position_num_frames": 16}
    elif not any(name.endswith("pos_embed") for name in state_dict):  # a learned table tells its own grid
        told |= {"position_image_size": told["image_size"], "position_num_frames": told["num_frames"]}
    head = HEADS.get(config.get("loader_args", {}).get("data_set"))
    if not any(name.endswith("head.weight") and len(weight) == 710 for name, weight in state_dict.items()):
        head = None
    if any("decoder." in name for name in state_dict):
        # The reference does not say how many heads its decoder has, which is thrown away here: one fits all widths.
        told["decoder_num_attention_heads"] = 1
    convert_checkpoint(checkpoint_of(folder), tmp_path / "model", config_overrides=told, head=head)
    model, loading = InternVideoMAEForVideoClassification.from_pretrained(
        tmp_path / "model",
        num_labels=constructor["num_classes"],
        use_mean_pooling=constructor.get("use_mean_pooling", True),
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    fresh = loading["missing_keys"] | {name for name, *_ in loading["mismatched_keys"]}
    released = {released_name(name, CLASSIFIER) for name in fresh}
    assert released == set(config.get("tensors_not_initialised_from_checkpoint", released))
    given = {name: value for name, value in stored.items() if name.startswith("not_from_checkpoint.")}
    weights = model.state_dict()
    for name in fresh:
        weights[name].copy_(given[f"not_from_checkpoint.{released_name(name, CLASSIFIER)}"])

    compare = Comparison(stored, inputs=("pixel_values", *given))
    for name in [name for name in stored if name.startswith("after.")]:
        ours = convert_state_dict({name.removeprefix("after."): stored[name]}, CLASSIFIER)[0]
        for key, value in ours.items():
            torch.testing.assert_close(weights[key], value, atol=0, rtol=0)
        compare.open.discard(name)
    video = as_ours(stored["pixel_values"])
    _, grid = cut_into_tubelets(model.internvideo_mae, video)
    compare.close("pos_embed", model.internvideo_mae.positions(grid)[None])
    compare.close("logits", model.eval()(video).logits)
    compare.finish()
