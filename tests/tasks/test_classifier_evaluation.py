"""What the evaluations of classifiers share: which models suit a task, views and pixels, answers of rows."""

import numpy as np
import pytest
from tasks.small_classifiers import logits_of, write_classifier
from video.clips import write_video

from internvideo_hf.evaluation.protocols import load_protocol
from internvideo_hf.inference.runner import RunSettings
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.classifier_evaluation import classify, config_of, load_classifier, views_of
from internvideo_hf.tasks.protocol import Run, Samples

HEADS = {"verb": ["cut", "wash"], "noun": ["onion", "knife", "pot"]}
MODELS = {
    "one_class": {"num_labels": 3},
    "classes": {"num_labels": 3, "problem_type": "multi_label_classification"},
    "heads": {"label_heads": HEADS},
    "numbers": {"num_labels": 2, "problem_type": "regression"},
    "number": {"num_labels": 1},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: write_classifier(root / name, views=(2, 3), **settings) for name, settings in MODELS.items()}


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("classification", ["one_class", "classes"]),  # a loss of each class may train a choice of one, too
        ("multi_label", ["one_class", "classes", "heads"]),
        ("regression", ["numbers", "number"]),
    ],
)
def test_a_model_suits_a_task_by_its_answers(folders, task, names):
    protocol = load_protocol(f"{task}/custom")
    for name, folder in folders.items():
        if name in names:
            assert config_of(protocol, folder).model_type == "uniformerv2"
            continue
        right = {"heads": "multi_label", "number": "regression", "numbers": "regression"}.get(name, "classification")
        with pytest.raises(RecipeError, match=f"Evaluate it by {right}/custom"):
            config_of(protocol, folder)


def test_settings_of_the_protocol_come_before_those_of_a_test(folders):
    run, test = Run(str(folders["one_class"]), "cpu", RunSettings()), {"num_clips": 4, "processor": {"num_frames": 5}}
    plain = load_classifier(load_protocol("classification/custom"), run)
    assert (plain.num_clips, plain.num_crops, plain.processor.num_frames) == (2, 3, 3)
    tested = load_classifier(load_protocol("classification/custom"), run, test)
    assert (tested.num_clips, tested.num_crops, tested.processor.num_frames) == (4, 3, 5)
    changed = load_protocol("classification/custom", ["num_clips=1", "processor.num_frames=6"])
    changed = load_classifier(changed, run, test)
    assert (changed.num_clips, changed.processor.num_frames) == (1, 6)


def test_each_row_has_the_scores_of_its_clip(folders, tmp_path):
    videos = [{"video": str(write_video(tmp_path / f"{n}.mp4", 12 + n))} for n in range(2)]
    videos.append({"video": str(tmp_path / "gone.mp4")})
    run = Run(str(folders["numbers"]), "cpu", RunSettings(workers=0, quiet=True, max_damaged=0.9))
    classifier = load_classifier(load_protocol("regression/custom"), run)
    found = classify(classifier, Samples(videos, np.array([1, 0, 1, 2])), run, more="facts")
    expected = [logits_of(folders["numbers"], video["video"]).mean(dim=0).numpy() for video in videos[:2]]
    np.testing.assert_allclose(found.scores[:3], [expected[1], expected[0], expected[1]], atol=1e-5)
    assert np.isnan(found.scores[3]).all() and list(found.causes) == [2]
    assert found.videos == [videos[1], videos[0], videos[1], videos[2]] and found.facts["more"] == "facts"
    assert views_of({"model": found.facts}) == "2 clips x 3 crops"
