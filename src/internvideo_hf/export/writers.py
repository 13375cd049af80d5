"""Writers of graphs, one for each format."""

import logging
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from internvideo_hf.export.functions import Traceable

_QUANTIZED = ("MatMul", "Gemm", "Conv")
Clips = Sequence[list[np.ndarray[Any, Any]]]
"""Inputs of calibration, each a batch of one, in the order of the function's inputs."""


def write_onnx(function: Traceable, folder: Path, dtype: str, clips: Clips) -> str:
    """Write a function as ONNX, its weights in a file beside it, and return the name of the graph's file.

    Args:
        function: with inputs.
        folder: to write into.
        dtype: of the weights: "float32", "float16", in which it computes, or "int8", with one scale for each channel.
        clips: for int8, what the ranges of activations are measured on.

    Raises:
        ValueError: if the format lacks an operator of the model.
    """
    name = f"{function.name}.onnx"
    if dtype != "int8":
        _write_plain_onnx(_in(dtype, function), folder / name)
        return name
    from onnxruntime import quantization

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        plain, prepared = Path(scratch) / "plain.onnx", Path(scratch) / "prepared.onnx"
        _write_plain_onnx(function, plain)
        large = {"save_as_external_data": True, "all_tensors_to_one_file": True}
        quantization.quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True, **large)
        quantization.quantize_static(
            str(prepared),
            str(folder / name),
            _Reader(function, clips),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=list(_QUANTIZED),
            use_external_data_format=True,
            nodes_to_exclude=_kept_in_float_of_onnx(prepared),
            # Sums stay in float32: rounding them takes time, and precision.
            extra_options={"OpTypesToExcludeOutputQuantization": list(_QUANTIZED)},
        )
    return name


def write_openvino(function: Traceable, folder: Path, dtype: str, clips: Clips) -> str:
    """Write a function for OpenVINO, its weights in a file beside it, and return the name of the graph's file.

    Args:
        function: with inputs.
        folder: to write into.
        dtype: of the weights. bfloat16 is a hint to the runtime, whose weights are stored in float32: it rounds where
            the CPU has such instructions, and nowhere else.
        clips: for int8, what the ranges of activations are measured on.

    Raises:
        ValueError: if the format lacks an operator of the model.
    """
    import openvino

    name = f"{function.name}.xml"
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "plain.onnx"
        _write_plain_onnx(function, plain)
        # Not by its converter, which reports its use to Intel.
        model = openvino.Core().read_model(plain)
        if dtype == "int8":
            model = _quantized(model, function, clips)
        openvino.save_model(model, folder / name, compress_to_fp16=dtype == "float16")
    return name


def write_pt2(function: Traceable, folder: Path, dtype: str, clips: Clips) -> str:
    """Write a function as `torch.export.save` does, and return the name of the file.

    Args:
        function: with inputs.
        folder: to write into.
        dtype: of the weights, in which it computes; inputs and outputs are float32.
        clips: of no use.

    Raises:
        ValueError: if the function cannot be traced.
    """
    name = f"{function.name}.pt2"
    try:
        program = trace(_in(dtype, function))
    except Exception as error:  # of many kinds
        raise ValueError(f"The function {function.name!r} cannot be traced: {_cause(error)}.") from error
    program.example_inputs = None  # megabytes
    torch.export.save(program, folder / name)
    return name


def _in(dtype: str, function: Traceable) -> Traceable:
    """Return a function that computes in a number type, its inputs and outputs in float32."""
    if dtype == "float32":
        return function
    number_type = getattr(torch, dtype)
    return replace(function, module=_Cast(deepcopy(function.module).to(number_type), number_type))


class _Cast(nn.Module):
    """A function that computes in another number type than that of its inputs and outputs."""

    def __init__(self, module: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.module, self.dtype = module, dtype

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the outputs in float32."""
        cast = (tensor.to(self.dtype) if tensor.is_floating_point() else tensor for tensor in inputs)
        return tuple(tensor.float() for tensor in self.module(*cast))


def _quantized(model: Any, function: Traceable, clips: Clips) -> Any:
    os.environ.setdefault("NNCF_CI", "1")  # or it would report its use to Intel
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it misses CUDA, which is of no use here
    import nncf

    nncf.set_log_level(logging.WARNING)  # or it would name every layer
    inputs = [dict(zip(function.inputs, arrays, strict=True)) for arrays in clips]
    with warnings.catch_warnings(), _without_bars():
        warnings.simplefilter("ignore")
        return nncf.quantize(
            model,
            nncf.Dataset(inputs),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(inputs),
            ignored_scope=nncf.IgnoredScope(names=_kept_in_float_of_openvino(model)),
        )


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the progress bars of nncf off the terminal, for which it has no switch."""
    from rich import get_console

    console = get_console()
    was_quiet, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = was_quiet


def _kept_in_float_of_onnx(path: Path) -> list[str]:
    """Return the names of products of an ONNX graph that int8 leaves out.

    The first, that of the patches, loses the most accuracy. In attention, which multiplies no weights, rounding the
    scores takes longer than it saves.

    Args:
        path: of the graph, whose nodes are in the order of computation.
    """
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    weights = {weight.name for weight in graph.initializer}
    products = [node for node in graph.node if node.op_type in _QUANTIZED]
    return [node.name for node in products if node is products[0] or weights.isdisjoint(node.input)]


def _kept_in_float_of_openvino(model: Any) -> list[str]:
    """Return the same of a model of OpenVINO; see `_kept_in_float_of_onnx`."""
    products = [node for node in model.get_ordered_ops() if node.get_type_name() in ("MatMul", "Convolution")]
    return [
        node.get_friendly_name()
        for node in products
        if node is products[0]
        or all(port.get_source_output().get_node().get_type_name() != "Constant" for port in node.inputs())
    ]


def _write_plain_onnx(function: Traceable, path: Path) -> None:
    import onnxscript  # noqa: F401  # torch would name it in a long text

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                trace(function),
                (),
                None,
                input_names=list(function.inputs),
                output_names=list(function.outputs),
                dynamo=True,
                optimize=True,
                verbose=False,
            )
        except Exception as error:  # of many kinds
            raise ValueError(f"The function {function.name!r} cannot be written as ONNX: {_cause(error)}.") from error
        assert program is not None  # of the exporter by dynamo
        program.save(str(path), external_data=True)


def trace(function: Traceable) -> torch.export.ExportedProgram:
    """Trace a function for any batch, and any length of its variable axes.

    Args:
        function: with inputs.
    """
    dims = {"batch": torch.export.Dim("batch")}
    shapes = []
    for name in function.inputs:
        axes = {0: dims["batch"]}
        for number, axis in function.variable.get(name, {}).items():
            least, longest = axis.least // axis.step, axis.longest // axis.step
            unit = dims.setdefault(axis.name, torch.export.Dim(axis.name, min=least, max=longest))
            axes[number] = axis.step * unit
        shapes.append(axes)
    with torch.no_grad():
        return torch.export.export(
            function.module, tuple(function.inputs.values()), dynamic_shapes={"inputs": tuple(shapes)}, strict=False
        )


class _Reader:
    """The calibration clips as onnxruntime asks for them."""

    def __init__(self, function: Traceable, clips: Clips):
        self._names, self._left = list(function.inputs), iter(clips)

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        """Return the inputs of the next clip, or None behind the last."""
        arrays = next(self._left, None)
        return None if arrays is None else dict(zip(self._names, arrays, strict=True))

    def __iter__(self) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        while (inputs := self.get_next()) is not None:
            yield inputs


def _cause(error: BaseException) -> str:
    """Return what went wrong, from an error whose text fills pages."""
    texts: list[str] = []
    link: BaseException | None = error
    while link is not None:
        texts.append(str(link))
        link = link.__cause__ or link.__context__
    for text in texts:
        if found := re.search(r"No (?:ONNX|decompositions?) .*?OpOverload\(op='([\w.]+)'", text, re.DOTALL):
            return f"the format has no operator for {found[1]}"
    line = next((line for line in texts[-1].splitlines() if line.strip()), type(error).__name__)
    return line.strip().rstrip(".")[:300]


WRITERS: dict[str, Callable[[Traceable, Path, str, Clips], str]] = {
    "onnx": write_onnx,
    "openvino": write_openvino,
    "pt2": write_pt2,
}
"""Format -> its writer."""
