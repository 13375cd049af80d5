"""Adapters of the open-set kinds: the evidential losses and the recognizer."""

import re
from dataclasses import asdict
from pathlib import Path

import torch

from internvideo_hf.auto import auto_class
from internvideo_hf.checkpoints import convert_checkpoint
from internvideo_hf.checkpoints.families.internvideo_mae import OPEN_SET
from internvideo_hf.models.common.evidential import (
    EVIDENCES,
    EvidentialSettings,
    concentrations,
    evidential_losses,
    expected_probabilities,
    uncertainty,
)
from parity.compare import Comparison, checkpoint_of, load_config, load_tensors
from parity.internvideo_mae import compare_gradients, overrides

TERMS = {"loss_cls": "cls", "loss_var": "variance", "loss_kl": "kl", "loss_avu": "avu"}


def settings_of(entry: dict) -> EvidentialSettings:
    """Return our settings from those of the original, which a case may leave out."""
    names = {
        "loss_type": "loss",
        "evidence": "evidence",
        "with_kldiv": "kl",
        "with_avuloss": "avu",
        "disentangle": "disentangle",
        "annealing_method": "annealing",
        "annealing_start": "annealing_start",
        "annealing_step": "annealing_epochs",
    }
    return EvidentialSettings(**{ours: entry[theirs] for theirs, ours in names.items() if theirs in entry})


def openset_edl_losses(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    compare = Comparison(stored, inputs=("logits", "labels"))
    logits, labels = stored["logits"], stored["labels"].long().flatten()
    for kind in EVIDENCES:
        alpha = concentrations(logits, kind)
        of_kind = {"evidence": alpha - 1, "alpha": alpha, "prob": expected_probabilities(alpha)}
        for name, value in (of_kind | {"uncertainty": uncertainty(alpha)}).items():
            compare.close(f"{name}.{kind}", like(value, stored.get(f"{name}.{kind}")))
    for entry in config["entries"]:
        _check_loss(entry, logits, labels, compare)
    compare.finish()


def _check_loss(entry: dict, logits: torch.Tensor, labels: torch.Tensor, compare: Comparison) -> None:
    settings, key, logits = settings_of(entry), entry["key"], logits.clone().requires_grad_()
    weight = settings.annealing_weight(entry.get("epoch", 0), entry.get("total_epoch", 1))
    terms = evidential_losses(logits, labels, settings, weight)
    if "entries" in entry:
        assert set(terms) == {TERMS[name] for name in entry["entries"] if "loss" in name}
    for name, term in TERMS.items():
        if term in terms:
            compare.close(f"{key}.{name}", like(terms[term], compare.stored.get(f"{key}.{name}")))
    total = torch.stack([term.mean() for term in terms.values()]).sum()
    compare.close(f"{key}.total", total)
    total.backward()
    compare.close(f"{key}.grad_logits", logits.grad)
    compare.close(f"{key}.lambda", torch.tensor(weight))
    doubt = uncertainty(concentrations(logits, settings.evidence))
    compare.close(f"{key}.uncertainty", like(doubt, compare.stored.get(f"{key}.uncertainty")))
    # What the original logs: the mean evidence of right and of wrong answers, over all classes together.
    evidence, right = (concentrations(logits, settings.evidence) - 1).sum(dim=-1), logits.argmax(dim=-1) == labels
    for name, rows in (("succ", right), ("fail", ~right)):
        compare.close(f"{key}.evidence_{name}", (evidence * rows).sum() / rows.sum().clamp(min=1))


def like(rows: torch.Tensor, stored: torch.Tensor | None) -> torch.Tensor:
    """Return numbers of rows with the axis of length 1 that the original adds to some."""
    return rows if stored is None else rows.reshape(stored.shape)


def openset_recognizer(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    settings = settings_of(config)
    told = overrides(config) | {"evidential": asdict(settings), "classifier_dropout": 0.0}
    convert_checkpoint(checkpoint_of(folder), tmp_path / "model", config_overrides=told)
    model = auto_class("AutoModelForOpenSetClassification").from_pretrained(tmp_path / "model").eval()
    compare = Comparison(stored, inputs=("imgs", "label"))
    videos, views = stored["imgs"].shape[:2]
    clips = stored["imgs"].transpose(2, 3)  # channels behind frames
    with torch.no_grad():
        outputs = model(clips.flatten(0, 1))
        compare.close("backbone_features", model.encoder(clips.flatten(0, 1)).pooler_output)
    compare.close("per_crop_scores", outputs.logits)
    scores = outputs.logits.unflatten(0, (videos, views))
    probabilities = expected_probabilities(concentrations(scores, settings.evidence))
    compare.close("avg_score", scores.mean(dim=1))
    compare.close("avg_softmax_prob", scores.softmax(dim=-1).mean(dim=1))
    compare.close("avg_evidence_prob", probabilities.mean(dim=1))
    alpha = concentrations(scores.mean(dim=1), settings.evidence)  # first the mean of the logits, then the evidence
    compare.close("alpha", alpha)
    compare.close("evidence_from_avg_score", alpha - 1)
    compare.close("dirichlet_prob", expected_probabilities(alpha))
    compare.close("uncertainty", uncertainty(alpha))
    if "label" in stored:
        _check_training(model.train(), config, compare)
    compare.finish()


def _check_training(model: torch.nn.Module, config: dict, compare: Comparison) -> None:
    """Compare the loss of the first views, in the epoch that the case names."""
    words = re.search(r"epoch=(\d+),\s*total_epoch=(\d+)", config.get("input", ""))
    epoch, total = map(int, words.groups() if words else (0, 1))
    model.set_epoch(config.get("epoch", epoch), config.get("total_epoch", total))
    outputs = model(compare.stored["imgs"][:, 0].transpose(1, 2), labels=compare.stored["label"].flatten().long())
    for name, term in TERMS.items():
        if (stored := compare.stored.get(f"train_{name}")) is not None:
            settings, labels = settings_of(config), compare.stored["label"].flatten().long()
            rows = evidential_losses(outputs.logits, labels, settings, model.annealing_weight)[term]
            compare.close(f"train_{name}", like(rows, stored))
    compare.close("train_lambda", torch.tensor(model.annealing_weight))
    compare.close("train_loss", outputs.loss)
    outputs.loss.backward()
    compare_gradients(
        compare, "grad.", model, {f"backbone.{name}": action for name, action in OPEN_SET.items()} | OPEN_SET
    )
