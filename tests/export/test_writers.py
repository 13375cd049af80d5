"""Writers of graphs."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from internvideo_hf.export.functions import Axis, Traceable
from internvideo_hf.export.writers import WRITERS, trace, write_onnx, write_openvino, write_pt2
from internvideo_hf.models.common.exported.graphs import open_graphs
from internvideo_hf.models.common.exported.manifest import Function, Manifest


class Mean(nn.Module):
    def forward(self, *inputs):
        return (inputs[0].mean(dim=1) + 1,)


@pytest.fixture
def function():
    return Traceable("video", Mean(), {"x": torch.rand(3, 5, 2)}, ("y",), {"x": {1: Axis("tokens", 2, 9)}})


@pytest.mark.parametrize("shape", [(1, 5, 2), (4, 7, 2)])
def test_a_trace_holds_for_any_batch_and_length(function, shape):
    x = torch.rand(shape)
    torch.testing.assert_close(trace(function).module()(x)[0], x.mean(dim=1) + 1)


def test_a_trace_holds_for_multiples(function):
    multiples = replace(function, inputs={"x": torch.rand(3, 6, 2)}, variable={"x": {1: Axis("frames", 3, 9, 3)}})
    assert multiples.ports()[0]["x"].shape == ("batch", "3*frames", 2)
    module, x = trace(multiples).module(), torch.rand(2, 9, 2)
    torch.testing.assert_close(module(x)[0], x.mean(dim=1) + 1)


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(32, 64), nn.Linear(64, 16)

    def forward(self, *inputs):
        return (self.second(torch.relu(self.first(inputs[0]))),)


@pytest.mark.parametrize(
    ("form", "dtype", "packages", "error"),
    [
        ("onnx", "float16", ("onnxruntime", "onnxscript"), 0.01),
        ("onnx", "int8", ("onnxruntime", "onnxscript"), 0.05),
        pytest.param("openvino", "float32", ("openvino", "onnxscript"), 1e-5, marks=pytest.mark.slow),
        pytest.param("openvino", "bfloat16", ("openvino", "onnxscript"), 0.05, marks=pytest.mark.slow),
        pytest.param("openvino", "float16", ("openvino", "onnxscript"), 0.01, marks=pytest.mark.slow),
        ("openvino", "int8", ("openvino", "nncf", "onnxscript"), 0.05),
        ("pt2", "float32", (), 1e-6),
        ("pt2", "bfloat16", (), 0.05),
        ("pt2", "float16", (), 0.01),
    ],
)
def test_what_is_written_computes_the_same_within_its_rounding(form, dtype, packages, error, tmp_path):
    for package in packages:
        pytest.importorskip(package, reason="needs the extras export and openvino")
    clips = torch.randn(8, 1, 5, 32)
    function = Traceable("video", Layers().eval(), {"x": torch.cat(list(clips[:2]))}, ("y",))
    file = WRITERS[form](function, tmp_path, dtype, [[clip.numpy()] for clip in clips] if dtype == "int8" else [])
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    manifest = Manifest(form, dtype, "Layers", {"video": Function(file, *function.ports())}, {}, "0", 0, "", "")
    graph, inputs = open_graphs(tmp_path, manifest, is_own=True)["video"], {"x": torch.cat(list(clips[-3:]))}
    found, expected = graph(inputs)["y"], function.reference(inputs)["y"]
    largest = (found - expected).abs().max() / expected.abs().max()
    assert largest < error and (dtype == "float32" or largest > 0)
    if dtype == "int8":
        weights = sum(path.stat().st_size for path in tmp_path.iterdir() if path.suffix in (".data", ".bin"))
        assert weights < 4 * (32 * 64 + 64 * 16) or form == "onnx"  # of float32


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches, self.query = nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, *inputs):
        tokens = torch.relu(self.patches(inputs[0]))
        return (torch.softmax(self.query(tokens) @ tokens.mT, dim=-1) @ tokens,)


def attention_in_int8(write, folder):
    clips = torch.randn(4, 1, 5, 32)
    function = Traceable("video", Attention().eval(), {"x": torch.cat(list(clips[:2]))}, ("y",))
    write(function, folder, "int8", [[clip.numpy()] for clip in clips])


def test_onnx_in_int8_leaves_patches_and_attention_in_float32(tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra export")
    onnx = pytest.importorskip("onnx", reason="needs the extra export")
    attention_in_int8(write_onnx, tmp_path)
    nodes = onnx.load(tmp_path / "video.onnx").graph.node
    makers = {output: node.op_type for node in nodes for output in node.output}
    products = [[makers.get(name) == "DequantizeLinear" for name in node.input] for node in nodes if is_product(node)]
    assert sorted(map(all, products)) == [False, False, False, True]


def is_product(node):
    return node.op_type in ("MatMul", "Gemm", "FusedMatMul")


def test_openvino_in_int8_leaves_patches_and_attention_in_floating_point(tmp_path):
    openvino = pytest.importorskip("openvino", reason="needs the extra openvino")
    pytest.importorskip("nncf", reason="needs the extra openvino")
    attention_in_int8(write_openvino, tmp_path)
    nodes = openvino.Core().read_model(tmp_path / "video.xml").get_ops()
    rounded = [
        all(leads_to_rounding(port.get_source_output().get_node()) for port in node.inputs())
        for node in nodes
        if node.get_type_name() == "MatMul"
    ]
    assert sorted(rounded) == [False, False, False, True]


def leads_to_rounding(node):
    while node.get_type_name() in ("Convert", "Multiply", "Subtract", "Reshape"):
        if any(i.get_source_output().get_element_type().get_type_name() == "i8" for i in node.inputs()):
            return True
        node = node.input(0).get_source_output().get_node()
    return node.get_type_name() == "FakeQuantize"


class Bessel(nn.Module):
    def forward(self, *inputs):
        return (torch.special.i1e(inputs[0]),)


def test_an_operator_that_the_format_lacks_is_named(tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra export")
    function = Traceable("video", Bessel(), {"x": torch.rand(2, 3)}, ("y",))
    with pytest.raises(ValueError, match=r"as ONNX: the format has no operator for .*i1e\.") as refused:
        write_onnx(function, tmp_path, "float32", ())
    assert "\n" not in str(refused.value)


class Branches(nn.Module):
    def forward(self, *inputs):
        return (inputs[0] + 1 if inputs[0].sum() > 0 else inputs[0],)


def test_what_cannot_be_traced_is_refused_in_one_line(tmp_path):
    function = Traceable("video", Branches(), {"x": torch.rand(2, 3)}, ("y",))
    with pytest.raises(ValueError, match="The function 'video' cannot be traced: ") as refused:
        write_pt2(function, tmp_path, "float32", ())
    assert "\n" not in str(refused.value) and not list(tmp_path.iterdir())
