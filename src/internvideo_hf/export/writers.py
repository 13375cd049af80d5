"""Writers of graphs, one for each format."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from internvideo_hf.export.functions import Traceable


def write_onnx(function: Traceable, folder: Path) -> str:
    """Write a function as ONNX, its weights in a file beside it, and return the name of the graph's file.

    Args:
        function: with inputs.
        folder: to write into.

    Raises:
        ValueError: if the format lacks an operator of the model.
    """
    import onnxscript  # noqa: F401  # torch would name it in a long text

    name = f"{function.name}.onnx"
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
        program.save(str(folder / name), external_data=True)
    return name


def trace(function: Traceable) -> torch.export.ExportedProgram:
    """Trace a function for any batch.

    Args:
        function: with inputs.
    """
    dims = {"batch": torch.export.Dim("batch")}
    shapes = []
    for name in function.inputs:
        axes = {0: dims["batch"]}
        for axis, (label, longest) in function.variable.get(name, {}).items():
            axes[axis] = dims.setdefault(label, torch.export.Dim(label, min=2, max=longest))
        shapes.append(axes)
    with torch.no_grad():
        return torch.export.export(
            function.module, tuple(function.inputs.values()), dynamic_shapes={"inputs": tuple(shapes)}, strict=False
        )


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


WRITERS: dict[str, Callable[[Traceable, Path], str]] = {"onnx": write_onnx}
"""Format -> its writer."""
