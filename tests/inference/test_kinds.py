"""Every class of a model is of a kind."""

import json

import pytest

from internvideo_hf.auto import FAMILIES
from internvideo_hf.inference.kinds import (
    ACTION_DETECTOR,
    ANSWERER,
    ANTICIPATOR,
    AUTOENCODER,
    CAPTIONER,
    CLASSIFIER,
    DUAL_ENCODER,
    ENCODER,
    FEATURE_HEAD,
    GROUNDER,
    HAND_PREDICTOR,
    NAVIGATOR,
    kind_of,
    serves,
)


def write_config(folder, model_type: str, architecture: str | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"model_type": model_type} | ({} if architecture is None else {"architectures": [architecture]})
    (folder / "config.json").write_text(json.dumps(content))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_model_class_has_a_kind(family, tmp_path):
    kinds = {
        "AutoModelForVideoClassification": CLASSIFIER,
        "AutoModelForOpenSetClassification": CLASSIFIER,
        "AutoModelForPreTraining": AUTOENCODER,
        "AutoModelForMultimodalLM": CAPTIONER,
        "AutoModelForVisualQuestionAnswering": ANSWERER,
        "AutoModelForVideoActionDetection": ACTION_DETECTOR,
        "AutoModelForShortTermAnticipation": ANTICIPATOR,
        "AutoModelForHandPrediction": HAND_PREDICTOR,
    }
    for auto, name in FAMILIES[family].model_names.items():
        write_config(tmp_path, family, name)
        if FAMILIES[family].video_processor_name is None:
            heads = {"actionformer": FEATURE_HEAD, "tcanet": FEATURE_HEAD, "vslnet": GROUNDER}
            assert kind_of(tmp_path) == (heads.get(family, NAVIGATOR), name)
            continue
        plain = DUAL_ENCODER if family in ("internvideo_mm", "viclip") else ENCODER
        assert kind_of(tmp_path) == (kinds.get(auto, plain), name)
    write_config(tmp_path, family, None)
    assert kind_of(tmp_path) is None


def test_a_model_of_captions_is_also_one_of_video_and_text():
    assert serves(CAPTIONER, DUAL_ENCODER) and serves(CAPTIONER, CAPTIONER)
    assert not serves(DUAL_ENCODER, CAPTIONER) and not serves(CLASSIFIER, DUAL_ENCODER)
