"""Class names of the data sets, and their rows in a head of Kinetics-710."""

import pytest

from internvideo_hf.recipes.labels import LABEL_SETS, ROWS_IN_K710, load_labels, rows_in_k710

CLASSES = {"k400": 400, "k600": 600, "k700": 700, "k710": 710, "ssv1": 174, "ssv2": 174, "mit": 339}
CLASSES |= {"anet": 200, "ucf101": 101, "hmdb51": 51}


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
