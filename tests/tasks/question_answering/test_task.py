"""Question answering by a protocol and in training: scores equal to a count by hand, both ways."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tasks.lists import evaluate, videos_of
from tasks.workers import assert_equal_results
from transformers import AutoConfig, AutoModelForVisualQuestionAnswering, AutoProcessor, EvalPrediction

from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.evaluation.run import evaluate as evaluate_model
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.question_answering import task
from internvideo_hf.tasks.question_answering.task import accuracies
from internvideo_hf.utils import journal

SQUASHED = {"size": {"height": 256, "width": 256}, "resize_method": "pil_bicubic"}
SHORT_SIDE = {"size": {"shortest_edge": 256}, "resize_method": "pil_bilinear"}
QUESTIONS = ["what is it?", "who sings?"]


@torch.no_grad()
def answers_by_hand(folder: Path, videos: list[str], pixels: dict) -> list[tuple[str, str]]:
    """Return the best and the worst answer to `QUESTIONS` about each video, the first video's first."""
    model = AutoModelForVisualQuestionAnswering.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    options = {"sampler": "internvideo_mm_intervals", "num_frames": 8, **pixels}
    texts = QUESTIONS * len(videos)
    inputs = processor(
        videos=[video for video in videos for _ in QUESTIONS], text=texts, return_tensors="pt", **options
    )
    order = model(**inputs).logits.argsort(-1, descending=True)
    return [(model.config.id2label[int(row[0])], model.config.id2label[int(row[-1])]) for row in order]


def write_questions(root: Path, name: str, column: str, ids: list, found: list[tuple[str, str]]) -> None:
    """Write eight questions about four videos: three answered right, three wrong, two with an answer not listed."""
    answers = [best for best, _ in found[:3]] + [worst for _, worst in found[3:6]] + ["no such", "nor this"]
    rows = [
        {column: ids[number // 2], "question": QUESTIONS[number % 2], "answer": answer}
        for number, answer in enumerate(answers)
    ]
    text = json.dumps(rows) if name.endswith(".json") else "".join(f"{json.dumps(row)}\n" for row in rows)
    (root / name).write_text(text)


def write_msrvtt(root: Path, answerer: Path, lists: Path) -> None:
    shutil.copytree(lists / "all", root / "all")
    found = answers_by_hand(answerer, videos_of(root), SQUASHED)
    write_questions(root, "msrvtt_qa_test.jsonl", "video_id", [f"video{number}" for number in range(4)], found)


def write_msvd(root: Path, answerer: Path, lists: Path) -> None:
    names = [f"-4wsuPCjDBc_{number}_15" for number in range(4)]
    for name, video in zip(names, videos_of(lists), strict=True):
        shutil.copy(video, root / f"{name}.mp4")
    (root / "msvd_youtube_mapping.txt").write_text("".join(f"{name} vid{1300 + n}\n" for n, name in enumerate(names)))
    found = answers_by_hand(answerer, [str(root / f"{name}.mp4") for name in names], SQUASHED)
    write_questions(root, "msvd_test_qa_encode.json", "video_id", [1300, 1301, 1302, 1303], found)


def write_tgif(root: Path, answerer: Path, lists: Path) -> None:
    names = [f"tumblr_{number}" for number in range(4)]
    for number, name in enumerate(names):
        frames = [Image.new("RGB", (60, 40), (40 * number, 20 * frame, 99)) for frame in range(9)]
        frames[0].save(root / f"{name}.gif", save_all=True, append_images=frames[1:], duration=100)
    found = answers_by_hand(answerer, [str(root / f"{name}.gif") for name in names], SHORT_SIDE)
    write_questions(root, "frameqa_test.jsonl", "gif_name", names, found)


@pytest.mark.parametrize(
    ("protocol", "write", "published"),
    [
        ("msrvtt", write_msrvtt, ("47.14", "44.58")),
        pytest.param("msvd", write_msvd, ("55.54", "51.77"), marks=pytest.mark.slow),
        pytest.param("tgif", write_tgif, ("72.22", "67.83"), marks=pytest.mark.slow),
    ],
)
def test_questions_are_counted_both_ways(protocol, write, published, answerer, lists, tmp_path):
    write(tmp_path, answerer, lists)
    result, printed = evaluate(f"question_answering/{protocol}", answerer, tmp_path)
    # Three of eight are right; six have an answer of the list.
    assert result["scores"] == {"top-1": 37.5, "top-1 of known answers": 50.0}
    assert "of 75.0% of the questions" in printed and all(number in printed for number in published)


@pytest.fixture(scope="module")
def msrvtt(answerer, lists, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("msrvtt")
    write_msrvtt(root, answerer, lists)
    return root


def run(root: Path, answerer: Path, *changes: str, **options) -> dict:
    protocol = load_protocol("question_answering/msrvtt", changes)
    return evaluate_model(protocol, answerer, root, device="cpu", workers=0, quiet=True, **options)


def test_questions_about_a_damaged_video_are_wrong_and_the_others_answered(msrvtt, answerer, tmp_path):
    shutil.copytree(msrvtt, tmp_path, dirs_exist_ok=True)
    (tmp_path / "all/video0.mp4").write_bytes(b"no video")  # of two questions that would be right
    result = run(tmp_path, answerer, max_damaged=0.5, report=tmp_path / "report")
    assert result["scores"] == {"top-1": 12.5, "top-1 of known answers": pytest.approx(100 / 6)}
    assert [Path(entry["video"]).name for entry in result["damaged"]] == ["video0.mp4"]
    lines = (tmp_path / "report/answers.csv").read_text().splitlines()
    assert len(lines) == 9 and lines[1].endswith("unreadable")


def test_a_stopped_evaluation_goes_on_where_it_was(msrvtt, answerer, tmp_path, monkeypatch):
    seen: list[str] = []
    read, stop_at = task.read_views, 3

    def note(row, **options):
        seen.append(Path(row["video"]).name)
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        return read(row, **options)

    monkeypatch.setattr(journal, "CHECKPOINT_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(task, "read_views", note)
    with pytest.raises(KeyboardInterrupt):
        run(msrvtt, answerer, out=tmp_path / "result.json")
    stop_at = 0
    result = run(msrvtt, answerer, out=tmp_path / "result.json")
    assert seen == [f"video{number}.mp4" for number in (0, 1, 2, 2, 3)]
    assert result["scores"] == {"top-1": 37.5, "top-1 of known answers": 50.0}
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_own_questions_need_no_layout_and_no_pixels(msrvtt, answerer):
    protocol = load_protocol("question_answering/custom", ["data.list=msrvtt_qa_test.jsonl", "data.layout=msrvtt"])
    assert task.TASK.evaluation.read(protocol, msrvtt, str(answerer)).answers[6:] == ["no such", "nor this"]
    assert protocol.pixels == {} and load_protocol("question_answering/custom").data.layout is None


def test_names_of_answers_are_the_models_or_those_of_a_file_that_fits(msrvtt, answerer, tmp_path):
    def classes(folder, text):
        (msrvtt / "answers.txt").write_text(text)
        protocol = load_protocol("question_answering/msrvtt", ["data.labels=answers.txt"])
        return task.TASK.evaluation.read(protocol, msrvtt, str(folder)).classes

    names = list(AutoConfig.from_pretrained(answerer).id2label.values())
    assert classes(answerer, "\n".join(names)) == names
    with pytest.raises(RecipeError, match="has the answers sing, talk, run, ..., and data.labels=answers.txt"):
        classes(answerer, "\n".join(names[::-1]))
    with pytest.raises(RecipeError, match="The list has 2 answers, expected 4 or 5"):
        classes(answerer, "sing\ntalk")
    config = AutoConfig.from_pretrained(answerer)
    config.id2label = {number: f"answer {number}" for number in range(5)}
    config.save_pretrained(tmp_path)
    assert classes(tmp_path, "\n".join(names[:4])) == [*names[:4], "background"]
    with pytest.raises(RecipeError, match="such as 'answer 0'. Set data.labels"):
        task.TASK.evaluation.read(load_protocol("question_answering/msrvtt"), msrvtt, str(tmp_path))


def test_answers_outside_the_list_are_wrong_and_unreadable_videos_count_for_nothing():
    logits = np.eye(3)[[0, 1, 2, 0, 0]]
    labels = np.array([0, 1, 0, -100, -100])  # right, right, wrong, outside the list, unreadable
    videos = np.array([5, 6, 7, 8, -100])
    found = accuracies(EvalPrediction(logits, (labels, videos)))
    assert found == {"top-1": 50.0, "top-1 of known answers": pytest.approx(200 / 3)}


def test_workers_make_the_same_result(msrvtt, answerer, tmp_path, engine):
    protocol = load_protocol("question_answering/msrvtt")
    options = {"device": "cpu", "workers": 0, "quiet": True}
    result = assert_equal_results(partial(evaluate_model, protocol, answerer, msrvtt, **options), tmp_path, engine)
    assert result["scores"]["top-1"] == 37.5
