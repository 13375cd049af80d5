"""Score ensembles: sums, fitted weights, files, and members with their own pixels and views."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from models.model_checks import move_from_start
from program import run
from video.clips import write_video

from internvideo_hf import (
    InternVideoMAEConfig,
    InternVideoMAEForVideoClassification,
    InternVideoVideoProcessor,
    ScoreEnsemble,
    UniFormerV2Config,
    UniFormerV2ForVideoClassification,
)
from internvideo_hf.checkpoints import fuse_encoders
from internvideo_hf.evaluation.ensemble_run import evaluate_ensemble
from internvideo_hf.evaluation.ensembles import Scores, fit_weights, merge_scores
from internvideo_hf.evaluation.protocols import ensemble_names, load_ensemble
from internvideo_hf.inference.classifier import Classifier
from internvideo_hf.recipes.reading import RecipeError

CLASSES = ["runs", "jumps", "sits"]


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


# ---- with models ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory) -> tuple[Path, Path]:
    """Two that differ in frames, size, rule and statistics."""
    folder, labels = tmp_path_factory.mktemp("classifiers"), dict(enumerate(CLASSES))
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 16, "id2label": labels}
    mae = InternVideoMAEConfig(**sizes, hidden_size=16, num_frames=4)
    uniformerv2 = UniFormerV2Config(**sizes, hidden_size=24, global_layers=[0, 1], num_frames=3)
    torch.manual_seed(0)
    shared = {"size": {"height": 32, "width": 32}, "do_center_crop": False}
    for number, (model, options) in enumerate(
        [
            (InternVideoMAEForVideoClassification(mae), {"sampler": "videomae_dense", "num_frames": 4}),
            (UniFormerV2ForVideoClassification(uniformerv2), {"sampler": "uniformerv2", "num_frames": 3}),
        ]
    ):
        place = folder / model.config.model_type
        move_from_start(model, seed=number).save_pretrained(place)
        InternVideoVideoProcessor(**shared, **options, image_mean=[0.4 + number / 10] * 3).save_pretrained(place)
    return folder / "internvideo_mae", folder / "uniformerv2"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for number in range(5):
        write_video(root / f"clip{number}.mp4", num_frames=20 + 10 * number)
    (root / "val.csv").write_text("".join(f"clip{number}.mp4,{CLASSES[number % 3]}\n" for number in range(3)))
    (root / "fit.csv").write_text("clip3.mp4,2\nclip4.mp4,1\n")
    return root


@torch.no_grad()
def by_hand(folder: Path, kind: type, video: Path, clips: int = 1) -> np.ndarray:
    pixels = InternVideoVideoProcessor.from_pretrained(folder)([str(video)], num_clips=clips, return_tensors="pt")
    logits = kind.from_pretrained(folder).eval()(pixels["pixel_values_videos"]).logits
    return logits.double().softmax(dim=-1).mean(dim=0).numpy()


KINDS = (InternVideoMAEForVideoClassification, UniFormerV2ForVideoClassification)


class TestScoreEnsemble:
    def test_each_member_sees_its_own_pixels_and_views(self, classifiers, data):
        ensemble = ScoreEnsemble.from_pretrained(*classifiers, views=[(3, 1), None], weights=[0.7, 0.3], device="cpu")
        mae = by_hand(classifiers[0], KINDS[0], data / "clip2.mp4", clips=3)
        uniformerv2 = by_hand(classifiers[1], KINDS[1], data / "clip2.mp4")
        expected = 0.7 * mae + 0.3 * uniformerv2
        np.testing.assert_allclose(ensemble.scores(data / "clip2.mp4"), expected, atol=1e-6)
        answer = ensemble(data / "clip2.mp4", top_k=2)
        assert [entry["label"] for entry in answer] == [CLASSES[place] for place in np.argsort(-expected)[:2]]
        assert answer[0]["score"] == pytest.approx(expected.max(), abs=1e-6)

    def test_the_fused_model_is_a_member_like_others(self, classifiers, data, tmp_path):
        fuse_encoders(*classifiers, tmp_path / "fused")
        member = Classifier.load(tmp_path / "fused", device="cpu")
        views = member.views_of({"video": data / "clip1.mp4"})
        (found,) = member.probabilities({name: pixels[None] for name, pixels in views.items()})
        logits = [
            np.log(by_hand(folder, kind, data / "clip1.mp4")) for folder, kind in zip(classifiers, KINDS, strict=True)
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


HERE = {"workers": 0, "device": "cpu", "quiet": True}


class TestEvaluation:
    def test_result_holds_each_member_and_their_sum(self, classifiers, data, tmp_path):
        protocol = load_ensemble("classifiers")
        result = evaluate_ensemble(protocol, classifiers, data, tmp_path / "result.json", **HERE)
        tables = [
            np.stack([by_hand(folder, kind, data / f"clip{number}.mp4") for number in range(3)])
            for folder, kind in zip(classifiers, KINDS, strict=True)
        ]
        labels = np.arange(3)
        for entry, table in zip(result["members"], tables, strict=True):
            assert entry["scores"]["top-1"] == pytest.approx(100 * (table.argmax(1) == labels).mean())
        assert result["scores"]["top-1"] == pytest.approx(100 * (sum(tables).argmax(1) == labels).mean())
        assert result["scores"]["top-5"] == 100
        assert json.loads((tmp_path / "result.json").read_text()) == json.loads(json.dumps(result))

    def test_kept_scores_are_taken_up_and_merged_from_files(self, classifiers, data, tmp_path, monkeypatch):
        protocol, kept = load_ensemble("classifiers", ["weights=fitted", "data.validation=fit.csv"]), tmp_path / "kept"
        first = evaluate_ensemble(protocol, classifiers, data, scores=kept, **HERE)
        files = sorted(kept.iterdir())
        assert len(files) == 4 and {file.suffix for file in files} == {".safetensors"}
        fitted = [entry["weight"] for entry in first["members"]]
        validation = [next(kept.glob(f"{folder.name}-fit-*")) for folder in classifiers]
        np.testing.assert_allclose(fitted, fit_weights([Scores.load(file) for file in validation]))

        def no_more(*args):
            raise AssertionError("computed again")

        monkeypatch.setattr(Classifier, "probabilities", no_more)
        again = evaluate_ensemble(protocol, classifiers, data, scores=kept, **HERE)
        assert {**again, "seconds": 0} == {**first, "seconds": 0}
        tested = [next(kept.glob(f"{folder.name}-val-*")) for folder in classifiers]
        plain = load_ensemble("classifiers", [f"weights={fitted}"])
        merged = evaluate_ensemble(plain, tested, data, **HERE)
        assert merged["scores"] == first["scores"]
        with pytest.raises(RecipeError, match="another list than fit.csv"):
            evaluate_ensemble(load_ensemble("classifiers", ["data.list=fit.csv"]), tested, data, **HERE)

    def test_weights_are_not_fitted_on_what_is_scored(self, classifiers, data):
        for name in ("./val.csv", "overlap.csv"):
            (data / "overlap.csv").write_text("clip4.mp4,2\nclip1.mp4,1\n")
            protocol = load_ensemble("classifiers", ["weights=fitted", f"data.validation={name}"])
            with pytest.raises(RecipeError, match="of the videos of val.csv"):
                evaluate_ensemble(protocol, classifiers, data, **HERE)

    def test_files_of_other_classes_and_views_are_refused(self, classifiers, data, tmp_path):
        evaluate_ensemble(load_ensemble("classifiers"), classifiers, data, scores=tmp_path, **HERE)
        files = [next(tmp_path.glob(f"{folder.name}-*")) for folder in classifiers]
        with pytest.raises(RecipeError, match="does not know the classes of data.labels=k400"):
            evaluate_ensemble(load_ensemble("classifiers", ["data.labels=k400"]), files, data, **HERE)
        protocol = load_ensemble("internvideo_d", ["data.labels=null", "data.list=val.csv"])
        with pytest.raises(RecipeError, match=r"scored by \[1, 1\] views, and the protocol has \[5, 3\]"):
            evaluate_ensemble(protocol, files, data, **HERE)

    def test_classes_keep_their_order_however_the_file_is_sorted(self, classifiers, data, tmp_path):
        shutil.copytree(classifiers[0], tmp_path / "sorted")
        content = json.loads((tmp_path / "sorted/config.json").read_text())
        content["id2label"] = dict(reversed(content["id2label"].items()))
        (tmp_path / "sorted/config.json").write_text(json.dumps(content))
        video = data / "clip1.mp4"
        answers = [
            ScoreEnsemble.from_pretrained(name, device="cpu")(video) for name in (classifiers[0], tmp_path / "sorted")
        ]
        assert answers[0] == answers[1]

    def test_a_stopped_run_goes_on(self, classifiers, data, tmp_path, monkeypatch):
        monkeypatch.setattr("internvideo_hf.utils.journal.CHECKPOINT_EVERY_SECONDS", 0.0)
        protocol, right, calls = load_ensemble("classifiers"), Classifier.probabilities, []
        options = {**HERE, "batch_size": 1}
        expected = evaluate_ensemble(protocol, classifiers[:1], data, **options)

        def stopping(self, views, batch_size):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return right(self, views, batch_size)

        monkeypatch.setattr(Classifier, "probabilities", stopping)
        with pytest.raises(KeyboardInterrupt):
            evaluate_ensemble(protocol, classifiers[:1], data, scores=tmp_path, **options)
        found = evaluate_ensemble(protocol, classifiers[:1], data, scores=tmp_path, **options)
        assert len(calls) == 4, "two of three videos had been kept"
        assert found["scores"] == expected["scores"]
        assert [file.suffix for file in tmp_path.iterdir()] == [".safetensors"]

    def test_a_damaged_video_is_wrong_for_all_and_listed(self, classifiers, data, tmp_path):
        for file in data.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        (tmp_path / "clip1.mp4").write_bytes(b"noise")
        protocol = load_ensemble("classifiers")
        with pytest.raises(RuntimeError, match="unreadable"):
            evaluate_ensemble(protocol, classifiers, tmp_path, **HERE)
        result = evaluate_ensemble(protocol, classifiers, tmp_path, max_damaged=0.5, **HERE)
        assert [Path(entry["video"]).name for entry in result["damaged"]] == ["clip1.mp4"]
        assert "clip1.mp4" in result["damaged"][0]["cause"]
        assert result["scores"]["top-5"] == pytest.approx(200 / 3)


class TestProtocols:
    def test_published_ensembles_have_the_papers_numbers(self):
        """Table 2 of arXiv:2212.03191."""
        told = {
            name: [(entry.labels, entry.scores["top-1"]) for entry in load_ensemble(name).published]
            for name in ensemble_names()
        }
        assert told == {
            "ensemble/classifiers": [],
            "ensemble/internvideo_d": [("k400", 90.9), ("k600", 91.1), ("k700", 83.8)],
            "ensemble/internvideo_t": [("k400", 91.1), ("k600", 91.3), ("k700", 84.0)],
        }
        families = [[member.family for member in load_ensemble(name).members] for name in ensemble_names()]
        assert families == [[], ["internvideo_mae", "uniformerv2"], ["internvideo_mae", "uniformerv2", "uniformerv2"]]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ("weights=best", "equal, fitted"),
            ("weights=[]", "one above"),
            ("weights=[-1, 2]", "0 or more"),
            ("weights=[.inf, 1]", "0 or more"),
            ("weights=fitted", "data.validation"),
            ("data.validation=val.csv", "other videos"),
            ("data.labels=k401", "k400"),
            ("data.layout=x", "expected one of"),
            ("wieghts=equal", "Did you mean weights"),
        ],
    )
    def test_mistakes_are_refused(self, change, message):
        with pytest.raises(RecipeError, match=message):
            load_ensemble("classifiers", [change])

    def test_members_must_be_those_of_the_protocol(self, classifiers, data):
        with pytest.raises(RecipeError, match="Got 1 members, expected VideoMAE-H K400"):
            evaluate_ensemble(load_ensemble("internvideo_d"), classifiers[:1], data, **HERE)
        with pytest.raises(RecipeError, match="of uniformerv2"):
            evaluate_ensemble(load_ensemble("internvideo_d"), classifiers[::-1], data, **HERE)
        with pytest.raises(RecipeError, match="--head k400"):
            evaluate_ensemble(load_ensemble("internvideo_d"), classifiers, data, **HERE)
        with pytest.raises(RecipeError, match="3 numbers for 2 members"):
            evaluate_ensemble(load_ensemble("classifiers", ["weights=[1, 1, 1]"]), classifiers, data, **HERE)


class TestProgram:
    def test_members_are_named_one_by_one_and_the_protocol_may_be_left_out(self, classifiers, data, tmp_path):
        members = [part for folder in classifiers for part in ("--ensemble", folder)]
        done = run(
            "evaluate", "data.list=fit.csv", *members, "--data-root", data, "--out", tmp_path / "r.json",
            "--scores", tmp_path / "kept", "--device", "cpu", "--workers", 0, "--quiet",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "the ensemble" in done.stdout and "1 clips x 1 crops, weight 0.500" in done.stdout
        assert json.loads((tmp_path / "r.json").read_text())["settings"]["data"]["list"] == "fit.csv"
        assert len(list((tmp_path / "kept").iterdir())) == 2
