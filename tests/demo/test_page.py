"""Words of the page: heading, captions, verdicts, explanations, messages."""

import re

import pytest

from internvideo_hf import VideoDecodeError, demo_path
from internvideo_hf.demo import page, tour
from internvideo_hf.search.calibration import Calibration
from internvideo_hf.search.hits import Hit, Hits
from internvideo_hf.search.index import VideoIndex

HIT = Hit("/videos/a dog.mp4", 8.0, 16.0, 0.3126, 0.9, 4.23, 0.995, 0.001, True)
OTHER = Hit("/videos/a cat.mp4", 0.0, 8.0, 0.1, 0.1, 0.2, 0.5, 5.0, False)
ALONE = Hit("/frames/", None, None, -0.1, 0.5)
MEASURED = Calibration(("a", "b", "c"), cosine=0.7, true=0.9, absent=0.2, gallery=240)


def words_of(text: str) -> str:
    return re.sub("<[^>]*>", " ", text)


def test_the_heading_names_index_and_model_without_their_folders(tmp_path, monkeypatch):
    index = VideoIndex(demo_path("demo-mm"), folder=tmp_path / "my.index")
    said = page.heading(index)
    assert said.startswith("<h1>Search videos</h1>") and "my.index: 0 videos in 0 clips. Model: demo-mm" in said
    assert str(tmp_path) not in said and str(demo_path("demo-mm")) not in said
    assert tour.LIMITS.split("`")[0] in said

    index = VideoIndex(demo_path("demo-mm"))
    monkeypatch.setattr(index, "model", "owner/<b>name")
    said = page.heading(index)
    assert "Videos in memory: 0 videos" in said and "owner/&lt;b&gt;name" in said and "toy models" not in said


def test_a_video_has_as_many_folders_in_its_name_as_tell_it_from_others():
    videos = [
        "/home/a/x/1.mp4",
        "/home/a/y/1.mp4",
        "/home/b/y/1.mp4",
        "/home/a/2.mp4",
        "https://u:p@host/c/3.mp4?key=k",
    ]
    names = page.short_names(videos)
    assert [names[video] for video in videos] == ["x/1.mp4", "a/y/1.mp4", "b/y/1.mp4", "2.mp4", "3.mp4"]
    assert page.short_names(["/1.mp4", "/a/1.mp4"]) == {"/1.mp4": "1.mp4", "/a/1.mp4": "a/1.mp4"}
    assert page.short_names([]) == {}


def test_a_hit_is_told_in_lines_and_a_tick_marks_a_match():
    assert page.caption(2, HIT) == "\u2713 2. a dog.mp4\n0:08-0:16\ncosine 0.313, z +4.2, above 100%"
    assert page.caption(2, OTHER, "pets/a cat.mp4") == "2. pets/a cat.mp4\n0:00-0:08\ncosine 0.100, z +0.2, above 50%"
    assert page.caption(1, ALONE) == "1. frames\ncosine -0.100"
    said = page.caption(1, ALONE, f"{'begin' * 10}{'x' * 100}{'end' * 10}.mp4").split("\n")[0]
    assert said.startswith("1. beginbegin") and said.endswith("endend.mp4") and "\u2026" in said and len(said) == 43


@pytest.mark.parametrize(
    ("hits", "calibration", "line", "terms"),
    [
        ((HIT, OTHER), MEASURED, "1 of these 2 clips matches", ["\u2713 match", "cosine", "z", "above, in percent"]),
        (
            (HIT, HIT, OTHER),
            MEASURED,
            "2 of these 3 clips match",
            ["\u2713 match", "cosine", "z", "above, in percent"],
        ),
        ((OTHER,), MEASURED, "Nothing here matches: these are the nearest of 9 clips", None),
        ((ALONE,), None, "The 1 of 9 clips that are most similar to the example", ["cosine"]),
    ],
)
def test_a_verdict_counts_matches_and_explains_the_scores_that_are_shown(hits, calibration, line, terms):
    said = page.verdict(Hits("q", hits, 9, calibration))
    assert re.findall("<h2>(.*?)</h2>", said) == [line]
    assert terms is None or re.findall("<dt>(.*?)</dt>", said) == terms


def test_a_match_is_explained_by_the_rule_that_made_it():
    measured = words_of(page.verdict(Hits("q", (HIT,), 9, MEASURED)))
    assert "at least 0.700" in measured and "90% of true sentences" in measured and "20% of the sentences" in measured
    assert "with 3 captions" in measured
    assert "one search in twenty" in page.verdict(Hits("q", (HIT,), 9, Calibration(("a", "b"))))


def test_answers_are_a_table_with_headings_and_explained():
    said = page.answers([["<b>", "75.0%", "0.250"], ["b", "25.0%", "-0.100"]])
    assert re.findall('<th scope="col">(.*?)</th>', said) == ["label", "score", "cosine"]
    assert "<td>&lt;b&gt;</td>" in said and said.count('style="width: ') == 2 and "add up to 100%" in said


def test_an_error_tells_the_name_of_a_file_and_not_its_folders():
    error = VideoDecodeError("/secret/clip.mp4", "it is damaged", "Copy it again.")
    assert page.message(error) == "clip.mp4: it is damaged. Copy it again."
    error = VideoDecodeError("/secret/list", "it names /secret/my clips/a.mp4", "Copy it.")
    assert page.message(error) == "list: it names a.mp4. Copy it."
    assert page.message(ValueError("no")) == "no" and page.message(MemoryError()) == "MemoryError"
    assert page.message(FileNotFoundError(2, "No such file", "/secret/a b/c")) == "No such file: 'c'"
    assert page.problem(ValueError("<i>")) == '<div class="problem" role="alert"><p>&lt;i&gt;</p></div>'
