"""Old names of modules and of what they hold."""

import importlib
import sys

import forks
import pytest

from internvideo_hf import VideoIndex
from internvideo_hf.utils.moved import MODULES, NAMES


@pytest.mark.parametrize("old", MODULES)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_old_module_gives_what_the_new_ones_hold(old):
    module = importlib.import_module(f"internvideo_hf.{old}")
    for source in MODULES[old].split():
        importlib.import_module(f"internvideo_hf.{source}")
    for name in NAMES.get(old, {}):
        assert callable(getattr(module, name)) or name.isupper()
    with pytest.raises(AttributeError, match=f"internvideo_hf.{old} has moved to internvideo_hf"):
        _ = module.nothing_of_that_name


def test_an_old_import_warns_and_names_the_new_place():
    sys.modules.pop("internvideo_hf.retrieval.index", None)
    with pytest.warns(FutureWarning, match="internvideo_hf.retrieval.index has moved to internvideo_hf.search.index"):
        module = importlib.import_module("internvideo_hf.retrieval.index")
    assert module.VideoIndex is VideoIndex


def test_old_names_that_scripts_import():
    """Of the modules and names before the upper floors were rebuilt."""
    code = (
        "from internvideo_hf.data.jobs import find_videos, each\n"
        "from internvideo_hf.retrieval.encoder import Encoder\n"
        "from internvideo_hf.pipelines.base import VideoPipeline\n"
        "from internvideo_hf.conversion.loading import load_state_dict\n"
        "import internvideo_hf.conversion.convert as convert\n"
        "from internvideo_hf.evaluation.metrics import retrieval_recalls\n"
        "from internvideo_hf.layers import Attention, linear\n"
        "from internvideo_hf.training.averaging import WeightAverage\n"
        "assert convert.convert_checkpoint and convert.build_processor\n"
    )
    done = forks.run(code)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("has moved to") >= 8


def test_what_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match="internvideo_hf.nothing"):
        importlib.import_module("internvideo_hf.nothing")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("internvideo_hf.retrieval.nothing")
