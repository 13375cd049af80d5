"""Adapters of the caption decoder's kinds: captions and their loss, answers to questions."""

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForMultimodalLM, AutoModelForVisualQuestionAnswering

from internvideo_hf.checkpoints import convert_checkpoint
from internvideo_hf.checkpoints.families.internvideo_mm import normalize, table_for
from internvideo_hf.checkpoints.released_file import load_state_dict
from internvideo_hf.checkpoints.table import convert_state_dict, released_name
from internvideo_hf.models.common.losses import IGNORED
from parity.compare import Comparison, checkpoint_of, load_config, load_tensors
from parity.internvideo_mm import overrides

INPUTS = ("frames", "text_ids", "special_tokens_mask", "labels")


def mm_captioning(folder: Path, tmp_path: Path) -> None:
    model = _converted(AutoModelForMultimodalLM, folder, tmp_path)
    config, stored = load_config(folder), load_tensors(folder)
    parts = sorted(name.removesuffix(".frames") for name in stored if name.endswith(".frames"))
    compare = Comparison(stored, inputs=tuple(f"{part}.{name}" for part in parts for name in INPUTS))
    totals = {}
    for part in parts:
        ids = stored[f"{part}.text_ids"].long()
        hidden = stored.get(f"{part}.special_tokens_mask")
        if hidden is None:  # padding lies behind the end, which is the largest id
            hidden = torch.arange(ids.shape[1]) > ids.argmax(dim=1, keepdim=True)
        labels = ids.masked_fill(hidden, IGNORED)
        model.zero_grad()
        model.clamp_temperature()  # as the original does before each batch
        stages = _decoder_stages(model)
        outputs = model(stored[f"{part}.frames"], ids, labels=labels, return_loss=True)
        named = {"contrastive": outputs.contrastive_loss, "cap": outputs.caption_loss}
        totals[part] = sum(named[name] for name in config.get("losses", named))
        if set(config.get("losses", named)) == set(named):
            torch.testing.assert_close(totals[part], outputs.loss)
        totals[part].backward()
        compare.leading(f"{part}.cap_logits", outputs.logits)
        compare.close(f"{part}.cap_loss", outputs.caption_loss)
        compare.close(f"{part}.contrastive_loss", outputs.contrastive_loss)
        compare.close(f"{part}.image_logits", outputs.logits_per_video)
        compare.close(f"{part}.text_feats", outputs.text_model_output.pooler_output)
        compare.close(f"{part}.video_feats", outputs.video_model_output.pooler_output)
        for name, stage in stages.items():
            compare.leading(f"{part}.decoder.{name}", stage)
        _compare_gradients(compare, f"{part}.grad.", model, folder)
    # Even batches train on the videos alone, odd ones on the images alone.
    compare.close("training_step.batch_idx0", totals.get("video", torch.zeros(())))
    compare.close("training_step.batch_idx1", totals.get("image", torch.zeros(())))
    compare.close("training_step.no_alt", sum(totals.values()))
    compare.finish()


def mm_vqa(folder: Path, tmp_path: Path) -> None:
    model = _converted(AutoModelForVisualQuestionAnswering, folder, tmp_path)
    stored = load_tensors(folder)
    compare = Comparison(stored, inputs=INPUTS)
    features: list[torch.Tensor] = []
    model.classifier.register_forward_pre_hook(lambda module, args: features.append(args[0]))
    stages = _decoder_stages(model)
    labels = stored.get("labels")
    outputs = model(stored["frames"], stored["text_ids"].long(), labels=None if labels is None else labels.long())
    compare.close("classifier_input", features[0])
    compare.close("vqa_logits", outputs.logits)
    for name, stage in stages.items():
        compare.leading(f"decoder.{name}", stage)
    if labels is not None:
        compare.close("vqa_loss", outputs.loss)
        outputs.loss.backward()
        _compare_gradients(compare, "grad.", model, folder)
    compare.finish()


def _converted(auto_class: type, folder: Path, tmp_path: Path) -> torch.nn.Module:
    convert_checkpoint(checkpoint_of(folder), tmp_path / "model", config_overrides=overrides(load_config(folder)))
    return auto_class.from_pretrained(tmp_path / "model").eval()


def _decoder_stages(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a dict that the next forward pass fills with the decoder's stages, by their released names."""
    stages: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, args, output: stages.__setitem__(name, output)

    decoder = model.caption_decoder
    decoder.pooler.register_forward_hook(keep("pooled_visual"))
    decoder.text_layer_norm.register_forward_hook(keep("text_norm"))
    for number, layer in enumerate(decoder.layers):
        layer.register_forward_hook(keep(f"layer{number}.cross"))
        # Behind its first block stands what the second block normalizes.
        layer.cross_layer_norm.register_forward_pre_hook(
            lambda module, args, name=f"layer{number}.self": stages.__setitem__(name, args[0])
        )
    return stages


def _compare_gradients(compare: Comparison, prefix: str, model: torch.nn.Module, folder: Path) -> None:
    tensors = normalize(load_state_dict(checkpoint_of(folder)))
    table = table_for(tensors)
    gradients = {name.removeprefix(prefix): value for name, value in compare.stored.items() if name.startswith(prefix)}
    expected, _ = convert_state_dict(tensors | gradients, table)
    compared = set()
    for name, parameter in model.named_parameters():
        released = released_name(name, table)
        if released in gradients:
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-5, msg=name)
            compared.add(f"{prefix}{released}")
    compare.open -= compared
