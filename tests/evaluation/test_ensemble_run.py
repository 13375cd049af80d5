"""Evaluation of ensembles: members and sums by hand, kept scores, interruptions, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
from evaluation.classifiers import KINDS, by_hand
from program import run
from tasks.small_classifiers import write_classifier
from video.clips import decode_in_order

from internvideo_hf.evaluation.ensemble_run import evaluate_ensemble
from internvideo_hf.evaluation.ensembles import Scores, fit_weights
from internvideo_hf.evaluation.protocols import load_ensemble
from internvideo_hf.evaluation.report import ensemble_table
from internvideo_hf.inference.classifier import Classifier
from internvideo_hf.recipes.reading import RecipeError

HERE = {"workers": 0, "device": "cpu", "quiet": True}


class TestEvaluation:
    def test_result_holds_each_member_and_their_sum(self, classifiers, clips, tmp_path):
        protocol = load_ensemble("classifiers")
        result = evaluate_ensemble(protocol, classifiers, clips, tmp_path / "result.json", **HERE)
        tables = [
            np.stack([by_hand(folder, kind, clips / f"clip{number}.mp4") for number in range(3)])
            for folder, kind in zip(classifiers, KINDS, strict=True)
        ]
        labels = np.arange(3)
        for entry, table in zip(result["members"], tables, strict=True):
            assert entry["scores"]["top-1"] == pytest.approx(100 * (table.argmax(1) == labels).mean())
        assert result["scores"]["top-1"] == pytest.approx(100 * (sum(tables).argmax(1) == labels).mean())
        assert result["scores"]["top-5"] == 100
        assert json.loads((tmp_path / "result.json").read_text()) == json.loads(json.dumps(result))

    def test_kept_scores_are_taken_up_and_merged_from_files(self, classifiers, clips, tmp_path, monkeypatch):
        protocol, kept = load_ensemble("classifiers", ["weights=fitted", "data.validation=fit.csv"]), tmp_path / "kept"
        first = evaluate_ensemble(protocol, classifiers, clips, scores=kept, **HERE)
        files = sorted(kept.iterdir())
        assert len(files) == 4 and {file.suffix for file in files} == {".safetensors"}
        fitted = [entry["weight"] for entry in first["members"]]
        validation = [next(kept.glob(f"{folder.name}-fit-*")) for folder in classifiers]
        np.testing.assert_allclose(fitted, fit_weights([Scores.load(file) for file in validation]))

        def no_more(*args):
            raise AssertionError("computed again")

        monkeypatch.setattr(Classifier, "probabilities", no_more)
        again = evaluate_ensemble(protocol, classifiers, clips, scores=kept, **HERE)
        assert {**again, "seconds": 0} == {**first, "seconds": 0}
        tested = [next(kept.glob(f"{folder.name}-val-*")) for folder in classifiers]
        plain = load_ensemble("classifiers", [f"weights={fitted}"])
        merged = evaluate_ensemble(plain, tested, clips, **HERE)
        assert merged["scores"] == first["scores"]
        with pytest.raises(RecipeError, match="another list than fit.csv"):
            evaluate_ensemble(load_ensemble("classifiers", ["data.list=fit.csv"]), tested, clips, **HERE)

    def test_members_run_in_the_protocols_number_type(self, classifiers, clips, tmp_path):
        kept, half = tmp_path / "kept", load_ensemble("classifiers", ["dtype=bfloat16"])
        result = evaluate_ensemble(half, classifiers, clips, scores=kept, **HERE)
        assert [entry["dtype"] for entry in result["members"]] == ["bfloat16"] * 2
        assert "numbers bfloat16" in ensemble_table(result)
        evaluate_ensemble(load_ensemble("classifiers"), classifiers, clips, scores=kept, **HERE)
        assert len(list(kept.iterdir())) == 4  # other numbers, other scores
        with pytest.raises(RecipeError, match=r"scored with other settings \(dtype (bfloat16|none), now float16\)"):
            evaluate_ensemble(
                load_ensemble("classifiers", ["dtype=float16"]), sorted(kept.iterdir())[:2], clips, **HERE
            )

    def test_weights_are_not_fitted_on_what_is_scored(self, classifiers, clips):
        for name in ("./val.csv", "overlap.csv"):
            (clips / "overlap.csv").write_text("clip4.mp4,2\nclip1.mp4,1\n")
            protocol = load_ensemble("classifiers", ["weights=fitted", f"data.validation={name}"])
            with pytest.raises(RecipeError, match="of the videos of val.csv"):
                evaluate_ensemble(protocol, classifiers, clips, **HERE)

    def test_members_of_other_answers_are_refused(self, clips, tmp_path):
        for name, settings in (("regression", {"num_labels": 1}), ("multi_label", {"label_heads": {"a": ["b", "c"]}})):
            member = write_classifier(tmp_path / name, **settings)
            with pytest.raises(RecipeError, match=f"Evaluate it by {name}/custom"):
                evaluate_ensemble(load_ensemble("classifiers"), [member], clips, **HERE)

    def test_files_of_other_classes_and_views_are_refused(self, classifiers, clips, tmp_path):
        evaluate_ensemble(load_ensemble("classifiers"), classifiers, clips, scores=tmp_path, **HERE)
        files = [next(tmp_path.glob(f"{folder.name}-*")) for folder in classifiers]
        with pytest.raises(RecipeError, match="does not know the classes of data.labels=k400"):
            evaluate_ensemble(load_ensemble("classifiers", ["data.labels=k400"]), files, clips, **HERE)
        protocol = load_ensemble("internvideo_d", ["data.labels=null", "data.list=val.csv"])
        with pytest.raises(RecipeError, match=r"scored with other settings \(views \[1, 1\], now \[5, 3\]\)"):
            evaluate_ensemble(protocol, files, clips, **HERE)

    def test_a_stopped_run_goes_on(self, classifiers, clips, tmp_path, monkeypatch):
        monkeypatch.setattr("internvideo_hf.utils.journal.CHECKPOINT_EVERY_SECONDS", 0.0)
        protocol, right, calls = load_ensemble("classifiers"), Classifier.probabilities, []
        options = {**HERE, "batch_size": 1}
        expected = evaluate_ensemble(protocol, classifiers[:1], clips, **options)

        def stopping(self, views, batch_size):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return right(self, views, batch_size)

        monkeypatch.setattr(Classifier, "probabilities", stopping)
        with pytest.raises(KeyboardInterrupt):
            evaluate_ensemble(protocol, classifiers[:1], clips, scores=tmp_path, **options)
        found = evaluate_ensemble(protocol, classifiers[:1], clips, scores=tmp_path, **options)
        assert len(calls) == 4, "two of three videos had been kept"
        assert found["scores"] == expected["scores"]
        assert [file.suffix for file in tmp_path.iterdir()] == [".safetensors"]

    def test_a_damaged_video_is_wrong_for_all_and_listed(self, classifiers, clips, tmp_path):
        for file in clips.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        (tmp_path / "clip1.mp4").write_bytes(b"noise")
        protocol = load_ensemble("classifiers")
        with pytest.raises(RuntimeError, match="unreadable"):
            evaluate_ensemble(protocol, classifiers, tmp_path, **HERE)
        result = evaluate_ensemble(protocol, classifiers, tmp_path, max_damaged=0.5, **HERE)
        assert [Path(entry["video"]).name for entry in result["damaged"]] == ["clip1.mp4"]
        assert "clip1.mp4" in result["damaged"][0]["cause"]
        assert result["scores"]["top-5"] == pytest.approx(200 / 3)

    def test_parts_of_videos_are_scored_by_themselves(self, classifiers, clips, tmp_path):
        rows = "video,label,start,end\nclip4.mp4,runs,0,0.6\nclip4.mp4,jumps,0.6,1.2\n"
        (clips / "parts.csv").write_text(rows)
        protocol = load_ensemble("classifiers", ["data.list=parts.csv"])
        evaluate_ensemble(protocol, classifiers[:1], clips, scores=tmp_path, **HERE)
        found = Scores.load(next(tmp_path.glob("*.safetensors")))
        assert [name.rpartition("/")[2] for name in found.videos] == ["clip4.mp4 0-0.6 s", "clip4.mp4 0.6-1.2 s"]
        frames = decode_in_order(clips / "clip4.mp4")  # 30 a second
        expected = [by_hand(classifiers[0], KINDS[0], part) for part in (frames[:18], frames[18:36])]
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)

    def test_members_must_be_those_of_the_protocol(self, classifiers, clips):
        with pytest.raises(RecipeError, match="Got 1 members, expected VideoMAE-H K400"):
            evaluate_ensemble(load_ensemble("internvideo_d"), classifiers[:1], clips, **HERE)
        with pytest.raises(RecipeError, match="of uniformerv2"):
            evaluate_ensemble(load_ensemble("internvideo_d"), classifiers[::-1], clips, **HERE)
        with pytest.raises(RecipeError, match="--head k400"):
            evaluate_ensemble(load_ensemble("internvideo_d"), classifiers, clips, **HERE)
        with pytest.raises(RecipeError, match="3 numbers for 2 members"):
            evaluate_ensemble(load_ensemble("classifiers", ["weights=[1, 1, 1]"]), classifiers, clips, **HERE)

    def test_members_are_named_one_by_one_and_the_protocol_may_be_left_out(self, classifiers, clips, tmp_path):
        members = [part for folder in classifiers for part in ("--ensemble", folder)]
        done = run(
            "evaluate", "data.list=fit.csv", *members, "--data-root", clips, "--out", tmp_path / "r.json",
            "--scores", tmp_path / "kept", "--device", "cpu", "--workers", 0, "--quiet",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "the ensemble" in done.stdout and "1 clips x 1 crops, weight 0.500" in done.stdout
        assert json.loads((tmp_path / "r.json").read_text())["settings"]["data"]["list"] == "fit.csv"
        assert len(list((tmp_path / "kept").iterdir())) == 2
