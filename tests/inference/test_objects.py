"""Detectors of objects: their answers are those of transformers, by falling score; other models are refused."""

import numpy as np
import pytest
import torch
from tasks.action_detection.small import write_detector, write_rt_detr
from tasks.temporal_localization.heads import write_encoder
from transformers import AutoImageProcessor, AutoModelForObjectDetection
from video.clips import moving_picture

from internvideo_hf.inference.objects import ObjectDetector, detector_config, detector_processor, found_objects


@pytest.mark.parametrize("write", [write_detector, write_rt_detr])
def test_objects_of_all_classes_are_those_of_transformers(tmp_path, write):
    frames, folder = list(moving_picture(2, 90, 160)), write(tmp_path / "detector")
    found = ObjectDetector(folder, device="cpu").find(frames)
    model = AutoModelForObjectDetection.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        outputs = model(**processor(images=frames, return_tensors="pt"))
    for own, answer in zip(found, processor.post_process_object_detection(outputs, 0, [(1, 1)] * 2), strict=True):
        rows = sorted(zip(answer["scores"].tolist(), answer["labels"].tolist(), strict=True), reverse=True)
        assert len(rows) > 1 and sorted(own.labels.tolist()) == sorted(label for _, label in rows)
        np.testing.assert_allclose(own.scores, [score for score, _ in rows], atol=1e-5)
    few = ObjectDetector(folder, device="cpu").find(frames[:1], threshold=float(found[0].scores[1]))[0]
    assert few.scores.tolist() == found[0].scores[:1].tolist()


def test_what_is_not_finite_is_left_out():
    class Processor:
        def post_process_object_detection(self, outputs, threshold, target_sizes):
            boxes = torch.tensor([[0.1, 0.1, 0.2, 0.2], [0.1, torch.inf, 0.2, 0.2], [0.3, 0.3, 0.4, 0.4]])
            scores = torch.tensor([0.5, 0.9, 0.7])
            return [{"boxes": boxes, "scores": scores, "labels": torch.tensor([1, 2, 3])}]

    outputs = type("Outputs", (), {"logits": torch.zeros(1, 3, 4), "pred_boxes": torch.zeros(1, 3, 4)})()
    (found,) = found_objects(Processor(), outputs, 0.0)
    assert found.labels.tolist() == [3, 1] and found.scores.tolist() == pytest.approx([0.7, 0.5])


def test_other_models_are_refused_by_the_option_that_names_them(tmp_path):
    encoder = write_encoder(tmp_path / "encoder")
    with pytest.raises(ValueError, match=r"its model_type is internvideo_mae.*\(--model\)"):
        detector_config(encoder, "--model")
    detector = write_detector(tmp_path / "detector")
    assert detector_config(detector, "--model").id2label[1] == "Person"
    assert hasattr(detector_processor(detector, "--model"), "post_process_object_detection")
