"""Caption cleaning of the training code."""

import pytest

from internvideo_hf.recipes import load_prompts
from internvideo_hf.recipes.captions import clean_caption


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("A man, riding a bike!", "a man riding a bike"),
        ("don't stop", "dont stop"),
        ("hand-made and/or <PERSON>", "hand made and or person"),
        ("  two   spaces \n", "two spaces"),
        ("?!", ""),
    ],
)
def test_punctuation_goes_and_hyphens_part_words(text, clean):
    assert clean_caption(text) == clean


def test_words_beyond_the_limit_are_cut():
    assert clean_caption("one, two, three", max_words=2) == "one two"


def test_an_unknown_rule_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'clip', expected one of viclip"):
        clean_caption("a dog", rule="clip")


def test_prompts_of_viclip_are_those_of_kinetics_cleaned_and_their_cosines_averaged():
    prompts = load_prompts()
    assert prompts["viclip"].templates == prompts["kinetics"].templates and len(prompts["viclip"].templates) == 16
    assert (prompts["viclip"].clean, prompts["viclip"].mean_of) == ("viclip", "cosines")
    assert (prompts["kinetics"].clean, prompts["kinetics"].mean_of) == (None, "probabilities")
