"""Saved folders load by plain transformers, which the folder's module leads to the installed package."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoProcessor, AutoVideoProcessor

import internvideo_hf
from internvideo_hf import InternVideoMMConfig, auto
from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.utils.loader import _PROCESSORS, MODULE
from internvideo_hf.utils.pretrained import check_model_folder, load_pretrained

PLAIN = """
import sys
import torch
from transformers import AutoModel, AutoProcessor, AutoVideoProcessor

load = {{"trust_remote_code": True}}
for auto_class in ({order}):
    loaded = auto_class.from_pretrained(sys.argv[1], **load)
    print("loaded", type(loaded).__module__)
    loaded.save_pretrained(sys.argv[2])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the toy model of video and text, saved anew."""
    path = tmp_path_factory.mktemp("saved") / "mm"
    AutoModel.from_pretrained(demo_path("demo-mm")).save_pretrained(path)
    AutoProcessor.from_pretrained(demo_path("demo-mm")).save_pretrained(path)
    return path


def _python(code: str, home: Path, *arguments: object, hidden: bool = False) -> subprocess.CompletedProcess:
    """Run code in an interpreter of its own, which imports no module of ours by itself."""
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    if hidden:
        code = f"import sys\nsys.modules['internvideo_hf'] = None\n{code}"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("order", ["AutoModel, AutoProcessor", "AutoVideoProcessor, AutoProcessor"])
def test_plain_transformers_loads_a_saved_folder_and_saves_it_as_it_was(folder, tmp_path, order):
    done = _python(PLAIN.format(order=order), tmp_path, folder, tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("loaded internvideo_hf.")
    for file in (tmp_path / "again").iterdir():
        # The processor of videos alone has a file of its own; transformers changes a tokenizer's with each load.
        if file.name not in ("video_preprocessor_config.json", "tokenizer_config.json"):
            assert file.read_bytes() == (folder / file.name).read_bytes(), file.name


def test_without_the_package_the_error_names_it(folder, tmp_path):
    done = _python(PLAIN.format(order="AutoModel,"), tmp_path, folder, tmp_path / "again", hidden=True)
    assert done.returncode != 0 and "pip install internvideo-hf" in done.stderr.splitlines()[-1]


def test_the_map_of_a_folder_changes_nothing_that_is_loaded(folder):
    content = json.loads((folder / "config.json").read_text())
    with_map = InternVideoMMConfig.from_dict(content)
    del content["auto_map"]
    assert with_map.to_dict() == InternVideoMMConfig.from_dict(content).to_dict() and not hasattr(with_map, "auto_map")
    first, second = (AutoVideoProcessor.from_pretrained(path) for path in (demo_path("demo-mm"), folder))
    assert first.to_dict() == second.to_dict()
    for name, tensor in AutoModel.from_pretrained(demo_path("demo-mm")).state_dict().items():
        assert torch.equal(tensor, AutoModel.from_pretrained(folder).state_dict()[name])


def test_every_family_names_classes_that_are_there(tmp_path):
    for model_type, family in auto.FAMILIES.items():
        if model_type == "internvideo":
            continue  # of two encoders, which it must be given
        family.config().save_pretrained(tmp_path / model_type)
        content = json.loads((tmp_path / model_type / "config.json").read_text())
        for auto_class, name in content["auto_map"].items():
            module, _, attribute = name.partition(".")
            assert module == MODULE and hasattr(internvideo_hf, attribute), (auto_class, name)
        assert ("AutoModel" in content["auto_map"]) == ("AutoModel" in family.model_names)
        check_model_folder(tmp_path / model_type)


def test_the_names_of_processors_are_all():
    names = {name for _, values in _PROCESSORS.values() for name in values}
    families = auto.FAMILIES.values()
    used = {name for family in families for name in (family.processor_name, family.video_processor_name)}
    assert names == used - {None}


FORGED = {
    "unknown type": ("config.json", lambda it: it | {"model_type": "evil"}),
    "unknown class": ("config.json", lambda it: it | {"auto_map": {"AutoConfig": f"{MODULE}.Own"}}),
    "class of another name": ("config.json", lambda it: it | {"auto_map": {"AutoConfig": f"{MODULE}.ViCLIPConfig"}}),
    "no class": ("processor_config.json", lambda it: it | {"processor_class": "Own"}),
    "inner class": (
        "processor_config.json",
        lambda it: it | {"video_processor": it["video_processor"] | {"video_processor_type": "InternVideoProcessor"}},
    ),
    "tokenizer": (
        "tokenizer_config.json",
        lambda it: it | {"auto_map": {"AutoTokenizer": [f"{MODULE}.InternVideoProcessor", None]}},
    ),
}


@pytest.mark.parametrize("forgery", FORGED)
def test_a_forged_module_of_that_name_is_not_run(folder, tmp_path, forgery):
    shutil.copytree(folder, tmp_path / "model")
    mark = tmp_path / "it ran"
    (tmp_path / "model" / f"{MODULE}.py").write_text(f'open({str(mark)!r}, "w")\nclass Own: pass\n')
    for auto_class in (AutoModel, AutoProcessor, AutoVideoProcessor):
        load_pretrained(auto_class, tmp_path / "model")  # the settings are ours: the module is not needed
    name, change = FORGED[forgery]
    file = tmp_path / "model" / name
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(ValueError, match=rf"{name} names Python code of its own \(auto_map\), which is not run"):
        check_model_folder(tmp_path / "model")
    assert not mark.exists()


def test_classes_of_ours_are_not_copied_into_folders(tmp_path):
    InternVideoMMConfig.register_for_auto_class()
    InternVideoMMConfig().save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", f"{MODULE}.py"]
