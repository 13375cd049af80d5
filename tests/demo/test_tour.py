"""`internvideo demo`: clips, answers and files."""

import json
import os
import re
from itertools import takewhile

import numpy as np
import pytest
from PIL import Image
from program import run

from internvideo_hf import VideoDecodeError, VideoReader
from internvideo_hf.demo import sheet, tour
from internvideo_hf.demo.boxed import script_at as script_of_several
from internvideo_hf.demo.scores import attributes_in
from internvideo_hf.demo.synthetic import ACTIONS, canonical_caption, clip_at
from internvideo_hf.demo.tour import Answer
from internvideo_hf.demo.untrimmed import script_at
from internvideo_hf.utils.pictures import MISSING


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    return out, run("demo", "--out", out, "--clips", 12, "--quiet")


def test_every_clip_is_a_line_with_labels_scores_and_truth(shown):
    out, result = shown
    assert result.returncode == 0 and not result.stderr, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["clip", "action", "color", "shape", "background", "truth"]
    for line, action in zip(lines[1:13], ACTIONS, strict=True):
        assert line.count("%") == 4 and action in line.split("%")[-1]
    assert lines[13].startswith("+ right, - wrong; right of 12: action ")
    # The test of the weights says how often they are right; here, that the marks are true at all.
    assert int(lines[13].split("action ")[1].split(",")[0]) == sum(line.split()[1] == "+" for line in lines[1:13]) > 6


def test_every_clip_has_a_caption_and_what_is_wrong_in_it(shown):
    lines = shown[1].stdout.splitlines()[15:]
    assert lines[0].split() == ["clip", "caption", "wrong"]
    truths = [line.split("%")[-1].strip() for line in shown[1].stdout.splitlines()[1:13]]
    for line, truth in zip(lines[1:13], truths, strict=True):
        caption, _, wrong = line.split(None, 1)[1].partition("  ")
        said, true = attributes_in(caption), attributes_in(truth)
        assert set(filter(None, wrong.strip().split(", "))) == {
            n for n in true if n != "shape" and true[n] and true[n] != said[n]
        }
    assert lines[13].startswith("By demo-captioner; wrong of 12: action ")


def test_every_clip_is_asked_about_in_turn(shown):
    lines = shown[1].stdout.splitlines()[30:45]
    assert lines[0].split() == ["clip", "question", "answer"]
    clips = [clip_at("test", index, 1) for index in range(12)]
    right = 0
    for number, (line, clip) in enumerate(zip(lines[1:13], clips, strict=True)):
        attribute = ("color", "action", "background")[(number + number // 3) % 3]
        assert {"color": "color", "action": "do", "background": "behind"}[attribute] in line.split("?")[0]
        mark, *words, score = line.split("?")[1].split()
        assert mark == ("+" if " ".join(words) == getattr(clip, attribute) else "-") and score.endswith("%")
        right += mark == "+"
    assert lines[13] == f"By demo-answers; + right, - wrong; {right} of 12 right." and right > 8


def test_every_sentence_is_searched_for(shown):
    lines = shown[1].stdout.splitlines()[45:60]
    assert lines[0].split() == ["search", "first", "hit", "cosine"]
    assert all(line.startswith("a ") and ".mp4" in line for line in lines[1:13])
    assert int(lines[13].split("; ")[1].split()[0]) > 6


def test_actions_of_the_long_video_are_found(shown):
    _, result = shown
    lines = result.stdout[result.stdout.index("\nfrom ") + 1 :].splitlines()
    assert lines[0].split() == ["from", "to", "action", "score"]
    script = min((script_at("testing", index, 1) for index in range(8)), key=lambda script: script.num_frames)
    true = {(one.action, one.start / 8, one.end / 8) for one in script.segments}
    right = 0
    for line in takewhile(str.strip, lines[1:-1]):
        if not line[0].isdigit():
            break
        start, _, end, _, mark, *words, _ = line.split()
        start, end, label = float(start), float(end), " ".join(words)
        near = any(
            name == label and min(end, last) - max(start, first) >= (max(end, last) - min(start, first)) / 2
            for name, first, last in true
        )
        assert mark == ("+" if near else "-")
        right += near
    assert right >= len(true) - 1 and f"{right} of {len(true)} found" in result.stdout


def test_what_each_of_several_shapes_does_is_told(shown):
    lines = shown[1].stdout[shown[1].stdout.index("\ntime ") + 1 :].splitlines()
    scripts = (script_of_several("test", index, 1) for index in range(8))
    actors = max(scripts, key=lambda script: len(script.actors)).actors
    right = 0
    for line, actor in zip(lines[1 : 1 + 2 * len(actors)], actors * 2, strict=True):
        time, box, who, said, truth = re.split(r" {2,}", line)
        assert time in ("1.0 s", "2.0 s") and box.isdigit()
        assert who == f"{actor.color} {actor.shape}" and truth == actor.action
        is_right = said[2:].rsplit(" ", 1)[0] == actor.action
        assert said[0] == ("+" if is_right else "-")
        right += is_right
    assert f"{right} of {2 * len(actors)} right." in lines[1 + 2 * len(actors)] and right > len(actors)


def test_videos_without_a_shape_are_doubted(shown):
    out, result = shown
    lines = result.stdout[result.stdout.index("\nplain.mp4 ") + 1 :].splitlines()
    assert sorted(path.name for path in (out / tour.NO_SHAPE).iterdir()) == ["dotted.mp4", "plain.mp4", "striped.mp4"]
    marks = [line.split()[1] for line in lines[:3]]
    for line, mark, background in zip(lines[:3], marks, ("plain", "dotted", "striped"), strict=True):
        assert line.startswith(f"{background}.mp4") and line.endswith(f"no shape on a {background} background")
        assert mark == ("+" if "unknown" in line else "-")
    assert f"right of 3: action {marks.count('+')}." in lines[3] and marks.count("+") >= 2


def test_it_says_what_the_weights_know_and_draws_a_sheet(shown):
    out, result = shown
    assert tour.LIMITS in result.stdout
    with Image.open(out / "contact_sheet.png") as picture:
        assert picture.width >= 1300 and picture.height > 2000 and picture.getcolors(10) is None
    assert len(list((out / "test").glob("*.mp4"))) == 12


def test_another_seed_draws_other_clips_and_none_of_training(tmp_path):
    first, second = (tour.draw_clips(tmp_path / str(seed), 3, seed) for seed in (1, 2))
    assert first != second and {clip.split for clip in first + second} == {"test"}
    files = [(tmp_path / str(seed) / "test/00000.mp4").read_bytes() for seed in (1, 2)]
    assert files[0] != files[1]
    result = run("demo", "--out", tmp_path / "out", "--seed", 0)
    assert result.returncode == 2 and "--seed" in result.stderr and not (tmp_path / "out").exists()


def test_clips_of_before_are_replaced_and_other_videos_are_not(tmp_path):
    for count, seed in ((3, 1), (2, 2)):
        clips = tour.draw_clips(tmp_path / "out", count, seed)
        (tmp_path / "out/test/mine.mp4").unlink(missing_ok=seed == 1)  # left alone by the second call
        assert [f"test/{path.name}" for path in sorted((tmp_path / "out/test").iterdir())] == [c.video for c in clips]
        (tmp_path / "out/test/mine.mp4").touch()
    mine = tmp_path / "mine/test/00000.mp4"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    result = run("demo", "--out", tmp_path / "mine", "--clips", 1)
    assert result.returncode == 2 and "no demo has drawn" in result.stderr and mine.read_text() == "mine"
    other = tmp_path / "other"
    other.mkdir()
    (other / tour.CROWD).write_text("mine")
    result = run("demo", "--out", other, "--clips", 1)
    assert result.returncode == 2 and "no demo has drawn" in result.stderr and os.listdir(other) == [tour.CROWD]


def test_json_holds_the_same(tmp_path):
    result = run("demo", "--out", tmp_path, "--clips", 2, "--json", "--quiet")
    found = json.loads(result.stdout)
    assert [entry["video"] for entry in found["labels"]] == [str(tmp_path / f"test/0000{i}.mp4") for i in range(2)]
    assert set(found["labels"][0]["answers"]) == {"action", *tour.WORDS}
    assert found["labels"][0]["caption"].startswith("a ")
    assert found["limits"] == tour.LIMITS
    assert [entry["clips"] for entry in found["search"]] == [2, 2]
    assert found["actions"]["segments"] and found["boxes"] and len(found["unknown"]) == 3


def test_a_video_of_the_users_is_labeled_with_a_warning_and_a_damaged_one_costs_no_other(bikes, tmp_path):
    (tmp_path / "damaged.mp4").write_bytes(bikes.read_bytes()[:3000])
    out = tmp_path / "out"
    result = run("demo", "--out", out, "--video", bikes, "--video", tmp_path / "damaged.mp4", "--quiet")
    assert result.returncode == 1 and "damaged.mp4" in result.stderr
    assert "bikes.mp4" in result.stdout and "truth" not in result.stdout and tour.LIMITS in result.stdout
    assert [path.name for path in out.iterdir()] == ["videos.png"]

    result = run("demo", "--out", tmp_path / "none", "--video", tmp_path / "damaged.mp4", "--quiet")
    assert result.returncode == 2 and not (tmp_path / "none").exists()


def test_what_breaks_off_while_it_is_labeled_or_drawn_costs_no_other(bikes, tmp_path, monkeypatch):
    def read(reader, indices):
        if max(indices) == reader.num_frames - 1:
            raise VideoDecodeError(str(bikes), "its last frame is damaged")
        return whole(reader, indices)

    whole = VideoReader.read
    monkeypatch.setattr(VideoReader, "read", read)
    answer = Answer("grows", 0.5, None)
    drawn = np.asarray(sheet.rows([tour.Labeled(str(bikes), None, {"action": answer})]))
    assert (drawn == MISSING).all(axis=-1).sum() > 96 * 96 / 2

    def label(self, video, clip=None, asked=""):
        if video == "huge.mp4":
            raise RuntimeError("out of memory")
        return tour.Labeled(video, None, {"action": answer})

    monkeypatch.setattr(tour.Labeler, "__call__", label)
    result = run("demo", "--out", tmp_path, "--video", bikes, "--video", "huge.mp4", "--quiet")
    assert result.returncode == 1 and "huge.mp4: out of memory" in result.stderr
    assert "bikes.mp4" in result.stdout and (tmp_path / "videos.png").is_file()


def test_the_sheet_of_a_video_replaces_neither_that_of_the_tour_nor_one_of_before(bikes, tmp_path, monkeypatch):
    answer = tour.Labeled(str(bikes), None, {"action": Answer("grows", 0.5, None)})
    monkeypatch.setattr(tour.Labeler, "__call__", lambda self, video, clip=None, asked="": answer)
    names = ["contact_sheet.png", "videos.png"]
    for name in names:
        (tmp_path / name).write_text("of before")
    for name in ("videos-2.png", "videos-3.png"):
        assert f"Wrote {tmp_path / name}." in run("demo", "--out", tmp_path, "--video", bikes, "--quiet").stdout
        Image.open(tmp_path / name).verify()
    assert [(tmp_path / name).read_text() for name in names] == ["of before"] * 2


def test_an_address_is_passed_on_as_it_is(tmp_path, monkeypatch):
    answer = tour.Labeled("http://127.0.0.1:9/a.mp4", None, {"action": Answer("grows", 0.5, None)})
    asked_for = []
    monkeypatch.setattr(
        tour.Labeler, "__call__", lambda self, video, clip=None, asked="": asked_for.append(video) or answer
    )
    monkeypatch.setattr(sheet, "rows", lambda labeled: Image.new("RGB", (8, 8)))
    assert run("demo", "--out", tmp_path, "--video", answer.video, "--quiet").returncode == 0
    assert asked_for == [answer.video]


def test_a_clip_that_failed_leaves_the_others_their_places(shown):
    out, _ = shown
    clips = [clip_at("test", index, 1) for index in (0, 2)]
    labeled = [tour.Labeled(str(out / clip.video), canonical_caption(clip), {}) for clip in clips]
    table = tour.search_table(tour.search(labeled), labeled).splitlines()
    assert [line.split("  ")[0] for line in table[1:3]] == [entry.truth for entry in labeled]
    with pytest.raises(VideoDecodeError):
        tour.search([*labeled, tour.Labeled(str(out / "gone.mp4"), "a heart", {})])


def test_the_names_of_the_models_work_wherever_a_folder_does(shown, tmp_path):
    out, _ = shown
    options = ("training.max_steps=1", "training.warmup_steps=0", "batch_size=2", "data.validation=null")
    (tmp_path / "train.csv").write_text("".join(f"{path},0\n" for path in sorted((out / "test").glob("*.mp4"))[:2]))
    for command in (
        ("index", out / "test", "--model", "demo-mm", "--out", tmp_path / "index", "--quiet"),
        ("search", tmp_path / "index", "a red heart", "--model", "demo-mm"),
        ("merge", "demo-mm", "demo-mm", "--out", tmp_path / "merged"),
        ("train", "demo/classifier", *options, "data.train=train.csv", "data.labels=12", "--data-root", tmp_path)
        + ("--output-dir", tmp_path / "run", "--start-from", "demo-classifier", "-q"),
    ):
        result = run(*command)
        assert result.returncode == 0, result.stderr
    assert "started from demo-classifier" in (tmp_path / "run/final/README.md").read_text()


def test_videos_of_a_folder_and_a_list_are_labeled_and_told_apart(bikes, tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.mp4").symlink_to(bikes)
    (tmp_path / "list.csv").write_text("b/x.mp4,0\n")
    answer = {"action": Answer("grows", 0.5, None)}
    monkeypatch.setattr(tour, "Labeler", lambda: lambda video, clip=None, asked="": tour.Labeled(video, None, answer))
    sources = ("--video", tmp_path / "a", "--video", tmp_path / "list.csv")
    done = run("demo", "--out", tmp_path / "out", *sources, "--quiet")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[:3]] == ["clip", "a/x.mp4", "b/x.mp4"]
