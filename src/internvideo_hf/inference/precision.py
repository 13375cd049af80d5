"""Faster ways to run a model: other number types, and compilation."""

import os
import shutil
import sys
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.modeling_utils import PreTrainedModel

from internvideo_hf.models.common.exported.modeling import ExportedModel
from internvideo_hf.utils.devices import DTYPES, INT8
from internvideo_hf.utils.names import lookup
from internvideo_hf.video.settings import from_environment

PREFIX = "INTERNVIDEO_RUN_"
_TOWERS = ("vision_model", "text_model")


@dataclass(frozen=True)
class ModelSettings:
    """How a whole process, with its workers, runs the models that it loads.

    The environment changes the defaults: `INTERNVIDEO_RUN_COMPILE=1`.

    Args:
        compile: compile them, so that the first batches take longer and the others less time.
    """

    compile: bool = False


def set_number_type(model: PreTrainedModel, dtype: str) -> None:
    """Run a model in another number type.

    Args:
        model: changed in place.
        dtype: a name in `internvideo_hf.utils.devices.NUMBER_TYPES`; "int8" stores the weights of linear layers so,
            one scale a row, and computes in the type in which they were.

    Raises:
        ValueError: if the name is unknown, or it is an exported model of another number type.
        ImportError: if "int8" lacks torchao.
    """
    if isinstance(model, ExportedModel):
        if dtype != model.manifest.dtype:
            model.refuse(f"cannot run in {dtype}")
    elif dtype != INT8:
        model.to(lookup(DTYPES, dtype, "dtype"))  # type: ignore[arg-type]  # transformers' wrapper hides the signature
    else:
        _quantize_weights(model)
    model.number_type = dtype  # type: ignore[assignment]  # nn.Module's annotation knows tensors and modules alone


def _quantize_weights(model: nn.Module) -> None:
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise ImportError('int8 needs torchao: pip install "internvideo-hf[int8]"') from error
    quantize_(model, Int8WeightOnlyConfig())


def compile_if_asked(model: PreTrainedModel) -> None:
    """Compile a model that is ready to run, where `ModelSettings` ask for it.

    Args:
        model: on its device, in evaluation mode; changed in place.

    Raises:
        ValueError: if it is an exported model; if it runs on the CPU, and there is no C++ compiler.
    """
    if not from_environment(ModelSettings(), PREFIX).compile:
        return
    if isinstance(model, ExportedModel):
        model.refuse("cannot be compiled", "Leave out --compile (INTERNVIDEO_RUN_COMPILE).")
    if model.device.type == "cpu":
        _check_compiler()
    # Towers of a dual encoder are called one by one, without its own `forward`.
    towers = [tower for name in _TOWERS if isinstance(tower := getattr(model, name, None), nn.Module)]
    # oneDNN reorders a weight in each call, unless the compiler knows that it is constant.
    options: dict[str, Any] = {"freezing": True} if model.device.type == "cpu" else {}
    for module in towers or [model]:
        module.compile(options=options)


def _check_compiler() -> None:
    # As torch chooses it; without this check the first batch would fail, by pages of its log.
    compiler = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    if shutil.which(compiler) is None:
        raise ValueError(
            f"Compilation on the CPU needs a C++ compiler, and {compiler} is not installed. Install it, name another "
            "by the environment variable CXX, or leave out --compile (INTERNVIDEO_RUN_COMPILE)."
        )
