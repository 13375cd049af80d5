"""`recipes`; `train` is tested in tests/training."""

from program import run


def test_recipes_are_listed_and_shown():
    listed = run("recipes").stdout
    assert "videomae/finetune_base_k400" in listed
    shown = run("recipes", "videomae/finetune_base_k400").stdout
    assert "layer_decay: 0.75" in shown  # of what it extends
