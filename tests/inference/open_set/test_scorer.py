"""Scorers: threshold, saved and loaded, refused for another model and for lists that give no threshold."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from handmade_export import write_folder
from inference.open_set.drawn import CLASSES, QUICK, observations
from inference.test_classifier import folder  # noqa: F401  # a fixture
from safetensors.torch import load_file, save_file

from internvideo_hf import InternVideoMAEForVideoClassification
from internvideo_hf.inference.open_set.methods import METHODS
from internvideo_hf.inference.open_set.observations import Observations
from internvideo_hf.inference.open_set.scorer import OpenSetScorer, Subject

SEEN = observations(80)
OTHERS = observations(60, known=False, seed=2)
SUBJECT = Subject("sha256:1", ["a", "b", "c", "d"], (1, 3))


@pytest.mark.parametrize("name", METHODS)
def test_a_scorer_is_the_same_after_saving(name, tmp_path):
    scorer = OpenSetScorer(name, accepted=0.9, **QUICK.get(name, {})).fit(SEEN, SUBJECT)
    scores = scorer.score(SEEN)
    assert (scorer.known_scores <= scorer.threshold).mean() == pytest.approx(0.9, abs=0.02)
    assert scorer.is_unknown(scorer.score(OTHERS)).float().mean() > 0.5
    scorer.save(tmp_path / "model/open_set")
    for place in (tmp_path / "model/open_set", tmp_path / "model"):
        loaded = OpenSetScorer.load(place)
        assert loaded.score(SEEN).equal(scores) and loaded.threshold == scorer.threshold
        assert (loaded.accepted, loaded.rule, loaded.subject) == (0.9, "accepted", SUBJECT)
        assert loaded.method.options() == scorer.method.options()
        loaded.check(SUBJECT)


def test_tensors_without_views_are_taken_as_one():
    scorer = OpenSetScorer("openmax").fit(SEEN)
    expected = scorer.score(Observations(SEEN.logits[:, :1], SEEN.features[:, :1]))
    assert scorer.score(SEEN.logits[:, 0], features=SEEN.features[:, 0]).equal(expected)
    assert OpenSetScorer("mc_dropout").fit(SEEN).score(samples=SEEN.samples[:, 0]).shape == (80,)


def test_a_rank_is_the_fraction_of_known_videos_below():
    scorer = OpenSetScorer("max_logit").fit(SEEN)
    scores = torch.tensor([-np.inf, scorer.known_scores[40], np.inf])
    assert scorer.rank(scores).tolist() == [0, 0.5, 1]
    assert scorer.is_unknown(torch.tensor([scorer.threshold, scorer.threshold + 1])).tolist() == [False, True]


def test_a_learned_layer_scores_videos_that_it_has_not_seen():
    """Labels by chance: a layer knows those it was fitted to, and no others; the threshold must not be theirs."""
    draws = torch.Generator().manual_seed(0)
    seen = [
        Observations(torch.zeros(40, 1, 4), torch.randn(40, 1, 60, generator=draws), labels=torch.arange(40) % 4)
        for _ in range(2)
    ]
    scorer = OpenSetScorer("bayesian", steps=40, learning_rate=0.1).fit(seen[0])
    accepted = [1 - scorer.is_unknown(scorer.score(part)).float().mean().item() for part in seen]
    assert accepted[0] == 1 and accepted[1] > 0.8


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (SEEN.of([]), "0 readable videos, expected two or more"),
        (SEEN.of([0, 4, 8]), "All 3 videos of the validation list are of class 0"),
        (replace(SEEN, labels=None), "learns from labels, and the validation list has none"),
        (replace(SEEN, labels=SEEN.labels + 1), "Labels go from 1 to 4, expected 0 to 3"),
        (replace(SEEN, features=None), "reads features and logits, and got logits, samples, labels: features missing"),
        (replace(SEEN, logits=None), "logits missing"),
    ],
)
def test_lists_that_give_no_threshold_are_refused(seen, message):
    with pytest.raises(ValueError, match=message):
        OpenSetScorer("openmax").fit(seen)


def test_numbers_that_are_none_are_refused():
    scorer = OpenSetScorer("energy").fit(SEEN)
    with pytest.raises(ValueError, match="not finite"):
        scorer.score(torch.full((2, CLASSES), torch.nan))


def test_another_model_is_refused(folder):  # noqa: F811
    model = InternVideoMAEForVideoClassification.from_pretrained(folder)
    subject = Subject.of(model, (1, 3))
    scorer = OpenSetScorer("energy").fit(SEEN, subject)
    scorer.check(Subject.of(InternVideoMAEForVideoClassification.from_pretrained(folder, dtype=torch.float32)))
    half = InternVideoMAEForVideoClassification.from_pretrained(folder).to(torch.float16)
    scorer.check(Subject.of(half))  # it rounds, and is the same model
    with pytest.raises(ValueError, match=r"fitted on 1x3 views \(clips x crops\) of each video, and got 5x3"):
        scorer.check(replace(subject, views=(5, 3)))
    with pytest.raises(ValueError, match="fitted for 3 classes, and got 4"):
        scorer.check(SUBJECT)
    with pytest.raises(ValueError, match="fitted for 3 classes, and got 4"):
        scorer.score(SEEN.logits)
    with pytest.raises(ValueError, match="fitted for another model. Fit one"):
        scorer.check(replace(subject, classes=["x", "y", "z"]))
    model.classifier.weight.data[0, 0] += 1e-3
    with pytest.raises(ValueError, match="of the same classes with other weights"):
        scorer.check(Subject.of(model))


def test_a_scorer_of_int8_is_of_one_calibration(tmp_path):
    first, second = (
        InternVideoMAEForVideoClassification.from_pretrained(
            write_folder(tmp_path / graphs, dtype="int8", graphs=graphs * 64, calibration={"clips": 100})
        )
        for graphs in "12"
    )
    scorer = OpenSetScorer("energy").fit(SEEN, Subject.of(first))
    scorer.check(Subject.of(first))
    with pytest.raises(ValueError, match="of the same classes with other weights"):
        scorer.check(Subject.of(second))


def test_classifiers_of_no_choice_are_refused(folder):  # noqa: F811
    model = InternVideoMAEForVideoClassification.from_pretrained(folder)
    model.config.problem_type = "multi_label_classification"
    with pytest.raises(
        ValueError, match="problem_type='multi_label_classification' and label_heads=.. does not choose"
    ):
        Subject.of(model)
    model.config.problem_type, model.config.num_labels = None, 1
    with pytest.raises(ValueError, match="A classifier of 1 classes"):
        Subject.of(model)


def test_scorers_that_are_not_fitted_are_refused(tmp_path):
    for use in (
        lambda scorer: scorer.is_unknown(torch.zeros(1)),
        lambda scorer: scorer.rank(torch.zeros(1)),
        lambda scorer: scorer.save(tmp_path / "no"),
    ):
        with pytest.raises(ValueError, match="no threshold. Call fit"):
            use(OpenSetScorer("energy"))
    with pytest.raises(ValueError, match="openmax is not fitted"):
        OpenSetScorer("openmax").score(SEEN)
    with pytest.raises(ValueError, match="accepted=1.5"):
        OpenSetScorer("energy", accepted=1.5)
    assert not (tmp_path / "no").exists()


def test_folders_that_hold_no_scorer_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no open-set scorer .*Fit one: `internvideo calibrate MODEL"):
        OpenSetScorer.load(tmp_path)
    folder = tmp_path / "scorer"  # noqa: F811
    OpenSetScorer("openmax").fit(SEEN, SUBJECT).save(folder)
    settings = json.loads((folder / "open_set.json").read_text())
    for broken in ({"method": "other"}, {"threshold": float("nan")}, {"options": {"x": 1}}, {"model": {}}):
        (folder / "open_set.json").write_text(json.dumps(settings | broken))
        with pytest.raises(ValueError, match="holds no open-set scorer"):
            OpenSetScorer.load(folder)
    (folder / "open_set.json").write_text(json.dumps(settings))
    tensors = load_file(folder / "open_set.safetensors")
    save_file({"method.means": tensors["method.means"]}, folder / "open_set.safetensors")
    with pytest.raises(ValueError, match="holds no open-set scorer .'known_scores'"):
        OpenSetScorer.load(folder)
    tensors["known_scores"][1] = float("nan")
    save_file(tensors, folder / "open_set.safetensors")
    with pytest.raises(ValueError, match=rf"of {len(SEEN)} known videos, {len(SEEN) - 1} with a score"):
        OpenSetScorer.load(folder)


def test_a_mistyped_folder_is_not_looked_for_on_the_hub(monkeypatch):
    monkeypatch.setattr("internvideo_hf.inference.open_set.scorer.hf_hub_download", None)
    with pytest.raises(ValueError, match="nosuch holds no open-set scorer .it is neither a directory nor a Hub"):
        OpenSetScorer.load("nosuch")
