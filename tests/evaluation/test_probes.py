"""Recipes and solvers of probes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from internvideo_hf.evaluation.probes import Training, fit, held_out, load_probe, probe_names
from internvideo_hf.recipes.reading import RecipeError

CPU = torch.device("cpu")


def blobs(clips: int, classes: int, dim: int, spread: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    middles = torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(clips) % classes
    return middles[labels] + spread * torch.randn(clips, dim, generator=random), labels


def test_the_package_has_a_linear_and_an_attentive_probe():
    assert probe_names() == ["attentive", "linear"]


@pytest.mark.parametrize("penalty", [1e-3, 1e-1])
def test_a_linear_probe_is_the_regression_of_scikit_learn(penalty):
    rows, labels = blobs(60, 3, 5, 1.5)
    rows = rows * torch.tensor([1.0, 100.0, 0.01, 3.0, 1.0]) + 7
    rows = torch.cat([rows, torch.full((60, 1), 5.0)], dim=1)  # a channel that tells nothing
    score = load_probe("linear").train(Training(rows, labels, 3, CPU), penalty, 0)
    known = (rows[:, :5] - rows[:, :5].mean(dim=0)) / rows[:, :5].std(dim=0, correction=0)
    # scikit-learn's C weighs the sum of the losses, not their mean.
    stock = LogisticRegression(C=1 / (penalty * 60), tol=1e-10, max_iter=10_000).fit(known.double().numpy(), labels)
    np.testing.assert_allclose(score(rows).softmax(dim=1), stock.predict_proba(known.double().numpy()), atol=1e-4)


def test_the_best_penalty_on_the_held_out_part_is_taken():
    recipe = replace(load_probe("linear"), penalties=[1e-6, 0.3, 1e4])
    rows, labels = blobs(90, 3, 20, 4.0)
    fitted = fit(recipe, Training(rows, labels, 3, CPU), seed=0)
    held = torch.from_numpy(held_out(labels.numpy(), 0.2, 0))
    assert fitted.held_out == held.sum() == 18
    losses = []
    for penalty in recipe.penalties:
        known = (rows - rows[~held].mean(dim=0)) / rows[~held].std(dim=0, correction=0)
        stock = LogisticRegression(C=1 / (penalty * 72), tol=1e-8, max_iter=10_000)
        stock.fit(known[~held].double().numpy(), labels[~held])
        losses.append(-np.log(stock.predict_proba(known[held].double().numpy())[range(18), labels[held]]).mean())
    assert fitted.chosen == recipe.penalties[int(np.argmin(losses))] == 0.3


def test_of_one_clip_of_each_class_nothing_is_held_out():
    rows, labels = blobs(3, 3, 4, 0.1)
    fitted = fit(load_probe("linear"), Training(rows, labels, 3, CPU), seed=0)
    assert (fitted.chosen, fitted.held_out) == (0.01, 0)
    assert fitted.score(rows).argmax(dim=1).tolist() == [0, 1, 2]


def test_what_is_held_out_is_a_part_of_each_class():
    labels = np.array([0] * 10 + [1] * 2 + [2])
    held = held_out(labels, 0.2, 3)
    assert [int(held[labels == label].sum()) for label in range(3)] == [2, 1, 0]
    assert np.array_equal(held, held_out(labels, 0.2, 3))
    assert not np.array_equal(held, held_out(labels, 0.2, 4))


def test_an_attentive_probe_finds_the_token_that_tells():
    """Of nine tokens one has the class, at a random place and along one of two marks; their mean is noise."""
    random = torch.Generator().manual_seed(0)
    tokens, labels = torch.randn(240, 9, 16, generator=random), torch.arange(240) % 2
    places = torch.randint(9, (240,), generator=random)
    tokens[:, :, 0] = 0.0
    tokens[torch.arange(240), places, 0] = 6.0
    tokens[torch.arange(240), places, 1] = torch.where(labels == 0, 3.0, -3.0)
    recipe = load_probe("attentive", ["learning_rates=[1e-2]", "learning_rate=1e-2", "least_steps=120"])
    training = Training(tokens[:160].half(), labels[:160], 2, CPU)
    fitted = fit(recipe, training, seed=0)
    found = fitted.score(tokens[160:].half()).argmax(dim=1)
    assert (found == labels[160:]).float().mean() > 0.95
    mean = fit(load_probe("linear"), Training(tokens[:160].mean(dim=1), labels[:160], 2, CPU), seed=0)
    assert (mean.score(tokens[160:].mean(dim=1)).argmax(dim=1) == labels[160:]).float().mean() < 0.9
    again = fit(recipe, training, seed=0).score(tokens[160:].half())
    assert torch.equal(again, fitted.score(tokens[160:].half()))
    state = torch.random.get_rng_state()
    fit(replace(recipe, least_steps=1, epochs=1), training, seed=1)
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_rate_rises_and_falls(monkeypatch):
    rates: list[float] = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: rates.append(self.param_groups[0]["lr"]) or step(self))
    recipe = load_probe("attentive", ["least_steps=20", "epochs=1", "warmup=0.2"])
    recipe.train(Training(torch.randn(4, 3, 8), torch.arange(4) % 2, 2, CPU), 0.1, 0)
    expected = [0.1 * (n + 1) / 4 for n in range(4)] + [0.05 * (1 + np.cos(np.pi * n / 16)) for n in range(16)]
    np.testing.assert_allclose(rates, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("linaer", [], "linear"),
        ("linear", ["penalty=0"], "penalty is 0, expected a number above 0"),
        ("linear", ["penalties=[]"], r"penalties is \[\], expected a number above 0"),
        ("linear", ["epochs=3"], "epochs"),
        ("attentive", ["held_out=1"], "held_out is 1.*ratio above 0 and below 1"),
        ("attentive", ["depth=0"], "depth is 0, expected 1 or more"),
        ("attentive", ["probe=tree"], "probe"),
    ],
)
def test_wrong_recipes_are_refused(name, changes, words):
    with pytest.raises(RecipeError, match=words):
        load_probe(name, changes)


def test_a_recipe_may_be_a_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: frozen/attentive\ndepth: 3\n")
    assert load_probe(tmp_path / "mine.yaml").depth == 3
