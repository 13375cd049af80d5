"""Numbers of TCANet that do not fit each other are refused; the default is the public model."""

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError

from internvideo_hf import TCANetConfig
from internvideo_hf.tasks.temporal_localization.decoding import Fusion, Suppression


def test_decoding_is_that_of_the_original_and_may_be_changed_in_part():
    config = TCANetConfig(suppression={"sigma": 0.5}, fusion={"classes": 1})
    suppression, fusion = Suppression(**config.suppression), Fusion(**config.fusion)
    assert (suppression.sigma, suppression.exponent, suppression.max_segments) == (0.5, 2.5, 100)
    assert (fusion.classes, fusion.sharpness, fusion.combine, fusion.max_detections) == (1, 2, "product", 200)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_window": 0}, "attention_window=0"),
        ({"step_seconds": 0}, "step_seconds=0"),
        ({"num_attention_heads": 6}, "num_attention_heads=6 must divide hidden_size=512"),
        ({"feature_size": 10}, "num_groups=4 must divide feature_size=10"),
        ({"num_end_samples": 30}, "num_end_samples=30 must be a multiple of 4"),
        ({"iou_thresholds": []}, "iou_thresholds"),
        ({"iou_thresholds": [0.5, 1.5]}, "iou_thresholds"),
        ({"hidden_dropout": 1}, "hidden_dropout=1"),
    ],
)
def test_nonsense_is_refused(changes, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        TCANetConfig(**changes)
