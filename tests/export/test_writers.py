"""Writers of graphs."""

import pytest
import torch
from torch import nn

from internvideo_hf.export.functions import Traceable
from internvideo_hf.export.writers import trace, write_onnx


class Mean(nn.Module):
    def forward(self, *inputs):
        return (inputs[0].mean(dim=1) + 1,)


@pytest.fixture
def function():
    return Traceable("video", Mean(), {"x": torch.rand(3, 5, 2)}, ("y",), {"x": {1: ("tokens", 9)}})


@pytest.mark.parametrize("shape", [(1, 5, 2), (4, 7, 2)])
def test_a_trace_holds_for_any_batch_and_length(function, shape):
    x = torch.rand(shape)
    torch.testing.assert_close(trace(function).module()(x)[0], x.mean(dim=1) + 1)


def test_onnx_has_the_names_of_inputs_and_outputs(function, tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs the extra export")
    pytest.importorskip("onnxscript", reason="needs the extra export")
    assert write_onnx(function, tmp_path) == "video.onnx"
    graph = onnx.load(tmp_path / "video.onnx").graph
    assert [entry.name for entry in graph.input] == ["x"] and [entry.name for entry in graph.output] == ["y"]
    assert [axis.dim_param != "" for axis in graph.input[0].type.tensor_type.shape.dim] == [True, True, False]
