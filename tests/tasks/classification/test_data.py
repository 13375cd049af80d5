"""Labelled lists, and the published tests: every released classifier, its views, and how a model finds its own."""

from pathlib import Path

import pytest

from internvideo_hf import ManifestError, UniFormerV2Config
from internvideo_hf.checkpoints.released import released_rows
from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.models.internvideo_mae.configuration_internvideo_mae import InternVideoMAEConfig
from internvideo_hf.recipes.labels import load_labels
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.classification.data import (
    check_classes,
    find_tests,
    read_labelled_clips,
    view_settings,
)
from internvideo_hf.tasks.protocol import DataSettings

DATA_SETS = ["k400", "k600", "k700", "ssv2", "ssv1", "hmdb51", "mit", "anet", "hacs"]


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_released_classifier_of_the_data_set_is_a_row(name):
    protocol = load_protocol(f"classification/{name}")
    expected = {
        row["name"] for row in released_rows() if (row["evaluation"] or {}).get("data_set") == protocol.released
    }
    assert {entry.model for entry in protocol.published} == expected != set()
    assert all(entry.scores["top-1"] > 40 for entry in protocol.published if entry.scores)


# Transcribed from the model zoos and test scripts, by hand.
TESTS = [
    ("k400", "VideoMAE-B K400", (5, 3), {"top-1": 81.52, "top-5": 94.88}),
    ("k400", "VideoMAE-H K400 384", (7, 3), {"top-1": 89.54}),
    ("k400", "UniFormerV2-L K400 from K710 64x336", (2, 3), {"top-1": 90.0}),
    ("k400", "UniFormerV2-L K400 8x336 frozen", (3, 1), {"top-1": 86.7}),
    ("ssv2", "VideoMAE-B SSv2", (2, 3), {"top-1": 71.22, "top-5": 93.31}),
    ("ssv2", "UniFormerV2-L SSv2 32x224", (1, 3), {"top-1": 73.0}),
    ("hmdb51", "VideoMAE-H HMDB51 split 2", (None, None), {"top-1": 89.92}),
    ("anet", "UniFormerV2-L ActivityNet 16x224", (10, 3), {"top-1": 94.3}),
    ("mit", "UniFormerV2-B MiT 8x224", (4, 3), {"top-1": 42.6}),
]


@pytest.mark.parametrize(("data_set", "model", "views", "scores"), TESTS)
def test_views_and_scores_are_as_published(data_set, model, views, scores):
    (entry,) = [one for one in load_protocol(f"classification/{data_set}").published if one.model == model]
    assert (entry.test["num_clips"], entry.test["num_crops"]) == views and entry.scores == scores


def config_of(size: str, **values: object) -> InternVideoMAEConfig:
    return InternVideoMAEConfig.from_size(size, **values)


def test_a_released_model_is_found_by_its_configuration():
    k400, ssv2 = load_protocol("classification/k400"), load_protocol("classification/ssv2")
    (base,) = find_tests(k400, config_of("base"))
    assert base.model == "VideoMAE-B K400"
    (found,) = find_tests(ssv2, config_of("base"))
    assert view_settings([found])["processor"]["sampler"] == "videomae_sparse"
    large = UniFormerV2Config.from_size("large", "scene", num_frames=8, image_size=336, use_fusion_gate=False)
    tests = find_tests(k400, large)
    assert {test.model for test in tests} == {
        "UniFormerV2-L K400 from K710 8x336 frozen",
        "UniFormerV2-L K400 8x336 frozen",
    }
    assert find_tests(k400, config_of("base", num_frames=8)) == []


def test_a_model_may_be_named():
    protocol = load_protocol("classification/k400", ["model=VideoMAE-L K400"])
    (found,) = find_tests(protocol, config_of("base", num_frames=8))
    assert found.model == "VideoMAE-L K400"
    with pytest.raises(RecipeError, match="model: got 'VideoMAE-X', expected one of .*VideoMAE-L K400"):
        find_tests(load_protocol("classification/k400", ["model=VideoMAE-X"]), config_of("base"))


class TestLabelledClips:
    def test_labels_are_names_or_numbers(self, tmp_path):
        (tmp_path / "val.csv").write_text("b.mp4,jumps\na.mp4,runs\n")
        rows = read_labelled_clips(DataSettings("val.csv"), tmp_path, "model", ["runs", "jumps"])
        assert [(row["video"], row["label"]) for row in rows] == [
            (str(tmp_path / "b.mp4"), 1),
            (str(tmp_path / "a.mp4"), 0),
        ]

    def test_lists_and_models_of_other_classes_are_refused(self, tmp_path):
        (tmp_path / "val.csv").write_text("b.mp4,2\na.mp4,0\n")
        (tmp_path / "captions.csv").write_text("video,caption\na.mp4,a dog\n")
        with pytest.raises(RecipeError, match="rows without a label"):
            read_labelled_clips(DataSettings("captions.csv"), tmp_path, "model", ["runs", "jumps"])
        with pytest.raises(RecipeError, match="does not know the classes of data.labels=hmdb51"):
            read_labelled_clips(DataSettings("val.csv", labels="hmdb51"), tmp_path, "model", ["runs", "jumps"])
        with pytest.raises(ValueError, match="label is 2|label 2"):
            read_labelled_clips(DataSettings("val.csv"), tmp_path, "model", ["runs", "jumps"])

    def test_a_clip_with_two_labels_is_refused(self, tmp_path):
        (tmp_path / "val.csv").write_text("a.mp4,runs\nb.mp4,runs\na.mp4,jumps\n")
        with pytest.raises(RecipeError, match="a.mp4 two labels, 'runs' and 'jumps', expected one"):
            read_labelled_clips(DataSettings("val.csv"), tmp_path, "model", ["runs", "jumps"])
        (tmp_path / "parts.csv").write_text("video,label,start,end\na.mp4,runs,0,1\na.mp4,jumps,1,2\n")
        assert len(read_labelled_clips(DataSettings("parts.csv"), tmp_path, "model", ["runs", "jumps"])) == 2

    def test_folders_are_read_by_the_names_of_the_models_classes(self, tmp_path):
        for file in ("validation/runs/a.mp4", "validation/jumps/b.mp4"):
            (tmp_path / file).parent.mkdir(parents=True)
            (tmp_path / file).touch()
        for name in ("val.csv", "validation"):
            rows = read_labelled_clips(DataSettings(name), tmp_path, "model", ["runs", "jumps"])
            assert [(Path(row["video"]).name, row["label"]) for row in rows] == [("b.mp4", 1), ("a.mp4", 0)]
        with pytest.raises(ManifestError, match="the label 'jumps' is none of the 2 class names; .*'jump'"):
            read_labelled_clips(DataSettings("val.csv"), tmp_path, "model", ["runs", "jump"])

    def test_a_file_names_the_classes(self, tmp_path):
        (tmp_path / "names.txt").write_text("runs\njumps\n")
        (tmp_path / "val.csv").write_text("a.mp4,jumps\n")
        data = DataSettings("val.csv", labels="names.txt")
        for classes in (["runs", "jumps"], ["LABEL_0", "LABEL_1"]):
            assert read_labelled_clips(data, tmp_path, "model", classes)[0]["label"] == 1
        with pytest.raises(RecipeError, match="has the classes jumps, runs, and data.labels=names.txt runs, jumps"):
            read_labelled_clips(data, tmp_path, "model", ["jumps", "runs"])

    def test_classes_are_compared_by_name_and_order(self):
        check_classes("model", ["runs"], None)
        check_classes("model", load_labels("ucf101"), "ucf101")
        with pytest.raises(RecipeError, match="by name and in order. Convert it with --head ucf101"):
            check_classes("model", load_labels("ucf101")[::-1], "ucf101")
