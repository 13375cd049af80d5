"""`internvideo demo`: what it draws, says, and writes."""

import json

import pytest
from PIL import Image
from program import run

from internvideo_hf.data.synthetic import ACTIONS
from internvideo_hf.demo import tour


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    return out, run("demo", "--out", out, "--clips", 12, "--quiet")


def test_every_clip_is_a_line_with_labels_scores_and_truth(shown):
    out, result = shown
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["clip", "action", "colour", "shape", "background", "truth"]
    for line, action in zip(lines[1:13], ACTIONS, strict=True):
        assert line.count("%") == 4 and action in line.split("%")[-1]
    assert lines[13].startswith("+ right, - wrong; right of 12: action ")
    # The test of the weights says how often they are right; here, that the marks are true at all.
    assert int(lines[13].split("action ")[1].split(",")[0]) == sum(line.split()[1] == "+" for line in lines[1:13]) > 6


def test_every_sentence_is_searched_for(shown):
    lines = shown[1].stdout.splitlines()[15:]
    assert lines[0].split() == ["search", "first", "hit", "cosine"]
    assert all(line.startswith("a ") and ".mp4" in line for line in lines[1:13])
    assert int(lines[13].split("; ")[1].split()[0]) > 6


def test_it_says_what_the_weights_know_and_draws_a_sheet(shown):
    out, result = shown
    assert tour.LIMITS in result.stdout
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.height > 12 * 96 and sheet.getcolors(10) is None
    assert len(list((out / "test").glob("*.mp4"))) == 12


def test_another_seed_draws_other_clips_and_none_of_training(tmp_path):
    first, second = (tour.draw_clips(tmp_path / str(seed), 3, seed) for seed in (1, 2))
    assert first != second and {clip.split for clip in first + second} == {"test"}
    files = [(tmp_path / str(seed) / "test/00000.mp4").read_bytes() for seed in (1, 2)]
    assert files[0] != files[1]
    result = run("demo", "--out", tmp_path / "out", "--seed", 0)
    assert result.returncode == 2 and "--seed" in result.stderr and not (tmp_path / "out").exists()


def test_json_holds_the_same(tmp_path):
    result = run("demo", "--out", tmp_path, "--clips", 2, "--json", "--quiet")
    found = json.loads(result.stdout)
    assert [entry["video"] for entry in found["labels"]] == [str(tmp_path / f"test/0000{i}.mp4") for i in range(2)]
    assert set(found["labels"][0]["answers"]) == {"action", *tour.WORDS}
    assert [entry["clips"] for entry in found["search"]] == [2, 2]


def test_a_video_of_the_users_is_labelled_with_a_warning_and_a_damaged_one_costs_no_other(bikes, tmp_path):
    (tmp_path / "damaged.mp4").write_bytes(bikes.read_bytes()[:3000])
    out = tmp_path / "out"
    result = run("demo", "--out", out, "--video", bikes, "--video", tmp_path / "damaged.mp4", "--quiet")
    assert result.returncode == 1 and "damaged.mp4" in result.stderr
    assert "bikes.mp4" in result.stdout and "truth" not in result.stdout and tour.LIMITS in result.stdout
    assert (out / "contact_sheet.png").is_file() and not (out / "test").exists()

    result = run("demo", "--out", tmp_path / "none", "--video", tmp_path / "damaged.mp4", "--quiet")
    assert result.returncode == 2 and not (tmp_path / "none").exists()


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    result = run("demo", "--out", tmp_path / "file")
    assert result.returncode == 2 and "is a file" in result.stderr
