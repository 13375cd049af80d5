"""Captions by a protocol: the pipeline's captions are scored, failures, resumption; see also `test_metrics.py`."""

import sys
from functools import partial
from pathlib import Path

import pytest
from tasks.lists import videos_of
from tasks.workers import assert_equal_results
from transformers import pipeline

import internvideo_hf  # noqa: F401
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.evaluation.report import table
from internvideo_hf.evaluation.run import evaluate
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.captioning import task
from internvideo_hf.utils import journal

SHORT = "generation.max_new_tokens=4"


@pytest.fixture
def scored(monkeypatch) -> list[tuple[list[str], list[list[str]]]]:
    """Return a list to which every evaluation adds its captions and references, in place of the optional library."""
    given: list[tuple[list[str], list[list[str]]]] = []

    def score(captions, references):
        given.append((captions, references))
        return {"BLEU-4": 1.0, "ROUGE-L": 2.0, "CIDEr": 3.0}

    monkeypatch.setattr(task, "captioning_metrics", score)
    monkeypatch.setattr(task, "check_installed", lambda: None)
    return given


@pytest.fixture
def root(lists, tmp_path) -> Path:
    (tmp_path / "all").symlink_to(lists / "all")
    rows = [f"all/video{number}.mp4,{text}" for number in range(4) for text in (f"clip {number} of waves", "a dance")]
    (tmp_path / "captions.csv").write_text("\n".join(["video,caption", *rows]))
    return tmp_path


def run(root: Path, captioner: Path, *changes: str, **options) -> dict:
    protocol = load_protocol("captioning/captions", [SHORT, *changes])
    return evaluate(protocol, captioner, root, device="cpu", workers=0, batch_size=3, quiet=True, **options)


def test_captions_are_those_of_the_pipeline(root, captioner, scored):
    result = run(root, captioner)
    describe = pipeline("video-to-text", model=str(captioner), device="cpu", num_beams=3, max_new_tokens=4)
    captions = [answer[0]["generated_text"] for answer in describe(videos_of(root))]
    assert scored == [(captions, [[f"clip {number} of waves", "a dance"] for number in range(4)])]
    assert result["scores"] == {"BLEU-4": 1.0, "ROUGE-L": 2.0, "CIDEr": 3.0}
    assert "num_beams 3, max_new_tokens 4; 8 of people" in table(result) and "CIDEr" in table(result)


def test_a_damaged_video_has_an_empty_caption_and_a_stopped_run_goes_on(root, captioner, scored, monkeypatch):
    seen: list[str] = []
    read, stop_at = task.read_views, 4

    def note(row, **options):
        seen.append(Path(row["video"]).name)
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        return read(row, **options)

    monkeypatch.setattr(journal, "CHECKPOINT_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(task, "read_views", note)
    (root / "captions.csv").write_text((root / "captions.csv").read_text().replace("all/video1.mp4", "gone.mp4"))
    with pytest.raises(KeyboardInterrupt):
        run(root, captioner, out=root / "result.json", max_damaged=0.5)
    stop_at = 0
    result = run(root, captioner, out=root / "result.json", max_damaged=0.5, report=root / "report")
    assert seen == ["video0.mp4", "gone.mp4", "video2.mp4", "video3.mp4", "video3.mp4"]
    assert [Path(entry["video"]).name for entry in result["damaged"]] == ["gone.mp4"]
    assert [bool(caption) for caption in scored[0][0]] == [True, False, True, True]
    assert f"{root / 'gone.mp4'},,a dance" in (root / "report/answers.csv").read_text()


def test_what_does_not_fit_is_refused(root, captioner, answerer, monkeypatch):
    with pytest.raises(RecipeError, match="writes no captions"):
        run(root, answerer)
    monkeypatch.setitem(sys.modules, "pycocoevalcap.cider.cider", None)
    with pytest.raises(ImportError, match=r"internvideo-hf\[captions\]"):
        run(root, captioner)
    with pytest.raises(RecipeError, match="generation: got 'do_sample'"):
        load_protocol("captioning/captions", ["generation.do_sample=true"])
    with pytest.raises(RecipeError, match="generation changes nothing in retrieval"):
        load_protocol("retrieval/msrvtt", ["generation={num_beams: 3}"])


def test_workers_make_the_same_result(root, captioner, scored, tmp_path, engine):
    protocol = load_protocol("captioning/captions", [SHORT])
    options = {"device": "cpu", "workers": 0, "quiet": True}
    assert_equal_results(partial(evaluate, protocol, captioner, root, **options), tmp_path, engine, has_report=False)
    assert scored[0] == scored[1] and len(scored) == 2
