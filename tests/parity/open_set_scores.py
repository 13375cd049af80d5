"""Adapters of the open-set kinds that tell known from unknown videos: baselines, thresholds and metrics."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from internvideo_hf.inference.merging import top_k_accuracies
from internvideo_hf.inference.open_set.last_layers import (
    BayesianLinear,
    bayesian_losses,
    point_logits,
    point_losses,
    split_variance,
)
from internvideo_hf.inference.open_set.methods import entropy, make_method, mutual_information
from internvideo_hf.inference.open_set.observations import Observations
from internvideo_hf.inference.open_set.openmax import distances, openmax, tail_probability
from internvideo_hf.inference.open_set.thresholds import RULES, find_threshold
from internvideo_hf.tasks.open_set.metrics import (
    accuracy,
    calibration_error,
    decision_auc,
    doubt_of_right_and_wrong,
    open_macro_f1,
    ranking_scores,
)
from parity.compare import Comparison, load_config, load_tensors

_TINY = 1e-300  # below the logarithms of probabilities


def openset_baselines(folder: Path, tmp_path: Path) -> None:
    config, stored = load_config(folder), load_tensors(folder)
    inputs = ("features", "labels", "hsic.x", "hsic.y", "openmax.weibull_scale_shape")
    parts = (r".*\.centers", r"bnn\.bnn_layer\..*", r"openmax\.(mav|feature|score|dist_features)")
    compare = Comparison(stored, (*inputs, *(name for name in stored if re.fullmatch("|".join(parts), name))))
    for name, section in (("RPLoss", "rpl"), ("GCPLoss", "gcp")):
        if f"{name}.centers" in stored:
            _check_points(name, config.get(section, config.get("rpl", {})), compare)
    if "bnn.bnn_layer.weight_mu" in stored:
        _check_bayesian(config["bnn"], compare)
    if "openmax.mav" in stored:
        _check_openmax(compare)
    if "hsic.x" in stored:
        _check_dependence(compare)
    compare.finish()


def _check_accuracies(name: str, logits: torch.Tensor, compare: Comparison) -> None:
    for top, value in top_k_accuracies(logits.detach().numpy(), compare.stored["labels"].numpy()).items():
        compare.close(f"{name}.{top.replace('-', '')}_acc", torch.tensor(value / 100))


def _check_points(name: str, config: dict, compare: Comparison) -> None:
    features, centers = (compare.stored[key] for key in ("features", f"{name}.centers"))
    reciprocal = name == "RPLoss"
    logits = point_logits(features, centers, reciprocal)
    compare.close(f"{name}.dist", logits)
    # The metric that no head of the original uses.
    compare.close(f"{name}.dist_l2", (features[:, None] - centers).square().mean(dim=-1))
    if (labels := compare.stored.get("labels")) is None:
        return
    towards = torch.tensor(float(config.get("radius", 0))) if reciprocal else centers
    terms = point_losses(features, logits, labels, towards, config.get("temperature", 1), config.get("weight_pl", 0.1))
    compare.close(f"{name}.loss_cls", terms["cls"])
    compare.close(f"{name}.loss_open", terms["open"])
    _check_accuracies(name, logits, compare)


def _check_bayesian(config: dict, compare: Comparison) -> None:
    stored = compare.stored
    weights = {name.removeprefix("bnn.bnn_layer."): value for name, value in stored.items() if "bnn_layer." in name}
    classes, dim = weights["weight_mu"].shape
    layer = BayesianLinear(dim, classes)
    layer.load_state_dict(weights)
    for mode in [mode for mode in ("train", "eval") if mode in config]:
        draws = torch.Generator().manual_seed(config[mode]["torch_seed"])
        outputs, priors, posteriors = layer(stored["features"], config[mode]["npass"], draws, mode == "eval")
        compare.close(f"bnn.{mode}_outputs", outputs)
        if mode == "train":
            compare.close("bnn.train_log_prior", priors)
            compare.close("bnn.train_log_posterior", posteriors)
            if "labels" in stored:
                _check_bayesian_loss(outputs, priors, posteriors, config[mode].get("beta", 1e-6), compare)
        else:
            compare.close("bnn.eval_log_prior", torch.zeros(len(outputs)))  # not computed in tests
            for name, value in zip(("aleatoric", "epistemic"), split_variance(outputs), strict=True):
                compare.close(f"bnn.{name}", value)


def _check_bayesian_loss(outputs, priors, posteriors, beta: float, compare: Comparison) -> None:
    terms = bayesian_losses(outputs, priors, posteriors, compare.stored["labels"], beta)
    compare.close("bnn.loss.loss_cls", terms["cls"])
    compare.close("bnn.loss.loss_complexity", terms["complexity"])
    compare.close("bnn.loss.LOSS_total", terms["cls"] + terms["complexity"])
    compare.close("bnn.total", terms["cls"] + terms["complexity"])
    compare.close("bnn.loss.log_prior", beta * priors.mean())
    compare.close("bnn.loss.log_posterior", beta * posteriors.mean())
    _check_accuracies("bnn.loss", outputs.mean(dim=0), compare)


def _check_openmax(compare: Comparison) -> None:
    """Compare distances and probabilities by channel, as the original calls the views of features."""
    stored = {name: value.double() for name, value in compare.stored.items() if name.startswith("openmax.")}
    means = stored["openmax.mav"].transpose(0, 1)  # (channels, classes, dim)
    if "openmax.dist_features" in stored:
        features = stored["openmax.dist_features"].transpose(0, 1)
        found = {
            kind: torch.stack([distances(*pair, kind) for pair in zip(features, means, strict=True)], dim=1)
            for kind in ("eu", "cos", "eucos")
        }
        # The original measures the features of one class from its mean; the case does not say of which.
        gaps = [
            (values - stored[f"openmax.{kind}"][..., None]).abs().sum(dim=(0, 1))
            for kind, values in found.items()
            if f"openmax.{kind}" in stored
        ]
        own = int(sum(gaps, start=torch.zeros(found["eu"].shape[-1])).argmin())
        for kind, values in found.items():
            compare.close(f"openmax.{kind}", values[..., own])
    if "openmax.feature" not in stored:
        return
    channels = zip(stored["openmax.feature"], means, strict=True)
    found = torch.stack([distances(feature, mean) for feature, mean in channels])
    scale_and_shape = stored["openmax.weibull_scale_shape"]
    tails = torch.cat([torch.zeros_like(scale_and_shape[..., :1]), scale_and_shape], dim=-1)
    outside = tail_probability(found, tails)
    for name in [name for name in stored if re.fullmatch(r"openmax\.prob_rank\d+", name)]:
        rank = int(name.removeprefix("openmax.prob_rank"))
        compare.close(name, openmax(stored["openmax.score"], outside, rank).mean(dim=0, keepdim=True))


def _check_dependence(compare: Comparison) -> None:
    """Compare the loss of the debias head, which no model of this package has: the formulas stand here alone."""
    kernels = []
    for name in ("hsic.x", "hsic.y"):
        rows = compare.stored[name]
        kernels.append((-torch.cdist(rows, rows).square() / (2 * rows.shape[1])).exp())
    rows, found = len(kernels[0]), {"biased": torch.zeros(()), "unbiased_as_written": torch.zeros(())}
    if rows >= 4:
        centered = [kernel - kernel.mean(dim=0, keepdim=True) for kernel in kernels]
        found["biased"] = torch.trace(centered[0] @ centered[1]) / (rows - 1) ** 2
        k, m = (kernel - kernel.diagonal() for kernel in kernels)  # of a row, where a zero diagonal was meant
        sums = k.sum() * m.sum() / (rows - 1) / (rows - 2) - 2 * k.sum(dim=0) @ m.sum(dim=0) / (rows - 2)
        found["unbiased_as_written"] = (torch.trace(k @ m) + sums) / (rows * (rows - 3))
    for name, value in found.items():
        compare.close(f"hsic.{name}", value)
    cosine = nn.functional.cosine_similarity(compare.stored["hsic.x"], compare.stored["hsic.y"], dim=1)
    compare.close("hsic.cosine", cosine.abs().mean())


def openset_threshold_auc(folder: Path, tmp_path: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    scores = {name: torch.from_numpy(value) for name, value in np.load(folder / "scores.npz").items()}
    wide_file = folder / "softmax_float64.npz"
    tensors_file = folder / "io.safetensors"
    tensors = load_file(tensors_file) if tensors_file.exists() else {}
    wide = {name: torch.from_numpy(value) for name, value in np.load(wide_file).items()} if wide_file.exists() else {}
    case = _ThresholdCase(load_config(folder)["num_known"], scores, tensors, wide, results)
    for name, check in case.checks().items():
        if name in results:
            check(results[name])
    known = {*case.checks(), "compare_openness.note"}
    assert set(results) <= known, f"stored but never compared: {sorted(set(results) - known)}"
    case.check_tensors()


class _ThresholdCase:
    """The stored numbers of a case; each check compares one of its results."""

    def __init__(self, num_known: int, scores: dict, tensors: dict, wide: dict, results: dict):
        self.num_known, self.tensors, self.wide, self.results = num_known, tensors, wide, results
        self.scores = {name: value.numpy() for name, value in scores.items()}

    def checks(self) -> dict[str, Callable]:
        return {
            "get_threshold": lambda stored: self.threshold(stored, "accepted"),
            "get_threshold_dist": lambda stored: self.threshold(stored, "published_inverted"),
            "compare_openness_new.no_threshold": lambda stored: self.ranking(stored, None),
            "compare_openness_new.at_threshold": lambda stored: self.ranking(stored, "accepted"),
            "compare_openness_new.at_dist_threshold": lambda stored: self.ranking(stored, "published_inverted"),
            "compare_openness.stdout": self.openness,
            "softmax_threshold": self.softmax_threshold,
            "softmax.max_prob_no_threshold": lambda stored: self.softmax(stored, None),
            "softmax.max_prob_threshold": lambda stored: self.softmax(stored, "published_softmax"),
            "openmax.binary": self.openmax_binary,
            "baseline_openmax.evaluate": self.openmax_published,
            "calibration": self.calibration,
        }

    def float64(self, name: str) -> np.ndarray:
        names = [own for own in (f"softmax_{name}", name) if own in self.tensors]  # a plain one is of uncertainties
        return (self.wide[name] if name in self.wide else self.tensors[names[0]].double()).numpy()

    def threshold(self, stored: dict, rule: str) -> None:
        train = self.scores["train_unctt"].astype(np.float64)
        found = find_threshold(train, 0.95, rule)
        assert found == pytest.approx(stored["threshold"], rel=1e-12)
        assert (train <= found).mean() == pytest.approx(stored["fraction_of_training_at_or_below"])
        count = len(train) - int(0.95 * len(train))
        assert count == stored["topK"] and RULES[rule](len(train), 0.95) in (len(train) - count, count - 1)

    def compare(self, stored: dict, labels, answers, known, unknown) -> None:
        found = ranking_scores(known, unknown)
        found["closed_set_acc"] = accuracy(labels, answers)
        names = {"auroc": "AUROC", "aupr": "AUPR", "fpr95": "FPR95"}
        assert {name: found[names.get(name, name)] / 100 for name in stored} == pytest.approx(stored, rel=1e-6)

    def found_threshold(self, rule: str) -> np.float32:
        return np.float32(find_threshold(self.scores["train_unctt"].astype(np.float64), 0.95, rule))

    def ranking(self, stored: dict, rule: str | None) -> None:
        known, unknown = self.scores["ind_unctt"], self.scores["ood_unctt"]
        if rule is not None:
            known, unknown = (side > self.found_threshold(rule) for side in (known, unknown))
            assert decision_auc(known, unknown) == pytest.approx(100 * stored["auroc"], rel=1e-6)
        self.compare(stored, self.scores["ind_label"], self.scores["ind_pred"], known, unknown)

    def openness(self, stored: list[str]) -> None:
        threshold = self.found_threshold("accepted")
        answers, rejected = {}, {}
        for side in ("ind", "ood"):
            rejected[side] = self.scores[f"{side}_unctt"] > threshold
            answers[side] = np.where(rejected[side], self.num_known, self.scores[f"{side}_pred"])
        labels = {side: self.scores[f"{side}_label"] for side in ("ind", "ood")}
        note = str(self.results.get("compare_openness.note", ""))
        seed, draws = (re.search(word, note) for word in (r"seed (\d+)", r"(\d+) random"))
        random = np.random.RandomState(int(seed[1]) if seed else 123)
        draws = int(draws[1]) if draws else 10
        f1 = open_macro_f1(labels["ind"], answers["ind"], labels["ood"], answers["ood"], self.num_known, random, draws)
        found = [
            accuracy(labels["ind"], self.scores["ind_pred"]),
            decision_auc(rejected["ind"], rejected["ood"]),
            f1.mean,
            f1.deviation,
        ]
        printed = [float(number) for line in stored for number in re.findall(r"\d+\.\d+", line)]
        assert found == pytest.approx(printed, abs=1e-3)

    def softmax_scores(self, side: str) -> np.ndarray:
        logits = torch.from_numpy(self.float64(side)).clamp(min=_TINY).log()[:, None]
        return make_method("max_softmax").score(Observations(logits=logits)).numpy()

    def softmax_threshold(self, stored: float) -> None:
        found = find_threshold(self.softmax_scores("train"), 0.95, "published_softmax")
        assert 1 - found == pytest.approx(stored, rel=1e-6)

    def softmax(self, stored: dict, rule: str | None) -> None:
        known, unknown = self.softmax_scores("ind"), self.softmax_scores("ood")
        if rule is not None:
            threshold = find_threshold(self.softmax_scores("train"), 0.95, rule)
            known, unknown = known > threshold, unknown > threshold
        answers = self.float64("ind").argmax(axis=1)
        self.compare(stored, self.scores["ind_label"], answers, known, unknown)

    def openmax_binary(self, stored: dict) -> None:
        answers = {side: self.float64(f"openmax_{side}").argmax(axis=1) for side in ("ind", "ood")}
        known, unknown = (answers[side] == self.num_known for side in ("ind", "ood"))
        self.compare(stored, self.scores["ind_label"], answers["ind"], known, unknown)

    def openmax_published(self, stored: dict) -> None:
        answers = {side: self.float64(f"openmax_{side}").argmax(axis=1) for side in ("ind", "ood")}
        labels = {side: self.scores[f"{side}_label"] for side in ("ind", "ood")}
        # Reference: the known class 1 counts as unknown, too, where the area is computed.
        unknown = [np.isin(answers[side], (1, self.num_known)) for side in ("ind", "ood")]
        draws = (np.random.RandomState(stored["numpy_seed"]), stored["num_rand"])
        f1 = open_macro_f1(labels["ind"], answers["ind"], labels["ood"], answers["ood"], self.num_known, *draws)
        found = [accuracy(labels["ind"], answers["ind"]), decision_auc(*unknown), f1.mean, f1.deviation]
        printed = [float(number) for line in stored["stdout"] for number in re.findall(r"\d+\.\d+", line)]
        assert found == pytest.approx(printed, abs=1e-3)
        assert f1.openness == pytest.approx(stored["openness"])
        assert f1.by_openness == pytest.approx([100 * value for value in stored["macro_f1"]], rel=1e-5)

    def calibration(self, stored: dict) -> None:
        right = self.scores["ind_pred"] == self.scores["ind_label"]
        doubt = self.scores["ind_unctt"].astype(np.float64)
        assert calibration_error(1 - doubt, right) / 100 == pytest.approx(stored["ece"], rel=1e-5)
        confidence = self.scores["ind_conf"].astype(np.float64)
        assert doubt_of_right_and_wrong(confidence, doubt, right) == pytest.approx(stored["eavuc"], rel=1e-5)

    def check_tensors(self) -> None:
        """Compare the disagreement of passes; the other tensors are copies of what the checks read."""
        files = ("train", "ind", "ood", "ind_label", "ood_label", "ind_pred", "ood_pred", "ind_conf", "ood_conf")
        wide = ("softmax_train", "softmax_ind", "softmax_ood", "openmax_ind", "openmax_ood", "mc_probs_BxCxT")
        compare = Comparison(self.tensors, (*files, *wide))
        if "mc_probs_BxCxT" in self.tensors:
            passes = self.wide.get("mc", self.tensors["mc_probs_BxCxT"]).double().transpose(1, 2)
            compare.close("bald", mutual_information(passes))  # of (videos, passes, classes)
            compare.close("entropy", entropy(passes.mean(dim=1)))
            samples = Observations(samples=passes.clamp(min=_TINY).log()[:, None])
            compare.close("bald", make_method("mc_dropout").score(samples))
        compare.finish()
