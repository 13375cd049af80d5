"""Fields that the configurations of all classifiers share."""

import pytest
from huggingface_hub.errors import StrictDataclassError

from internvideo_hf import InternVideoConfig, InternVideoMAEConfig, UniFormerV2Config, ViCLIPConfig
from internvideo_hf.models.common.configuration import ClassifierConfig, evidential_settings, head_slices, slices_of
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


def test_several_heads_name_their_classes_and_places():
    config = ViCLIPConfig(label_heads={"verb": ["cut", "wash"], "noun": ["cut", "onion", "knife"]})
    assert list(config.id2label.values()) == ["verb: cut", "verb: wash", "noun: cut", "noun: onion", "noun: knife"]
    assert head_slices(config) == {"verb": slice(0, 2), "noun": slice(2, 5)}
    assert slices_of(config.label_heads) == head_slices(config)
    assert head_slices(ViCLIPConfig()) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_labels": 3}, "2 classes in 2 heads, and id2label has 3 classes or others"),
        ({"label_heads": {"verb": ["cut"], "noun": []}}, "each head a class or more"),
        ({"problem_type": "multi_label_classification"}, "does not suit label_heads"),
    ],
)
def test_heads_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(StrictDataclassError, match=message):
        InternVideoMAEConfig(**{"label_heads": {"verb": ["cut"], "noun": ["onion"]}} | changes)


@pytest.mark.parametrize(
    ("evidential", "message"),
    [
        ({"evidense": "exp"}, "evidense.*fields are those of EvidentialSettings"),
        ({"loss": "brier"}, "evidential.loss"),
        ({"anealing": "exp"}, "unknown field anealing. Did you mean annealing"),
        ({"kl": "false"}, "evidential.kl='false' must be true or false"),
        ({"annealing_start": "0.1"}, "a value of the wrong type"),
    ],
)
def test_unknown_evidence_is_refused(evidential, message):
    with pytest.raises(StrictDataclassError, match=message):
        InternVideoMAEConfig(evidential=evidential)
