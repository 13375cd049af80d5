"""Drawn videos with sentences: sentences are true of one stretch each, and name pairs that other splits do not."""

import csv
from itertools import pairwise

import numpy as np
import pytest
from program import run
from video.clips import decode_in_order

from internvideo_hf.demo import queried
from internvideo_hf.demo.queried import RATE, SUBSETS, Script, queries, render, script_at, subset_of, tracks
from internvideo_hf.demo.synthetic import ACTIONS, COLORS
from internvideo_hf.tasks.temporal_grounding.queries import Query, read_queries

SCRIPTS = {subset: [script_at(subset, index) for index in range(20)] for subset in SUBSETS}
ALL = [script for scripts in SCRIPTS.values() for script in scripts]


def test_each_sentence_is_true_of_one_stretch_and_its_words_of_others():
    for script in ALL:
        pairs = [(turn.color, turn.action) for turn in script.turns]
        assert len(set(pairs)) == len(pairs) == 6
        asked = [pair for pair in pairs if subset_of(*pair) == script.subset]
        assert len(asked) >= 2
        for color, action in asked[:1]:
            others = [pair for pair in pairs if pair != (color, action)]
            # At least of the pairs that were sampled first; those that came as their company may lack one.
            assert any(pair[0] == color for pair in others) or any(pair[1] == action for pair in others)
    with_both = [
        sum(any(a == c and b != d for c, d in pairs) and any(a != c and b == d for c, d in pairs) for a, b in pairs)
        for pairs in [[(turn.color, turn.action) for turn in script.turns] for script in ALL]
    ]
    assert min(with_both) >= 2, "two of each video have a shape of their color, and one of their action, beside them"


def test_no_pair_of_words_is_in_two_splits():
    sentences = {name: [text for one in scripts for text, _, _ in queries(one)] for name, scripts in SCRIPTS.items()}
    for subset, texts in sentences.items():
        for color in COLORS:
            for action, about in ACTIONS.items():
                words = (action, *about.other_words)
                is_asked = any(f" {color} " in text and text.endswith(words) for text in texts)
                assert not is_asked or subset_of(color, action) == subset
    sizes = [sum(subset_of(color, action) == subset for color in COLORS for action in ACTIONS) for subset in SUBSETS]
    assert sizes == [48, 12, 12]
    assert len(set(sentences["training"])) > 150
    words = {word for text in sentences["validation"] for word in text.split()}
    assert words <= {word for text in sentences["training"] for word in text.split()}, "words are known, pairs are new"


def test_the_shape_of_a_stretch_moves_in_it_and_only_there():
    for script in ALL[:6]:
        assert script.changes[0] == 0 and script.changes[-1] == script.num_frames
        for turn, pose, (first, last) in zip(script.turns, tracks(script), pairwise(script.changes), strict=True):
            assert first < turn.start < turn.end < last and 2 <= (turn.end - turn.start) / RATE <= 6
            steps = np.abs(np.diff(np.stack([pose.x, pose.y, pose.angle, pose.radius]), axis=1)).max(axis=0) > 1e-9
            moving = np.zeros(script.num_frames - 1, dtype=bool)
            moving[turn.start : turn.end] = True
            assert not steps[~moving].any() and steps[moving].mean() > 0.9


def test_one_shape_is_there_at_a_time_and_the_seed_says_which():
    script = script_at("validation", 0)
    frames = list(render(script))
    assert len(frames) == script.num_frames and frames[0].shape == (128, 128, 3)
    other = next(render(script, seed=1))
    assert not np.array_equal(frames[0], other) and np.array_equal(frames[0], next(render(script)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("asked") / "shapes"
    patch = pytest.MonkeyPatch()
    patch.setattr(queried, "ACTION_SECONDS", (1, 1))  # whole videos take long to draw
    patch.setattr(queried, "PAUSE_SECONDS", (1, 1))
    assert queried.make_data_set(out, 1) == 0
    assert queried.make_data_set(out, 1) == 3
    patch.undo()
    return out


def test_lists_name_videos_sentences_and_times(folder):
    found = read_queries(folder / "validation.csv")
    assert {query.video for query in found} == {"validation_0000"}
    frames = decode_in_order(folder / "videos/validation_0000.mp4")
    assert len(frames) == 13 * RATE and all(query.has_stretch and query.end <= 12 for query in found)
    with (folder / "training.csv").open() as file:
        assert {row["video"] for row in csv.DictReader(file)} == {"videos/training_0000.mp4"}
    assert "internvideo make-demo-data OUT --queries --clips 1 --seed 0" in (folder / "README.md").read_text()


def test_sentences_of_a_script_by_hand():
    turn = queried.Turn(16, 32, "moon", "red", "moves to the right")
    script = Script("validation", 0, 48, (turn,), "plain")
    assert subset_of("red", "moves to the right") == "validation"
    assert queries(script) == [("a red moon moves to the right", 2.0, 4.0)]
    assert isinstance(Query("v", *queries(script)[0]), Query)


def test_the_command_takes_one_kind(tmp_path):
    done = run("make-demo-data", tmp_path / "x", "--queries", "--boxed")
    assert done.returncode == 2 and "--queries and --boxed make different data sets" in done.stderr
    with pytest.raises(ValueError, match="seed: got -1"):
        queried.make_data_set(tmp_path / "y", 1, seed=-1)
