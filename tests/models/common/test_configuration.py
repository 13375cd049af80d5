"""Fields that the configurations of all classifiers share."""

import pytest
from huggingface_hub.errors import StrictDataclassError

from internvideo_hf import InternVideoConfig, InternVideoMAEConfig, UniFormerV2Config, ViCLIPConfig
from internvideo_hf.models.common.configuration import ClassifierConfig, evidential_settings
from internvideo_hf.models.common.evidential import EvidentialSettings

CONFIGS = (InternVideoMAEConfig, UniFormerV2Config, ViCLIPConfig, InternVideoConfig)


@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.__name__)
def test_configurations_of_classifiers_keep_the_evidence(kind, tmp_path):
    assert issubclass(kind, ClassifierConfig)
    assert evidential_settings(kind()) == EvidentialSettings()
    kind().save_pretrained(tmp_path)
    assert "evidential" not in (tmp_path / "config.json").read_text()  # as earlier versions wrote it
    kind(evidential={"evidence": "relu", "kl": True}).save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path)
    assert evidential_settings(loaded) == EvidentialSettings(evidence="relu", kl=True)


@pytest.mark.parametrize(
    ("evidential", "message"),
    [
        ({"evidense": "exp"}, "evidense.*fields are those of EvidentialSettings"),
        ({"loss": "brier"}, "evidential.loss"),
    ],
)
def test_unknown_evidence_is_refused(evidential, message):
    with pytest.raises(StrictDataclassError, match=message):
        InternVideoMAEConfig(evidential=evidential)
