"""`caption` and `ask`: outputs, exit codes, and what they refuse."""

import json
import logging

import av
import pytest
from conftest import ANSWERS
from program import assert_refused, run

FEW = ("--max-new-tokens", 3)


def test_caption_describes_what_it_can_and_lists_the_rest_last(captioner, bikes, tmp_path):
    (tmp_path / "damaged.mp4").write_text("no video")
    done = run("caption", bikes, tmp_path / "damaged.mp4", "--model", captioner, *FEW, "--text", "A man")
    assert done.returncode == 1 and "damaged.mp4" in done.stderr.split("1 of 2 failed:")[1]
    video, caption = done.stdout.splitlines()
    assert video == str(bikes) and caption.startswith("  a man ")
    assert "Describing" in done.stderr and "Traceback" not in done.stderr


def test_samples_follow_the_seed_and_not_the_videos_before_and_json_is_quiet(captioner, bikes):
    texts = []
    for videos, seed in (((bikes, bikes), 1), ((bikes,), 2)):
        done = run("caption", *videos, "--model", captioner, *FEW, "--sample", "--seed", seed, "--json", "--quiet")
        assert (done.returncode, done.stderr) == (0, "")
        for entry in json.loads(done.stdout):
            texts.append(entry["results"][0]["generated_text"])
            assert entry == {"video": str(bikes), "results": [{"generated_text": texts[-1]}]}
    assert texts[0] == texts[1] != texts[2]


def test_ask_answers_every_question_about_a_folder_and_lists_the_rest_last(answerer, bikes, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).symlink_to(bikes)
    with av.open(str(tmp_path / "empty.mp4"), "w") as container:
        container.add_stream("mpeg4", rate=25)
        container.start_encoding()  # of a stream without a frame
    done = run("ask", tmp_path, "What is it?", "who?", "--model", answerer, "--top-k", 1)
    assert done.returncode == 1 and "empty.mp4" in done.stderr.split("1 of 3 failed:")[1]
    assert "Answering" in done.stderr and "Traceback" not in done.stderr
    first, second = (done.stdout.splitlines()[start : start + 5] for start in (0, 5))
    assert [first[0], second[0]] == [f"{tmp_path}/{name}" for name in ("a.mp4", "b.mp4")]
    assert first[1] == "  What is it?" and "%" in first[2] and first[3] == "  who?" and first[1:] == second[1:]


def test_a_video_without_frames_is_refused(answerer, tmp_path):
    (tmp_path / "empty.mp4").touch()
    assert_refused(run("ask", tmp_path / "empty.mp4", "who?", "--model", answerer), "1 of 1 failed:", "empty.mp4")


@pytest.mark.parametrize("question", ["", "  "])
def test_an_empty_question_is_refused(answerer, question):
    refused = run("ask", "none.mp4", question, "--model", answerer)
    assert_refused(refused, "uestion")
    assert "empty" in refused.stderr and "none.mp4" not in refused.stderr


def test_beside_an_empty_question_the_others_are_answered(answerer, bikes):
    done = run("ask", bikes, "who?", "", "--model", answerer, "--top-k", 1)
    assert done.returncode == 1 and "1 of 2 failed:\n  a question is empty" in done.stderr
    assert "  who?\n" in done.stdout and done.stdout.count("%") == 1


def test_what_is_wrong_with_questions_is_said_once_before_the_work(answerer, bikes, monkeypatch):
    """Another script, and more tokens than the model reads; as in a shell, where no handler takes warnings."""
    monkeypatch.setattr(logging.root, "handlers", [])
    logging.Logger.warning_once.cache_clear()
    questions = ("кто поёт?", "谁在唱歌？", "word " * 80, "word " * 90, "who?")
    done = run("ask", bikes, *questions, "--model", answerer, "--json", "--top-k", 2)
    foreign, cut = done.stderr.splitlines()
    assert done.returncode == 0 and foreign.startswith("Most letters of a text are not Latin.")
    assert cut == "A question is longer than 76 tokens, and is cut in front of its end."
    (entry,) = json.loads(done.stdout)
    assert entry["video"] == str(bikes)
    assert [answer["question"] for answer in entry["results"]] == list(questions)
    assert [len(answer["answers"]) for answer in entry["results"]] == [2] * 5
    assert {answer["answer"] for found in entry["results"] for answer in found["answers"]} <= set(ANSWERS)
    first, second, other = (found["answers"] for found in entry["results"][2:])
    assert first == second != other


@pytest.mark.slow
def test_numbered_answers_are_remarked_on(answerer, bikes, tmp_path):
    done = run("convert", answerer.with_name("random.ckpt"), tmp_path / "numbered", "-q")
    assert done.returncode == 0
    done = run("ask", bikes, "who?", "--model", tmp_path / "numbered")
    assert done.returncode == 0 and "  answer " in done.stdout
    assert (
        done.stderr == f"{tmp_path}/numbered names its answers by numbers. Convert the released file again with "
        "--answers LIST.\n"
    )


NO_DECODER = (
    "internvideo: demo-mm is not a model of captions: it holds an InternVideoMMModel, which has no decoder to write "
    "captions with. What takes it: `internvideo zero-shot VIDEO --model demo-mm --labels"
)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("caption", "x.mp4"), "Missing option '--model'"),
        (("ask", "x.mp4", "--model", "{answerer}"), "Missing argument"),
        (("caption", "x.mp4", "--model", "{captioner}", "--beams", "0"), "Invalid value for '--beams'"),
        (("caption", "x.mp4", "--model", "{captioner}", "--max-new-tokens", "0"), "'--max-new-tokens'"),
        (("caption", "x.mp4", "--model", "{captioner}", "--text", "word " * 80), "text has 81 tokens, expected at"),
        (("caption", "x.mp4", "--model", "{captioner}", "--dtype", "float61"), "Did you mean float16?"),
        (("ask", "x.mp4", "who?", "--model", "{answerer}", "--top-k", "0"), "Invalid value for '--top-k'"),
        (("caption", "x.mp4", "--model", "demo-mm"), NO_DECODER),
        (("caption", "x.mp4", "--model", "demo-classifier"), "What takes it: `internvideo classify VIDEO"),
        (("caption", "x.mp4", "--model", "{answerer}"), "to write captions with. What takes it: `internvideo ask"),
        (("ask", "x.mp4", "who?", "--model", "{captioner}"), "no head that scores answers. What takes it:"),
        (("ask", "x.mp4", "who?", "--model", "demo-mm"), "demo-mm is not a model of answers to questions"),
        (("zero-shot", "x.mp4", "--labels", "a", "--model", "{answerer}"), "What takes it: `internvideo ask VIDEO"),
        (("classify", "x.mp4", "--model", "{captioner}"), "What takes it: `internvideo caption VIDEO"),
        (("evaluate", "retrieval/msrvtt", "--model", "{answerer}"), "`internvideo evaluate question_answering/custom"),
        (("evaluate", "question_answering/msrvtt", "--model", "{captioner}"), "not a model of answers to questions"),
        (("evaluate", "captioning/captions", "--model", "demo-mm"), "demo-mm is not a model of captions"),
    ],
)
def test_mistakes_are_refused_in_one_line_before_the_work(captioner, answerer, arguments, words):
    filled = [argument.format(captioner=captioner, answerer=answerer) for argument in arguments]
    refused = run(*filled)
    assert_refused(refused, words)
    assert "x.mp4" not in refused.stderr


@pytest.mark.slow
def test_the_folder_of_the_full_model_is_a_dual_encoder(captioner, answerer, bikes, tmp_path):
    """Labels, an index and a search by text; the towers of a model of answers are searched by video."""
    done = run("zero-shot", bikes, "--model", captioner, "--labels", "a bike, a cat", "--json", "-q")
    assert done.returncode == 0 and len(json.loads(done.stdout)[0]["results"]) == 2
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/bikes.mp4").symlink_to(bikes)
    call = ("index", tmp_path / "videos", "--window", "5s", "--jobs", 1)
    done = run(*call, "--model", captioner, "--out", tmp_path / "index")
    assert done.returncode == 0 and "not by text" not in done.stderr
    assert run("search", tmp_path / "index", "a bike").returncode == 0
    done = run(*call, "--model", answerer, "--out", tmp_path / "by-video")
    assert done.returncode == 0 and "searched by --video and --image, not by text" in done.stderr
    assert_refused(run("search", tmp_path / "by-video", "a bike"), "search", "--video FILE")
