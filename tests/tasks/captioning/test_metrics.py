"""Metrics of captions: words, and scores worked out by hand."""

import sys

import pytest

from internvideo_hf.tasks.captioning.metrics import METRICS, captioning_metrics, tokenize


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A dog runs.", "a dog runs"),
        ("The man's dog don't bark, I'm told!", "the man 's dog do n't bark i 'm told"),
        ("a well-known  \u201csinger\u201d; it\u2019s her", "a well-known singer it 's her"),
        ("3.5 metres & 1,000 people", "3.5 metres 1,000 people"),
        ("...", ""),
    ],
)
def test_captions_are_split_into_words(caption, words):
    assert " ".join(tokenize(caption)) == words


def test_equal_captions_have_the_highest_scores():
    pytest.importorskip("pycocoevalcap", reason="the extra [captions] is not installed")
    texts = ["A red cat sits down.", "the blue bird flies away"]
    found = captioning_metrics(texts, [["a red cat sits down"], ["The blue bird flies away!", "a bird"]])
    # ROUGE-L takes the best recall and precision. CIDEr of the second: 1 of four lengths of one of two references,
    # and "a bird" shares "bird" alone; less than 10 and more than 5.
    assert found["BLEU-4"] == pytest.approx(100) and found["ROUGE-L"] == pytest.approx(100)
    assert 100 * (10 + 5) / 2 < found["CIDEr"] < 1000


def test_scores_by_hand():
    pytest.importorskip("pycocoevalcap", reason="the extra [captions] is not installed")
    # Of 5, 4, 3, 2 words in a row 4, 3, 2, 1 are right: the fourth root of 4/5 * 3/4 * 2/3 * 1/2; no part is shorter.
    # Four of five words in order: 4/5. CIDEr: no word is in both references, so all weigh alike, and the cosines are
    # 4/5, 3/4, 2/3, 1/2 for the first caption, 1 for the second.
    captions, references = ["a b c d e", "v w x y z"], [["a b c d f"], ["v w x y z"]]
    found = captioning_metrics(captions, references)
    cider = 10 * ((4 / 5 + 3 / 4 + 2 / 3 + 1 / 2) / 4 + 1) / 2
    assert found == {
        "BLEU-4": pytest.approx(100 * (9 / 10 * 7 / 8 * 5 / 6 * 3 / 4) ** 0.25),
        "ROUGE-L": pytest.approx(100 * (4 / 5 + 1) / 2),
        "CIDEr": pytest.approx(100 * cider),
    }


def test_an_empty_caption_scores_nothing():
    pytest.importorskip("pycocoevalcap", reason="the extra [captions] is not installed")
    found = captioning_metrics(["a b c d e", ""], [["a b c d e"], ["v w x y z"]])
    # The shorter text is punished: exp(1 - 10 / 5) of 1.
    assert found["BLEU-4"] == pytest.approx(100 * 2.718281828 ** (1 - 2)) and found["ROUGE-L"] == pytest.approx(50)
    assert found["CIDEr"] == pytest.approx(500)


def test_what_cannot_be_compared_is_refused(monkeypatch):
    for captions, references in (([], []), (["a"], []), (["a"], [[]])):
        with pytest.raises(ValueError, match="at least one reference"):
            captioning_metrics(captions, references)
    monkeypatch.setitem(sys.modules, "pycocoevalcap.bleu.bleu", None)
    with pytest.raises(ImportError, match=r"internvideo-hf\[captions\]"):
        captioning_metrics(["a"], [["a"]])
    assert METRICS == ("BLEU-4", "ROUGE-L", "CIDEr")
