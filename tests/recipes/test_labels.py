"""Class names of the data sets, and their rows in a head of Kinetics-710."""

import pytest

from internvideo_hf.recipes.labels import (
    LABEL_SETS,
    ROWS_IN_K710,
    check_classes_name,
    load_labels,
    read_classes,
    rows_in_k710,
)
from internvideo_hf.recipes.reading import RecipeError

CLASSES = {"k400": 400, "k600": 600, "k700": 700, "k710": 710, "ssv1": 174, "ssv2": 174, "mit": 339}
CLASSES |= {"anet": 200, "ucf101": 101, "hmdb51": 51, "ava": 80}


@pytest.mark.parametrize("name", LABEL_SETS)
def test_every_set_has_its_classes_once(name):
    labels = load_labels(name)
    assert len(labels) == len(set(labels)) == CLASSES[name]
    assert all(label == label.strip() and label for label in labels)


@pytest.mark.parametrize("name", ROWS_IN_K710)
def test_rows_of_a_smaller_set_are_distinct_rows_of_the_large_one(name):
    rows = rows_in_k710(name)
    assert len(set(rows)) == CLASSES[name] and set(rows) <= set(range(CLASSES["k710"]))


def test_an_unknown_set_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="'k401', expected one of k400.*Did you mean k4"):
        load_labels("k401")


def test_classes_are_those_of_a_set_or_of_a_file(tmp_path):
    assert read_classes("hmdb51", tmp_path) == load_labels("hmdb51")
    (tmp_path / "mine.txt").write_text("\ufeffrun \n\nwalk, slowly\n")
    assert read_classes("mine.txt", tmp_path) == ["run", "walk, slowly"]
    for name, content, words in [
        ("two.txt", "run\nwalk\nrun\n", "two.txt has run twice"),
        ("none.txt", "\n", "none.txt has no names"),
        (
            "gone.txt",
            None,
            "data.labels: got 'gone.txt', expected one of k400.*data root, it cannot be read",
        ),
    ]:
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(RecipeError, match=words):
            read_classes(name, tmp_path)
    with pytest.raises(RecipeError, match="mine.txt, the names of the classes: the data root .*gone is not a folder"):
        read_classes("mine.txt", tmp_path / "gone")
    check_classes_name("gone.txt")
    with pytest.raises(RecipeError, match="data.labels: got 'k401'.*k400"):
        check_classes_name("k401")
