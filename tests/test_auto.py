"""The table of families: names of classes, and the Auto classes that they are found by."""

import subprocess
import sys

import pytest
import transformers

import internvideo_hf
from internvideo_hf.auto import FAMILIES, OWN_CLASSES, auto_class, register


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_names_of_a_family_are_those_of_its_classes(model_type):
    family = FAMILIES[model_type]
    assert family.config.model_type == model_type and family.config.__name__ == family.config_name
    assert {model.__name__ for model in family.models.values()} == {
        name.rpartition(".")[2] for name in family.model_names.values()
    }
    assert all(model.config_class is family.config for model in family.models.values())
    assert getattr(family.video_processor, "__name__", None) == family.video_processor_name
    assert (family.processor is None) == (family.processor_name is None)
    public = internvideo_hf._EXPORTS
    assert all(public[name] == module for name, module in family.exports())


def test_auto_classes_are_those_of_transformers_where_it_has_them():
    assert auto_class("AutoModelForVideoClassification") is transformers.AutoModelForVideoClassification
    ours = auto_class("AutoModelForMadeUpTasks")
    assert auto_class("AutoModelForMadeUpTasks") is ours and not hasattr(transformers, ours.__name__)
    viclip = FAMILIES["viclip"]
    ours.register(viclip.config, viclip.models[transformers.AutoModel], exist_ok=True)
    assert ours._model_mapping[viclip.config].__name__ == "ViCLIPModel"
    assert viclip.config not in transformers.AutoModelForPreTraining._model_mapping


def test_repeated_registration_changes_nothing():
    register()
    before = dict(transformers.AutoModel._model_mapping._extra_content)
    register()
    assert dict(transformers.AutoModel._model_mapping._extra_content) == before


def test_auto_classes_of_this_package_load_their_models_in_a_bare_program():
    program = """
import internvideo_hf
for name in internvideo_hf.auto.OWN_CLASSES:
    assert list(getattr(internvideo_hf, name)._model_mapping.values()), name
from internvideo_hf import AutoModelForTemporalLocalization, demo_path
print(type(AutoModelForTemporalLocalization.from_pretrained(demo_path("demo-actionformer"))).__name__)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["ActionFormerForTemporalLocalization"]


def test_names_of_own_auto_classes_are_those_of_the_families():
    named = {name for family in FAMILIES.values() for name in family.model_names}
    assert set(OWN_CLASSES) == {name for name in named if not hasattr(transformers, name)}
