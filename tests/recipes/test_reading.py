"""Reading of recipes: inheritance, and the origin of each value."""

import pytest
import yaml

from internvideo_hf.evaluation import protocols
from internvideo_hf.recipes.reading import RecipeError, RecipeRegistry
from internvideo_hf.training import recipes

ALL = [(registry, name) for registry in (recipes.REGISTRY, protocols.REGISTRY) for name in sorted(registry.files)]
DEEPEST = 2  # who reads a recipe opens three files


@pytest.mark.parametrize(("registry", "name"), ALL, ids=[name for _, name in ALL])
def test_a_recipe_extends_at_most_two_others(registry, name):
    chain = [layer for layer, _ in registry.layers(name)]
    assert len(chain) - 1 <= DEEPEST, " < ".join(chain)


@pytest.mark.parametrize(("registry", "name"), ALL, ids=[name for _, name in ALL])
def test_a_shown_recipe_reads_back_equal(registry, name, tmp_path):
    file = tmp_path / "shown.yaml"
    file.write_text(registry.show(name), encoding="utf-8")
    assert registry.read(file) == registry.read(name) == yaml.safe_load(file.read_text(encoding="utf-8"))


def test_a_shown_recipe_names_the_source_of_each_value():
    lines = recipes.REGISTRY.show("videomae/finetune_base_k400").splitlines()
    for line in (
        "  learning_rate: 0.001  # from videomae/_finetune",
        "    drop_path_rate: 0.1  # from videomae/_base",
        "batch_size: 512  # from videomae/finetune_base_k400",
        "source:  # from videomae/_finetune",
    ):
        assert line in lines
    assert "model:" in lines


def test_values_of_every_kind_are_shown(tmp_path):
    (tmp_path / "base.yaml").write_text("a: {b: {}, c: [], d: {e: 1}}\nf: [1, {g: 2}]\nh: text\n", encoding="utf-8")
    own = tmp_path / "own.yaml"
    own.write_text(
        "extends: base.yaml\na: {b: {}, d: null}\nh: {i: 'two\n\n  lines', j: '1e-3', 'k: #l': {m: no}, 400: 1e-3}\n",
        encoding="utf-8",
    )
    registry = RecipeRegistry("", "internvideo recipes")
    shown = tmp_path / "shown.yaml"
    shown.write_text(registry.show(own), encoding="utf-8")
    assert registry.read(shown) == registry.read(own)
    assert registry.read(own) == {
        "a": {"b": {}, "c": [], "d": None},
        "f": [1, {"g": 2}],
        "h": {"i": "two\nlines", "j": "1e-3", "k: #l": {"m": "no"}, 400: 1e-3},
    }
    assert f"d: null  # from {own}" in shown.read_text(encoding="utf-8")
    assert f"f:  # from {tmp_path / 'base.yaml'}" in shown.read_text(encoding="utf-8")


def test_a_circle_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b.yaml", encoding="utf-8")
    (tmp_path / "b.yaml").write_text("extends: a.yaml", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"a\.yaml extends itself through .*b\.yaml and .*a\.yaml\. Break"):
        RecipeRegistry("", "internvideo recipes").read(tmp_path / "a.yaml")
