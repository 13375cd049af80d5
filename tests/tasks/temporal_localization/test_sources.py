"""Features as recipes and protocols name them: which windows they are of, which encoder made them."""

import json

import numpy as np
import pytest
from tasks.temporal_localization.drawn import write_features

from internvideo_hf.data.records import ManifestError
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.protocol import FeatureData
from internvideo_hf.tasks.temporal_localization.annotations import VideoAnnotation
from internvideo_hf.tasks.temporal_localization.sources import (
    annotations_of,
    open_features,
    read_training_rows,
)

SIDE = {"model": "enc", "revision": "r1", "window": 16, "stride": 4, "fps": 25.0, "rows": 3}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "features").mkdir()
    for name in ("one", "two"):
        np.save(tmp_path / f"features/{name}.npy", np.zeros((3, 2), np.float32))
    return tmp_path


def videos(*names: str, **facts) -> dict[str, VideoAnnotation]:
    segments = np.array([[1.0, 2.0]], dtype=np.float32)
    return {name: VideoAnnotation("training", segments, np.array([1]), **facts) for name in names}


def describe(root, name: str, **changes) -> None:
    (root / f"features/{name}.json").write_text(json.dumps(SIDE | changes))


def test_descriptions_beside_features_say_all(root):
    describe(root, "one")
    describe(root, "two", fps=50.0)
    found, facts = open_features(FeatureData(), root, videos("one", "two", fps=1.0))
    assert facts == {"encoder": "enc", "revision": "r1", "window": 16, "stride": 4, "fps": None}
    # The rate of the frames that were read holds, not that of the annotations: (1 s * 25 - 8) / 4.
    assert found.load("one").segments.tolist() == [[4.25, 10.5]]
    assert found.load("two").segments.tolist() == [[10.5, 23.0]]


def test_a_sampled_rate_is_that_of_all_videos_and_of_the_head(root):
    describe(root, "one", fps=8.0, sampled_fps=8.0)
    found, facts = open_features(FeatureData(), root, videos("one", fps=30.0))
    assert facts["fps"] == 8 and found.load("one").segments.tolist() == [[0.0, 2.0]]


def test_settings_hold_before_descriptions_and_those_before_the_model(root):
    describe(root, "one")
    given = FeatureData(stride=2, num_frames=4, fps=10, encoder="mine")
    _, facts = open_features(given, root, videos("one"))
    assert facts == {"encoder": "mine", "window": 4, "stride": 2, "fps": 10}
    (root / "features/one.json").unlink()
    trained_on = {"encoder": "enc", "window": 8, "stride": 2, "fps": 10}
    found, facts = open_features(FeatureData(), root, videos("one"), trained_on=trained_on)
    assert facts == trained_on and found.load("one").segments.tolist() == [[3.0, 8.0]]
    spread, _ = open_features(FeatureData(fixed_length=6, num_frames=1, fps=10), root, videos("one", duration=6.0))
    assert spread.load("one").features.shape == (6, 2) and spread.load("one").grid.stride == 10


BAD = {
    "nothing": (lambda root: None, {}, RecipeError, "Nothing says which frames"),
    "unlike": (lambda root: describe(root, "two", stride=8), {}, ManifestError, "its stride is 8, and that of one 4"),
    "damaged": (lambda root: (root / "features/two.json").write_text("{}"), {}, ManifestError, "cannot be read"),
    "other": (lambda root: None, {"trained_on": SIDE | {"encoder": "enc", "stride": 16}}, RecipeError, "stride=4"),
}


@pytest.mark.parametrize("name", BAD)
def test_features_of_unknown_or_other_windows_are_refused(name, root):
    change, options, kind, message = BAD[name]
    if name != "nothing":
        describe(root, "one")
    change(root)
    with pytest.raises(kind, match=message):
        open_features(FeatureData(), root, videos("one", "two"), **options)


def test_classes_with_gaps_in_their_numbers_are_numbered_anew(tmp_path, caplog):
    rows = [{"segment": [0, 1], "label": name, "label_id": number} for name, number in (("c", 7), ("a", 2))]
    database = {"v": {"subset": "training", "annotations": rows}}
    (tmp_path / "a.json").write_text(json.dumps({"database": database}))
    found, classes = read_training_rows(tmp_path / "a.json", tmp_path, features=FeatureData())
    assert classes == ["a", "c"] and found["labels"] == [[1, 0]]
    assert "2 classes are renumbered" in caplog.text


def test_rows_are_those_of_a_subset_with_its_classes(tmp_path):
    database = write_features(tmp_path, 6)
    file = tmp_path / "annotations.json"
    rows, classes = read_training_rows(file, tmp_path, features=FeatureData())
    assert classes == ["jump", "run"] and rows["video"] == [f"video{n:02d}" for n in range(4)]
    found = annotations_of(rows, "training")["video01"]
    assert found.segments == pytest.approx(np.array([row["segment"] for row in database["video01"]["annotations"]]))
    agnostic = FeatureData(class_agnostic=True)
    rows, classes = read_training_rows(file, tmp_path, features=agnostic, classes=["action"])
    assert classes == ["action"] and rows["video"] == ["video04", "video05"] and rows["labels"] == [[0, 0]] * 2
    with pytest.raises(RecipeError, match="subset='test' holds no videos"):
        read_training_rows(file, tmp_path, features=FeatureData(train_subset="test"))
    with pytest.raises(RecipeError, match="Leave them out"):
        read_training_rows(file, tmp_path, features=FeatureData(), labels="hmdb51")
