"""Adapters of the open-set kinds: the evidential losses and the recognizer."""

from pathlib import Path

import torch

from internvideo_hf.models.common.evidential import (
    EVIDENCES,
    EvidentialSettings,
    concentrations,
    evidential_losses,
    expected_probabilities,
    mean_evidence,
    uncertainty,
)
from parity.compare import Comparison, load_config, load_tensors

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
            compare.close(f"{name}.{kind}", value)
    for entry in config["entries"]:
        _check_loss(entry, logits, labels, compare)
    compare.finish()


def _check_loss(entry: dict, logits: torch.Tensor, labels: torch.Tensor, compare: Comparison) -> None:
    settings, key, logits = settings_of(entry), entry["key"], logits.clone().requires_grad_()
    weight = settings.annealing_weight(entry["epoch"], entry["total_epoch"])
    terms = evidential_losses(logits, labels, settings, weight)
    assert set(terms) == {TERMS[name] for name in entry.get("entries", ()) if "loss" in name}
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
    right, wrong = mean_evidence(logits, labels, settings.evidence)
    compare.close(f"{key}.evidence_succ", right)
    compare.close(f"{key}.evidence_fail", wrong)


def like(rows: torch.Tensor, stored: torch.Tensor | None) -> torch.Tensor:
    """Return numbers of rows with the axis of length 1 that the original adds to some."""
    return rows if stored is None else rows.reshape(stored.shape)
