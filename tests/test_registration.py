"""Registration with transformers: the import is lazy, and Auto classes and pipelines know the families."""

import functools
import json
import subprocess
import sys

import pytest

# Nothing of internvideo_hf is imported here before the first questions: that would register by itself.
KNOWS_THE_FAMILIES = """
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoVideoProcessor, pipeline
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

assert {"uniformerv2", "internvideo_mm"} <= set(CONFIG_MAPPING)
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING
from transformers.pipelines import check_task

assert check_task("zero-shot-video-classification")[0] == "zero-shot-video-classification"
small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "image_size": 16}
small |= {"global_layers": [0], "num_global_attention_heads": 1}
model = AutoModel.from_config(AutoConfig.for_model("uniformerv2", **small))
assert type(model).__name__ == "UniFormerV2Model"

from internvideo_hf.auto import FAMILIES

for model_type, family in FAMILIES.items():
    assert type(AutoConfig.for_model(model_type)) is family.config, model_type
    assert (family.config in VIDEO_PROCESSOR_MAPPING) == (family.video_processor is not None), model_type
    assert family.processor is None or PROCESSOR_MAPPING[family.config] is family.processor, model_type
    for auto_class, model_class in family.models.items():
        assert auto_class._model_mapping[family.config] is model_class, model_type
"""

LAZY = """
import sys
import internvideo_hf

dir(internvideo_hf), internvideo_hf.__version__
assert not hasattr(internvideo_hf, "nothing_of_this_name")
assert not {"torch", "transformers", "numpy", "av"} & set(sys.modules), "the import is not lazy"
"""

REGISTER_AGAIN = """
from internvideo_hf import auto, tasks
auto.register(), auto.register(), tasks.register(), tasks.register()
"""

# What an interpreter that knows nothing of transformers does before it is asked -> the code.
SCENARIOS = {
    "transformers, then internvideo_hf": "from transformers import AutoModel, pipeline; import internvideo_hf",
    "a model class": "from internvideo_hf import InternVideoMMModel",
    "internvideo_hf, then Trainer": "import internvideo_hf; from transformers import Trainer",
}
# Other modules of transformers that import the Auto classes while they, and others, are being imported themselves.
MORE_SCENARIOS = {
    "internvideo_hf, then modeling_layers": "import internvideo_hf, transformers.modeling_layers",
    "internvideo_hf, then generation.utils": "import internvideo_hf, transformers.generation.utils",
    "internvideo_hf, then pipelines": "import internvideo_hf, transformers.pipelines",
}

# Torch takes most of the seconds that an interpreter takes to start; forks share one import of it.
FORKS = """
import gc, json, os, sys
gc.disable()  # which saves a fourth of the time
import torch, torchvision

assert not {"transformers", "internvideo_hf"} & set(sys.modules)
exit_codes = {}
for name, code in json.loads(sys.argv[1]).items():
    process = os.fork()
    if process == 0:
        exec(code, {"__name__": "__main__"})
        sys.exit()
    exit_codes[name] = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
print(json.dumps(exit_codes))
"""


def run_in_fresh_interpreter(code: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=200)


@functools.cache
def outcomes(more: bool) -> tuple[dict[str, int], str]:
    """Return the exit codes of some scenarios, and their tracebacks."""
    scenarios = MORE_SCENARIOS if more else SCENARIOS
    questions = KNOWS_THE_FAMILIES + REGISTER_AGAIN + KNOWS_THE_FAMILIES
    codes = {name: f"{code}\n{questions}" for name, code in scenarios.items()}
    done = run_in_fresh_interpreter(FORKS, json.dumps(codes))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize(
    "scenario", [*SCENARIOS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_SCENARIOS)]
)
def test_auto_classes_and_pipelines_know_the_families_and_registration_twice_changes_nothing_after(
    scenario: str,
) -> None:
    exit_codes, tracebacks = outcomes(scenario in MORE_SCENARIOS)
    assert exit_codes[scenario] == 0, tracebacks


def test_the_import_is_lazy() -> None:
    done = run_in_fresh_interpreter(LAZY)
    assert done.returncode == 0, done.stderr
