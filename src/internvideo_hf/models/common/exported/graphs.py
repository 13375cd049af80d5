"""Graphs of exported models, and the runtimes that compute them."""

import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from internvideo_hf.models.common.exported.manifest import FORMATS, Function, Manifest
from internvideo_hf.utils.devices import fastest_dtype

Run = Callable[[list[np.ndarray[Any, Any]]], list[np.ndarray[Any, Any]]]
"""Computes the outputs of a graph from its inputs, both in its order."""


class Graph:
    """A function of an exported model, on the CPU.

    Args:
        name: of the function.
        function: its inputs and outputs.
        run: computes it.
    """

    def __init__(self, name: str, function: Function, run: Run):
        self.name, self.function, self._run = name, function, run

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Compute the outputs by name, on the CPU.

        Args:
            inputs: by name, on any device.

        Raises:
            ValueError: if one has another shape than the model was exported for, or the runtime fails.
        """
        arrays = []
        for name, port in self.function.inputs.items():
            tensor = inputs[name]
            if not port.takes(tuple(tensor.shape)):
                expected = ", ".join(map(str, port.shape))
                raise ValueError(
                    f"{name} has the shape {tuple(tensor.shape)}, expected ({expected}), for which the model was "
                    "exported. Export it for other frames and sizes by --frames and --size."
                )
            arrays.append(tensor.detach().to("cpu", getattr(torch, port.dtype)).contiguous().numpy())
        try:
            computed = self._run(arrays)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # of many kinds
            raise ValueError(f"The exported function {self.name!r} failed: {_line_of(error)}.") from error
        return dict(zip(self.function.outputs, map(torch.from_numpy, computed), strict=True))


def open_graphs(
    folder: str | Path, manifest: Manifest, *, names: Collection[str] | None = None, is_own: bool = False
) -> dict[str, Graph]:
    """Open the functions of an exported folder, by name.

    Args:
        folder: of the graphs.
        manifest: of `read_manifest`.
        names: of the functions; all if None.
        is_own: this process wrote the graphs, so that it may run what is in them.

    Raises:
        ValueError: if a graph is damaged, or of a format that runs code of the file when it is opened.
        ModuleNotFoundError: if the package that runs the format is not installed.
    """
    if manifest.format == "pt2" and not is_own:
        # Its reader unpickles weights, evaluates expressions of shapes and executes the text of guards.
        raise ValueError(
            f"{folder} was exported as pt2, for other programs: torch.export.load runs code that such files hold, and "
            "is not called here. Export the model as onnx or openvino for this one."
        )
    opener = _OPENERS[manifest.format]
    found: dict[str, Graph] = {}
    for name, function in manifest.functions.items():
        if names is not None and name not in names:
            continue
        path = Path(folder) / function.file
        try:
            run = opener(path, function, manifest.dtype)
        except (ModuleNotFoundError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  # of many kinds, and the file is another's
            raise ValueError(
                f"{path} cannot be opened by {FORMATS[manifest.format]} ({_line_of(error)}). Export the model again."
            ) from error
        found[name] = Graph(name, function, run)
    return found


def _line_of(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")


def _open_onnx(path: Path, function: Function, dtype: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what fails is raised
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    _check_names(names, [entry.name for entry in session.get_outputs()], function)

    def run(arrays: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        outputs: list[np.ndarray[Any, Any]] = session.run(None, dict(zip(names, arrays, strict=True)))
        return outputs

    return run


def _open_openvino(path: Path, function: Function, dtype: str) -> Run:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    # Without a hint, OpenVINO computes in bfloat16 where the CPU can. float16 is how weights are stored. What int8
    # leaves in floating point, such as attention, loses less in bfloat16 than the rest has lost already.
    is_quantized = any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())
    in_bfloat16 = dtype == "bfloat16" or (is_quantized and fastest_dtype("cpu") == "bfloat16")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if in_bfloat16 else "f32",
        "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
    }
    compiled = core.compile_model(model, "CPU", settings)
    names = [port.get_any_name() for port in compiled.inputs]
    _check_names(names, [port.get_any_name() for port in compiled.outputs], function)

    turn = threading.Lock()  # a compiled model has one place for inputs and outputs

    def run(arrays: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        with turn:
            results = compiled(dict(zip(names, arrays, strict=True)))
            return [np.array(results[port]) for port in compiled.outputs]

    return run


def _open_pt2(path: Path, function: Function, dtype: str) -> Run:
    module = torch.export.load(path).module()

    def run(arrays: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        with torch.inference_mode():
            return [tensor.numpy() for tensor in module(*map(torch.from_numpy, arrays))]

    return run


def _check_names(inputs: list[str], outputs: list[str], function: Function) -> None:
    if inputs != list(function.inputs) or outputs != list(function.outputs):
        raise ValueError(
            f"its inputs are {', '.join(inputs)}, expected {', '.join(function.inputs)}; its outputs are "
            f"{', '.join(outputs)}, expected {', '.join(function.outputs)}"
        )


_OPENERS: dict[str, Callable[[Path, Function, str], Run]] = {
    "onnx": _open_onnx,
    "openvino": _open_openvino,
    "pt2": _open_pt2,
}
