"""Lookup of names that a user wrote."""

import pytest

from internvideo_hf.utils.names import (
    check_name,
    clock,
    distinct_names,
    lookup,
    printable,
    reason_of,
    with_article,
    without_number,
)

TABLE = {"prob": 1, "score": 2}


def test_a_known_name_is_found():
    assert lookup(TABLE, "score", "merge") == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scores", r"^merge: got 'scores', expected one of prob, score\. Did you mean score\?$"),
        ("x", r"^merge: got 'x', expected one of prob, score\.$"),
        (None, r"^merge: got None"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, message):
    with pytest.raises(ValueError, match=message):
        lookup(TABLE, name, "merge")


def test_a_name_of_a_list_is_checked_by_the_same_rule():
    assert check_name("prob", ("prob", "score"), "merge") == "prob"
    with pytest.raises(ValueError, match=r"^merge: got 'PROP', expected one of prob, score\. Did you mean prob\?$"):
        check_name("PROP", ("prob", "score"), "merge")


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/d/a/x.mp4", "/d/b/y.mp4"], ["x.mp4", "y.mp4"]),
        (["/d/a/x.mp4", "/d/b/x.mp4", "/d/y.mp4"], ["a/x.mp4", "b/x.mp4", "y.mp4"]),
        (["/d/1/a/x.mp4", "/d/2/a/x.mp4", "/d/2/b/x.mp4"], ["1/a/x.mp4", "2/a/x.mp4", "b/x.mp4"]),
        (["/d/x.mp4", "/d/x.mp4"], ["x.mp4", "x.mp4"]),
        (["/x.mp4", "/a/x.mp4"], ["x.mp4", "a/x.mp4"]),
        (["http://h/a/x.mp4", "http://k/a/x.mp4"], ["h/a/x.mp4", "k/a/x.mp4"]),
    ],
)
def test_equal_file_names_are_told_apart_by_their_folders(paths, names):
    assert distinct_names(paths) == names


def test_names_begin_no_later_than_asked_for():
    assert distinct_names(["/r/a/x.mp4", "/q/x.mp4"], ["a/x.mp4", "x.mp4"]) == ["a/x.mp4", "x.mp4"]
    assert distinct_names(["/r/a/x.mp4", "/q/a/x.mp4"], ["a/x.mp4", "x.mp4"]) == ["a/x.mp4", "x.mp4"]


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("InternVideoMMModel", "an InternVideoMMModel"),
        ("UniFormerV2Model", "a UniFormerV2Model"),
        ("'internvideo'", "an 'internvideo'"),
        ("ViCLIPModel", "a ViCLIPModel"),
        ("int", "an int"),
        ("umbrella", "an umbrella"),
        ("", "a "),
    ],
)
def test_nouns_have_their_article(noun, expected):
    assert with_article(noun) == expected


def test_the_caller_says_which_error():
    with pytest.raises(LookupError, match="merge: got 'x'"):
        lookup(TABLE, "x", "merge", LookupError)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[31mred\n.mp4", r"a\x1b[31mred\n.mp4"),
        ("\x9b2J\x07\r\t\x7f", r"\x9b2J\x07\r\t\x7f"),
        ("gpj.\u202e\u2066exe\u2028", r"gpj.\u202e\u2066exe\u2028"),
        (b"caf\xe9.mp4".decode("utf-8", "surrogateescape"), r"caf\udce9.mp4"),
        (
            "海辺\u3000の \u0639\u0631\u0628\u064a é👩‍👧 100%.mp4",
            "海辺\u3000の \u0639\u0631\u0628\u064a é👩‍👧 100%.mp4",
        ),
    ],
)
def test_names_never_command_a_terminal(name, shown):
    assert printable(name) == shown
    assert printable(shown) == shown


def test_lines_stay_where_they_are_meant():
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(5, "Input/output error", "a.mp4"), "Input/output error"),
        (OSError("[Errno 95] Operation not supported"), "Operation not supported"),
        (ValueError("first\nsecond"), "first"),
        (ValueError(), "ValueError"),
    ],
)
def test_the_reason_of_an_error_is_one_line_without_its_number(error, reason):
    assert reason_of(error) == reason
    assert without_number(FileNotFoundError(2, "No such file", "a.mp4")) == "No such file: 'a.mp4'"


def test_times_are_read_like_a_clock():
    assert (clock(0), clock(59.96), clock(3725.5)) == ("0:00:00.0", "0:01:00.0", "1:02:05.5")
