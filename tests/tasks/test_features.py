"""Features of a recipe or a protocol: which windows they are of, and videos that have none."""

import json

import numpy as np
import pytest

from internvideo_hf.data.records import ManifestError
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.features import check_complete, open_folder
from internvideo_hf.tasks.protocol import FeatureFiles

SIDE = {"model": "enc", "revision": "r1", "window": 16, "stride": 4, "fps": 25.0, "rows": 3}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "features").mkdir()
    np.save(tmp_path / "features/one.npy", np.zeros((3, 2), np.float32))
    np.save(tmp_path / "features/two.npy", np.zeros((3, 2), np.float32))
    return tmp_path


def test_descriptions_give_the_rule_and_each_videos_rate_and_duration(root):
    (root / "features/one.json").write_text(json.dumps(SIDE | {"duration": 9.0}))
    (root / "features/two.json").write_text(json.dumps(SIDE | {"fps": 50.0}))
    found = open_folder(FeatureFiles(), root, ["one", "two", "gone"])
    assert found.facts == {"encoder": "enc", "revision": "r1", "window": 16, "stride": 4, "fps": None}
    assert (found.rates, found.durations) == ({"one": 25.0, "two": 50.0}, {"one": 9.0})
    assert (found.settings.stride, found.settings.num_frames) == (4, 16)
    # Settings of the recipe hold before descriptions.
    given = open_folder(FeatureFiles(stride=2, num_frames=4, fps=10), root, ["one"])
    assert given.rates == {} and (given.settings.stride, given.settings.fps) == (2, 10)
    with pytest.raises(RecipeError, match="have stride=4, and the model was trained on stride=8"):
        open_folder(FeatureFiles(), root, ["one"], {**found.facts, "stride": 8})


def test_features_of_two_encoders_have_the_same_windows_and_no_encoder(root):
    (root / "nouns").mkdir()
    np.save(root / "nouns/one.npy", np.ones((3, 1), np.float32))
    (root / "features/one.json").write_text(json.dumps(SIDE))
    (root / "nouns/one.json").write_text(json.dumps(SIDE | {"model": "other", "revision": "r2"}))
    both = FeatureFiles(folder=["features", "nouns"])
    found = open_folder(both, root, iter(["one", "two"]))
    assert found.facts == {"encoder": None, "window": 16, "stride": 4, "fps": None} and found.rates == {"one": 25.0}
    assert found.folder.read("one").tolist() == [[0, 0, 1]] * 3 and "two" not in found.folder
    (root / "nouns/one.json").write_text(json.dumps(SIDE | {"stride": 8}))
    with pytest.raises(RecipeError, match="have stride=8, and those that they stand beside stride=4"):
        open_folder(both, root, ["one"])
    for folder in ([], [3]):
        with pytest.raises(RecipeError, match="data.features.folder is"):
            open_folder(FeatureFiles(folder=folder), root, ["one"])


def test_videos_without_features_are_named_unless_skipped(root, caplog):
    folder = open_folder(FeatureFiles(stride=4, fps=10), root, ["one"]).folder
    with pytest.raises(ManifestError, match="1 of 2 videos have no features, the first is gone"):
        check_complete(["gone"], ["one"], folder, skip_missing=False)
    check_complete(["gone"], ["one"], folder, skip_missing=True)
    assert "they are left out" in caplog.text
    check_complete([], ["one"], folder, skip_missing=False)
