"""Texts in scripts that English text towers do not know."""

import pytest

from internvideo_hf.processing import scripts


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ("a dog runs", False),
        ("ein Hund läuft über die Straße", False),
        ("naïve café, ﬁne \uff57\uff49\uff44\uff45", False),
        ("собака бежит", True),
        ("犬が走る", True),
        ("الكلب يركض", True),
        ("a dog, по-русски собака", True),
        ("a dog runs after a кот", False),
        ("12:30!", False),
        ("", False),
    ],
)
def test_most_letters_decide(text, foreign):
    assert scripts.is_foreign(text) == foreign


def test_a_process_is_warned_once(monkeypatch):
    said = []
    monkeypatch.setattr(scripts.logger, "warning_once", said.append)
    scripts.warn_of_foreign(["a dog", "a cat"])
    assert said == []
    scripts.warn_of_foreign(["a dog", "кот"])
    assert said == [scripts.ENGLISH_ONLY]
