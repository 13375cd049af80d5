"""`export_model`, and its folders in the place of a model's."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoProcessor, AutoVideoProcessor, pipeline

from internvideo_hf import InternVideoMMModel
from internvideo_hf.export.parity import BOUNDS, Bound, ParityError
from internvideo_hf.export.run import Settings, _calibration_clips, export_model
from internvideo_hf.inference.classifier import Classifier
from internvideo_hf.inference.embedder import Embedder
from internvideo_hf.inference.features import FeatureExtractor
from internvideo_hf.inference.open_set.observer import scorer_for
from internvideo_hf.inference.open_set.scorer import Subject
from internvideo_hf.inference.runner import RunSettings
from internvideo_hf.models.common.exported.modeling import ExportedModel
from internvideo_hf.search.index import VideoIndex
from internvideo_hf.video import VideoReader

HERE = RunSettings(workers=0, quiet=True)
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


class TestClassifier:
    def test_the_folder_holds_processor_labels_and_figures(self, exported_classifier, mae_folder):
        assert {path.name for path in exported_classifier.iterdir()} == {
            *("README.md", "config.json", "export.json", "video_preprocessor_config.json"),
            *("internvideo_loader.py", "video.onnx", "video.onnx.data"),
        }
        content = json.loads((exported_classifier / "export.json").read_text())
        assert content["format"] == "onnx" and content["dtype"] == "float32" and content["package"]
        shape = content["functions"]["video"]["inputs"]["pixel_values_videos"]["shape"]
        assert shape == ["batch", 16, 3, 64, 64]
        assert set(content["agreement"]) == {"video.logits", "video.pooler_output", "video.last_hidden_state"}
        assert all(found["cosine"] > 0.99999 for found in content["agreement"].values())
        labels = json.loads((exported_classifier / "config.json").read_text())["id2label"]
        assert labels == json.loads((mae_folder / "config.json").read_text())["id2label"]

    def test_probabilities_are_those_of_torch(self, exported_classifier, mae_folder, bikes):
        rows = [{"video": str(bikes)}]
        ours, theirs = (Classifier.load(folder, 2, 3, device="cpu") for folder in (exported_classifier, mae_folder))
        scores, causes = ours.classify(rows, HERE)
        assert causes == {} and ours.classes == theirs.classes
        np.testing.assert_allclose(scores, theirs.classify(rows, HERE)[0], atol=1e-5)

    def test_pipelines_take_it(self, exported_classifier, mae_folder, bikes):
        for task in ("multi-view-video-classification", "video-classification"):
            ours, theirs = (
                pipeline(task, model=str(folder), device="cpu")(str(bikes))
                for folder in (exported_classifier, mae_folder)
            )
            assert [answer["label"] for answer in ours] == [answer["label"] for answer in theirs]
            assert ours[0]["score"] == pytest.approx(theirs[0]["score"], abs=1e-5)

    def test_features_are_those_of_torch(self, exported_classifier, mae_folder, bikes, monkeypatch):
        for options in ({}, {"pooling": "mean"}):
            with VideoReader(bikes) as reader:
                ours, theirs = (
                    torch.cat(list(FeatureExtractor(folder, 16, 200, device="cpu", **options).rows(reader)))
                    for folder in (exported_classifier, mae_folder)
                )
            torch.testing.assert_close(ours, theirs, **CLOSE)
        with pytest.raises(ValueError, match="window=8 must be 16"):
            FeatureExtractor(exported_classifier, 8, device="cpu")
        monkeypatch.setattr(ExportedModel, "num_frames", None)  # as where no frame has an embedding
        FeatureExtractor(exported_classifier, 8, device="cpu")
        with pytest.raises(ValueError, match="no output_hidden_states"):
            FeatureExtractor(exported_classifier, 16, layer=1, device="cpu")

    def test_it_runs_on_the_cpu_in_its_own_number_type(self, exported_classifier):
        with pytest.raises(ValueError, match="runs on the CPU, not on meta"):
            Classifier.load(exported_classifier, device="meta")
        for dtype in ("bfloat16", "int8"):
            with pytest.raises(ValueError, match=f"exported in float32 and cannot run in {dtype}"):
                Classifier.load(exported_classifier, dtype=dtype)
        assert Classifier.load(exported_classifier, device="cpu", dtype="float32").model.dtype == torch.float32

    def test_open_set_methods_that_read_logits_take_it(self, exported_classifier, mae_folder):
        ours, theirs = (Classifier.load(folder, device="cpu") for folder in (exported_classifier, mae_folder))
        assert Subject.of(ours.model) == Subject.of(theirs.model)
        scorer_for(ours, "energy")
        with pytest.raises(ValueError, match="exported and gives logits alone"):
            scorer_for(ours, "openmax")


class TestDualEncoder:
    def test_embeddings_and_their_fingerprint_are_those_of_torch(self, exported_dual, thin_folder, bikes):
        ours, theirs = Embedder(exported_dual, "cpu"), Embedder(thin_folder, "cpu")
        texts = ["a man rides a bike", "rain", "a dog and a cat are asleep on the red sofa"]
        torch.testing.assert_close(ours.embed_texts(texts), theirs.embed_texts(texts), **CLOSE)
        torch.testing.assert_close(ours.embed_video(str(bikes)), theirs.embed_video(str(bikes)), **CLOSE)
        assert ours.logit_scale == pytest.approx(theirs.logit_scale)
        assert ours.fingerprint == theirs.fingerprint
        twice = {"num_clips": 2}
        assert Embedder(exported_dual, "cpu", twice).fingerprint not in (ours.fingerprint, theirs.fingerprint)

    def test_zero_shot_takes_it(self, exported_dual, thin_folder, bikes):
        options = {"candidate_labels": ["a bike", "rain"], "device": "cpu"}
        ours, theirs = (
            pipeline("zero-shot-video-classification", model=str(folder), **options)(str(bikes))
            for folder in (exported_dual, thin_folder)
        )
        assert [answer["label"] for answer in ours] == [answer["label"] for answer in theirs]
        assert ours[0]["similarity"] == pytest.approx(theirs[0]["similarity"], abs=1e-4)

    def test_an_index_of_torch_is_searched_with_it(self, exported_dual, thin_folder, bikes, tmp_path):
        index = VideoIndex(thin_folder, window=4, folder=tmp_path / "index", device="cpu")
        assert not index.update([bikes]).failures
        again = VideoIndex.load(tmp_path / "index", model=exported_dual)
        assert not again.update([bikes]).failures
        ours, theirs = again.search("a bike", top_k=1), index.search("a bike", top_k=1)
        assert ours[0].start == theirs[0].start

    def test_its_tokenizer_is_that_of_the_model(self, exported_dual, thin_folder):
        ours, theirs = (json.loads((folder / "tokenizer.json").read_text()) for folder in (exported_dual, thin_folder))
        assert ours == theirs and ours["truncation"] is None and ours["padding"] is None

    def test_similarities_are_those_of_torch(self, exported_dual, thin_folder, bikes):
        processor = AutoProcessor.from_pretrained(exported_dual)
        inputs = processor(videos=[str(bikes)], text=["a bike", "rain"], return_tensors="pt")
        with torch.no_grad():
            expected = AutoModel.from_pretrained(thin_folder)(**inputs).logits_per_video
        found = InternVideoMMModel.from_pretrained(exported_dual)(**inputs)
        torch.testing.assert_close(found.logits_per_video, expected, **CLOSE)


class TestRefusals:
    @pytest.fixture(autouse=True)
    def _extra(self):
        pytest.importorskip("onnxscript", reason="needs the extra export")

    def test_an_export_is_not_exported_again(self, exported_classifier, tmp_path):
        with pytest.raises(ValueError, match="is exported already"):
            export_model(exported_classifier, tmp_path / "out", Settings("onnx"))

    def test_models_of_other_kinds_are_refused(self, mae_pretrained_folder, tmp_path):
        with pytest.raises(ValueError, match="InternVideoMAEForPreTraining, which is not exported"):
            export_model(mae_pretrained_folder, tmp_path / "out", Settings("onnx"))

    def test_wrong_settings_are_refused(self):
        with pytest.raises(ValueError, match=r"onnxx.*onnx"):
            Settings("onnxx")
        with pytest.raises(ValueError, match="float8"):
            Settings("onnx", "float8")
        with pytest.raises(ValueError, match="int8 needs videos of calibration"):
            Settings("onnx", "int8")
        with pytest.raises(ValueError, match="float32 takes no videos of calibration, got 1"):
            Settings("onnx", calibrate=("clip.mp4",))
        with pytest.raises(ValueError, match="size=0 must be at least 1"):
            Settings("onnx", size=0)

    @pytest.mark.parametrize(
        ("settings", "word"),
        [({"size": 60}, "size=60 is not a multiple of the patch size 16"), ({"frames": 3}, "number of frames, 3")],
    )
    def test_sizes_that_positions_cannot_take_are_refused(self, mae_folder, tmp_path, settings, word):
        with pytest.raises(ValueError, match=word):
            export_model(mae_folder, tmp_path / "out", Settings("onnx", **settings))
        assert not list(tmp_path.iterdir())

    def test_clips_of_calibration_are_taken_evenly(self, bikes, mae_folder, monkeypatch):
        monkeypatch.setattr("internvideo_hf.export.run.CALIBRATION", 2)
        said, seen = [], []
        monkeypatch.setattr("internvideo_hf.export.run.read_clips", lambda p, rows, *_: seen.extend(rows) or [])
        settings = Settings("onnx", "int8", calibrate=("a", "b", "c", "d", "e"))
        assert _calibration_clips(None, settings, said.append) == []
        assert [row["video"] for row in seen] == ["a", "c"] and "Of 5 videos of calibration, 2 are taken" in said[0]

    def test_a_processor_without_a_fixed_size_needs_one(self, mae_folder, tmp_path):
        folder = shutil.copytree(mae_folder, tmp_path / "model")
        processor = AutoVideoProcessor.from_pretrained(folder)
        processor.configure({"do_center_crop": False, "size": {"shortest_edge": 64}})
        processor.save_pretrained(folder)
        with pytest.raises(ValueError, match="Choose it by --size"):
            export_model(folder, tmp_path / "out", Settings("onnx"))

    def test_a_difference_above_the_bound_writes_nothing(self, mae_folder, tmp_path, monkeypatch):
        monkeypatch.setitem(BOUNDS, "float32", Bound(1.1))
        with pytest.raises(ParityError, match="differs from torch: its logits has a cosine of 1.0000"):
            export_model(mae_folder, tmp_path / "out", Settings("pt2", frames=2, size=32))
        assert not list(tmp_path.iterdir())
