"""`caption` and `ask`: outputs and exit codes."""

import json

import pytest
from conftest import ANSWERS
from program import assert_refused, run


def test_caption_describes_what_it_can_and_lists_the_rest_last(captioner, bikes, tmp_path):
    (tmp_path / "damaged.mp4").write_text("no video")
    done = run("caption", bikes, tmp_path / "damaged.mp4", "--model", captioner, "--max-tokens", 3, "--text", "A man")
    assert done.returncode == 1 and "damaged.mp4" in done.stderr.split("1 of 2 failed:")[1]
    video, caption = done.stdout.splitlines()
    assert video == str(bikes) and caption.startswith("  a man ")
    assert "Describing" in done.stderr and "Traceback" not in done.stderr


def test_caption_speaks_json_and_keeps_quiet(captioner, bikes):
    done = run("caption", bikes, bikes, "--model", captioner, "--max-tokens", 3, "--json", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = json.loads(done.stdout)
    assert (
        first
        == second
        == {"video": str(bikes), "results": [{"generated_text": first["results"][0]["generated_text"]}]}
    )


def test_ask_answers_every_question(answerer, bikes, tmp_path):
    call = ("ask", bikes, "What is it?", "who?", "--model", answerer)
    done = run(*call, "--json", "-q", "--top-k", 2)
    assert (done.returncode, done.stderr) == (0, "")
    ((entry),) = json.loads(done.stdout)
    assert [answer["question"] for answer in entry["results"]] == ["What is it?", "who?"]
    assert [len(answer["answers"]) for answer in entry["results"]] == [2, 2]
    assert entry["results"][0]["answers"][0]["answer"] in ANSWERS
    lines = run(*call, "--top-k", 1).stdout.splitlines()
    assert lines[0] == str(bikes) and lines[1] == "  What is it?" and "%" in lines[2] and lines[3] == "  who?"


@pytest.mark.parametrize("question", ["", "  "])
def test_an_empty_question_is_refused(answerer, bikes, question):
    assert_refused(run("ask", bikes, "who?", question, "--model", answerer), "A question is empty")
