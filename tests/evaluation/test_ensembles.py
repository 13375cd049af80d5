"""Score ensembles: sums, fitted weights, files, and members with their own pixels and views."""

import json
import shutil

import numpy as np
import pytest
from evaluation.classifiers import CLASSES, KINDS, by_hand

from internvideo_hf import InternVideoVideoProcessor, ScoreEnsemble
from internvideo_hf.checkpoints import fuse_encoders
from internvideo_hf.evaluation.ensembles import Scores, fit_weights, merge_scores
from internvideo_hf.inference.classifier import Classifier


def scores(rows, videos=("a", "b"), labels=(0, 2), classes=CLASSES, **facts) -> Scores:
    return Scores(list(videos), np.array(labels), np.array(rows, dtype=np.float64), list(classes), facts)


FIRST = [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]]
SECOND = [[0.1, 0.8, 0.1], [0.0, 0.2, 0.8]]


class TestMergedScores:
    def test_sum_is_weighted_and_equal_by_default(self):
        both = [scores(FIRST), scores(SECOND)]
        np.testing.assert_allclose(merge_scores(both).probabilities, [[0.4, 0.5, 0.1], [0.05, 0.4, 0.55]])
        expected = [[0.55, 0.35, 0.1], [0.075, 0.5, 0.425]]
        np.testing.assert_allclose(merge_scores(both, [3, 1]).probabilities, expected)
        assert merge_scores(both, [3, 1]).facts["weights"] == [0.75, 0.25]

    def test_videos_may_stand_in_another_order(self):
        other = scores(SECOND[::-1], videos=("b", "a"), labels=(2, 0))
        expected = merge_scores([scores(FIRST), scores(SECOND)]).probabilities
        np.testing.assert_array_equal(merge_scores([scores(FIRST), other]).probabilities, expected)

    def test_a_video_that_a_member_cannot_read_fails_unless_it_weighs_nothing(self):
        damaged = scores([[np.nan] * 3, SECOND[1]])
        assert merge_scores([scores(FIRST), damaged]).unreadable.tolist() == [True, False]
        assert not merge_scores([scores(FIRST), damaged], [1, 0]).unreadable.any()

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            (scores(SECOND, videos=("a", "c")), "on 2 videos"),
            (scores(SECOND, labels=(0, 1)), "other labels"),
            (scores(SECOND, classes=["jumps", "runs", "sits"]), "another order"),
        ],
    )
    def test_scores_that_do_not_fit_are_refused(self, other, message):
        with pytest.raises(ValueError, match=message):
            merge_scores([scores(FIRST), other])

    @pytest.mark.parametrize("weights", [[1], [0, 0], [1, -1], [float("nan"), 1]])
    def test_weights_without_a_meaning_are_refused(self, weights):
        with pytest.raises(ValueError, match="weights"):
            merge_scores([scores(FIRST), scores(SECOND)], weights)


class TestFittedWeights:
    def test_no_other_weights_make_the_truth_more_likely(self):
        rng = np.random.default_rng(0)
        names, labels = [str(number) for number in range(60)], rng.integers(0, 3, 60)
        members = [scores(rng.dirichlet([1, 1, 1], 60), names, labels) for _ in range(3)]
        for row, label in enumerate(labels):  # the first is right more often
            members[0].probabilities[row] = 0.6 * members[0].probabilities[row] + 0.4 * np.eye(3)[label]
        weights = fit_weights(members)

        def likelihood(shares):
            return np.log(merge_scores(members, shares).probabilities[np.arange(60), labels]).mean()

        assert weights.sum() == pytest.approx(1) and weights[0] == max(weights)
        others = rng.dirichlet([1, 1, 1], 500)
        assert likelihood(weights) >= max(likelihood(shares) for shares in others)

    def test_a_member_that_is_always_surer_of_the_truth_takes_all(self):
        np.testing.assert_allclose(fit_weights([scores(FIRST), scores([[0.2, 0.5, 0.3]] * 2)])[0], 1, atol=1e-6)

    def test_videos_that_failed_do_not_count(self):
        rows = [FIRST[0], [np.nan] * 3]
        np.testing.assert_allclose(fit_weights([scores(rows), scores([[0.2, 0.5, 0.3]] * 2)])[0], 1, atol=1e-6)
        with pytest.raises(ValueError, match="Every video"):
            fit_weights([scores([[np.nan] * 3] * 2), scores(FIRST)])


class TestFiles:
    def test_scores_come_back(self, tmp_path):
        kept = scores([FIRST[0], [np.nan] * 3], model="vit", views=[5, 3])
        kept.save(tmp_path / "vit.safetensors")
        loaded = Scores.load(tmp_path / "vit.safetensors")
        assert (loaded.videos, loaded.classes, loaded.facts) == (kept.videos, kept.classes, kept.facts)
        np.testing.assert_array_equal(loaded.probabilities, kept.probabilities)
        np.testing.assert_array_equal(loaded.labels, kept.labels)
        assert [file.name for file in tmp_path.iterdir()] == ["vit.safetensors"]

    def test_other_files_are_refused(self, tmp_path):
        (tmp_path / "noise.safetensors").write_bytes(b"noise")
        with pytest.raises(ValueError, match="holds no scores"):
            Scores.load(tmp_path / "noise.safetensors")


class TestScoreEnsemble:
    def test_each_member_sees_its_own_pixels_and_views(self, classifiers, clips):
        ensemble = ScoreEnsemble.from_pretrained(*classifiers, views=[(3, 1), None], weights=[0.7, 0.3], device="cpu")
        mae = by_hand(classifiers[0], KINDS[0], clips / "clip2.mp4", clips=3)
        uniformerv2 = by_hand(classifiers[1], KINDS[1], clips / "clip2.mp4")
        expected = 0.7 * mae + 0.3 * uniformerv2
        np.testing.assert_allclose(ensemble.scores(clips / "clip2.mp4"), expected, atol=1e-6)
        answer = ensemble(clips / "clip2.mp4", top_k=2)
        assert [entry["label"] for entry in answer] == [CLASSES[place] for place in np.argsort(-expected)[:2]]
        assert answer[0]["score"] == pytest.approx(expected.max(), abs=1e-6)

    def test_the_fused_model_is_a_member_like_others(self, classifiers, clips, tmp_path):
        fuse_encoders(*classifiers, tmp_path / "fused")
        member = Classifier.load(tmp_path / "fused", device="cpu")
        views = member.views_of({"video": clips / "clip1.mp4"})
        (found,) = member.probabilities({name: pixels[None] for name, pixels in views.items()})
        logits = [
            np.log(by_hand(folder, kind, clips / "clip1.mp4")) for folder, kind in zip(classifiers, KINDS, strict=True)
        ]
        mean = np.exp(np.mean(logits, axis=0))
        np.testing.assert_allclose(found, mean / mean.sum(), atol=1e-6)

    def test_members_of_other_classes_are_refused(self, classifiers, tmp_path):
        model = KINDS[0].from_pretrained(classifiers[0])
        model.config.id2label = {0: "jumps", 1: "runs", 2: "sits"}
        model.save_pretrained(tmp_path)
        InternVideoVideoProcessor.from_pretrained(classifiers[0]).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="same classes"):
            ScoreEnsemble.from_pretrained(classifiers[0], tmp_path, device="cpu")

    def test_classes_keep_their_order_however_the_file_is_sorted(self, classifiers, clips, tmp_path):
        shutil.copytree(classifiers[0], tmp_path / "sorted")
        content = json.loads((tmp_path / "sorted/config.json").read_text())
        content["id2label"] = dict(reversed(content["id2label"].items()))
        (tmp_path / "sorted/config.json").write_text(json.dumps(content))
        video = clips / "clip1.mp4"
        answers = [
            ScoreEnsemble.from_pretrained(name, device="cpu")(video) for name in (classifiers[0], tmp_path / "sorted")
        ]
        assert answers[0] == answers[1]
