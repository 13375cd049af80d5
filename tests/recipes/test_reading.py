"""Reading of recipes: inheritance, and the origin of each value."""

import pytest
import yaml

from internvideo_hf.evaluation import protocols
from internvideo_hf.recipes.reading import TRAININGS, RecipeError, RecipeRegistry

ALL = [(registry, name) for registry in (TRAININGS, protocols.REGISTRY) for name in sorted(registry.files)]
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
    lines = TRAININGS.show("videomae/finetune_base_k400").splitlines()
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


@pytest.mark.timeout(60)  # a bomb would take hours; 5 s were too few on a busy machine
@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("a0: &a0 [l,l]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i},*a{i}]\n" for i in range(20)),
         "the value that begins in line 21 has .* once its aliases"),
        ("a: &a [*a]", "repeats the value that it is part of"),
        ("a: &a {b: *a}", "repeats the value that it is part of"),
        ("a: " + "[" * 5000, "not valid YAML"),
        ("a: 2001-99-99", "not valid YAML"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: b\n" * 50_000, "more than the 200000"),
        ("a: \a", "not valid YAML"),
        ("a: 1\nb: [1", r"not valid YAML: expected .* but got .* in line 2, column \d+\. Correct it\.$"),
        ("- a", "holds a list, expected settings by name"),
        ("", "holds nothing, expected settings by name"),
        ("!!python/object/apply:os.system [ls]", "not valid YAML"),
    ],
)  # fmt: skip
def test_texts_that_are_no_recipe_are_refused_at_once(tmp_path, text, cause):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(RecipeError, match=rf"own\.yaml.*{cause}") as refused:
        TRAININGS.read(tmp_path / "own.yaml")
    assert "\n" not in str(refused.value)


def test_the_bomb_is_refused_in_overrides_too():
    with pytest.raises(RecipeError, match="data=.*the value is not valid YAML.*repeats the value"):
        TRAININGS.read("demo/mm", ["data=&a [*a]"])


def test_aliases_that_repeat_a_value_are_read(tmp_path):
    # As `safe_dump` writes a list that stands in two places.
    (tmp_path / "own.yaml").write_text("a: &id001 [1, 2]\nb: *id001\n")
    assert TRAININGS.read(tmp_path / "own.yaml") == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("extends", "words"),
    [
        (
            "videomae/finetune_bas",
            r"mine\.yaml extends 'videomae/finetune_bas': No recipe .*Did you mean videomae/fine",
        ),
        ("other.yaml", r"mine\.yaml extends .*other\.yaml.* cannot be read"),
        ("5", r"mine\.yaml: extends is 5, expected one name of a recipe"),
        ("[a, b]", r"mine\.yaml: extends is \['a', 'b'\], expected one name"),
    ],
)
def test_the_file_that_extends_what_cannot_be_is_named(tmp_path, extends, words):
    (tmp_path / "mine.yaml").write_text(f"extends: {extends}", encoding="utf-8")
    with pytest.raises(RecipeError, match=words):
        TRAININGS.read(tmp_path / "mine.yaml")


def test_a_change_without_a_value_is_refused_with_an_example_of_the_command():
    with pytest.raises(RecipeError, match="such as training.learning_rate=1e-4"):
        TRAININGS.read("videomae/finetune_base", ["mixup"])
    with pytest.raises(RecipeError, match="such as processor.num_frames=16"):
        protocols.REGISTRY.read("retrieval/msrvtt", ["merge"])
