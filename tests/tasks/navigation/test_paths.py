"""Recorded paths as files: what is written is read, and what is wrong is named."""

import gzip
import json
from dataclasses import replace

import pytest
from tasks.navigation.walks import LOST, STRAIGHT

from internvideo_hf.data.records import ManifestError
from internvideo_hf.tasks.navigation.paths import read_paths, write_challenge, write_paths


def test_what_is_written_is_read(tmp_path):
    write_paths(tmp_path / "paths.json", [STRAIGHT, replace(LOST, headings=None, distances=None)])
    first, second = read_paths(tmp_path / "paths.json")
    assert first == replace(STRAIGHT, collisions=[0, 0, 0, 0])
    assert (second.headings, second.distances, second.stopped) == (None, None, False)


@pytest.mark.parametrize("suffix", ["json", "json.gz"])
def test_reference_paths_come_from_the_list_of_episodes(suffix, tmp_path):
    write_paths(tmp_path / "paths.json", [STRAIGHT, replace(LOST, reference=None, episode="7")])
    path = tmp_path / f"val_unseen.{suffix}"
    content = json.dumps({"episodes": [{"episode_id": 7, "reference_path": LOST.reference, "scene_id": "a.glb"}]})
    path.write_bytes(gzip.compress(content.encode()) if suffix.endswith("gz") else content.encode())
    straight, lost = read_paths(tmp_path / "paths.json", path)
    assert straight.reference == STRAIGHT.reference and lost.reference == LOST.reference


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": []}, r"episodes\[0\]: positions must be points"),
        ({"positions": [[0, 1]]}, "positions must be points of three finite numbers"),
        ({"positions": [[0, 1, float("nan")]] * 5}, "positions must be points of three finite numbers"),
        ({"positions": None}, "positions must be points"),
        ({"distances": [1.0]}, "distances must be 5 finite numbers, one a position"),
        ({"distances": ["1"] * 5}, "distances must be 5 finite numbers"),
        ({"headings": [0.0] * 4}, "headings must be 5 finite numbers"),
        ({"collisions": [2]}, "collisions must be 0 or 1 each"),
        ({"stopped": 1}, "stopped is 1, expected true or false"),
        ({"reference": []}, "reference must be points"),
        ({"speed": 3}, "unknown fields speed"),
        ({"episode": None}, "episode is None, expected a number or text"),
        ({"episode": [1]}, r"episode is \[1\], expected a number or text"),
        ({"distances": [10**400] * 5}, "distances must be 5 finite numbers"),
        ({"distances": [1.0, -1.0, 1.0, 1.0, 1.0]}, "distances must be 0 or more"),
    ],
)
def test_wrong_entries_are_named(changes, message, tmp_path):
    write_paths(tmp_path / "paths.json", [STRAIGHT])
    content = json.loads((tmp_path / "paths.json").read_text())
    content["episodes"][0] |= changes
    (tmp_path / "paths.json").write_text(json.dumps(content))
    with pytest.raises(ManifestError, match=message):
        read_paths(tmp_path / "paths.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "it cannot be read"),
        ("[]", 'expected an object with a list "episodes"'),
        ('{"episodes": []}', "there are no episodes"),
        ('{"episodes": [3]}', r"episodes\[0\]: expected an object"),
        ('{"episodes": [{"episode": "a"}]}', "positions, stopped missing"),
    ],
)
def test_other_files_are_named(text, message, tmp_path):
    (tmp_path / "paths.json").write_text(text)
    with pytest.raises(ManifestError, match=message) as error:
        read_paths(tmp_path / "paths.json")
    assert str(tmp_path / "paths.json") in str(error.value)


def test_a_damaged_archive_is_named(tmp_path):
    archive = bytearray(gzip.compress(json.dumps({"episodes": list(range(100))}).encode()))
    archive[20:40] = b"\xff" * 20
    (tmp_path / "paths.json.gz").write_bytes(archive)
    with pytest.raises(ManifestError, match="paths.json.gz: it cannot be read"):
        read_paths(tmp_path / "paths.json.gz")


@pytest.mark.parametrize("entry", [{}, {"episode_id": None}, {"episode_id": [1]}])
def test_references_need_the_id_of_their_episode(entry, tmp_path):
    write_paths(tmp_path / "paths.json", [STRAIGHT])
    (tmp_path / "list.json").write_text(json.dumps({"episodes": [{**entry, "reference_path": STRAIGHT.reference}]}))
    with pytest.raises(ManifestError, match="expected episode_id and reference_path"):
        read_paths(tmp_path / "paths.json", tmp_path / "list.json")


def test_a_goal_that_no_way_leads_to_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="Episode lost has a number that is not finite"):
        write_paths(tmp_path / "paths.json", [STRAIGHT, replace(LOST, distances=[float("inf")] * 3)])
    assert not (tmp_path / "paths.json").exists()


def test_an_episode_counts_once(tmp_path):
    write_paths(tmp_path / "paths.json", [STRAIGHT, STRAIGHT])
    with pytest.raises(ManifestError, match=r"episodes\[1\]: episode straight is there twice"):
        read_paths(tmp_path / "paths.json")


def test_predictions_of_the_challenge_end_with_a_stop(tmp_path):
    write_challenge(tmp_path / "predictions.json", [STRAIGHT, LOST])
    found = json.loads((tmp_path / "predictions.json").read_text())
    assert [pose["stop"] for pose in found["straight"]] == [False] * 4 + [True]
    assert not any(pose["stop"] for pose in found["lost"])
    assert found["lost"][2] == {"position": [3.0, 0.0, -1.0], "heading": -1.5, "stop": False}
    with pytest.raises(ValueError, match="Episode lost has no headings"):
        write_challenge(tmp_path / "predictions.json", [replace(LOST, headings=None)])
