"""Graphs of an exported folder, computed by onnxruntime."""

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from handmade_export import write_folder, write_manifest
from transformers import AutoModelForVideoClassification

from internvideo_hf.models.common.exported.graphs import open_graphs
from internvideo_hf.models.common.exported.manifest import read_manifest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("graphs") / "model")


@pytest.mark.parametrize("batch", [1, 5])
def test_a_graph_computes_its_outputs_by_name(folder, batch):
    clips = torch.rand(batch, 2, 3, 4, 4)
    outputs = open_graphs(folder, read_manifest(folder))["video"]({"pixel_values_videos": clips.double()})
    sums = clips.sum(dim=(1, 2, 3, 4))
    torch.testing.assert_close(outputs["pooler_output"], sums[:, None])
    torch.testing.assert_close(outputs["logits"], sums[:, None] * torch.tensor([0.0, 1.0, 2.0]))


def test_other_shapes_are_refused(folder):
    graph = open_graphs(folder, read_manifest(folder))["video"]
    with pytest.raises(ValueError, match=r"\(1, 4, 3, 4, 4\), expected \(batch, 2, 3, 4, 4\).*--frames"):
        graph({"pixel_values_videos": torch.zeros(1, 4, 3, 4, 4)})


def test_a_damaged_graph_is_refused_in_one_line(tmp_path):
    folder = write_folder(tmp_path / "model")
    (folder / "video.onnx").write_bytes(b"noise")
    write_manifest(folder)
    with pytest.raises(ValueError, match=r"video\.onnx cannot be opened by onnxruntime") as refused:
        open_graphs(folder, read_manifest(folder))
    assert "\n" not in str(refused.value)


def test_weights_outside_of_the_folder_are_not_read(tmp_path):
    onnx = pytest.importorskip("onnx")
    folder = write_folder(tmp_path / "model")
    (tmp_path / "secret").write_bytes(b"\0" * 12)
    model = onnx.load(folder / "video.onnx")
    weight = next(entry for entry in model.graph.initializer if entry.name == "weight")
    weight.ClearField("float_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "../secret"), ("offset", "0"), ("length", "12")):
        weight.external_data.add(key=key, value=value)
    (folder / "video.onnx").write_bytes(model.SerializeToString())
    write_manifest(folder)
    with pytest.raises(ValueError, match="cannot be opened"):
        open_graphs(folder, read_manifest(folder))


def test_other_inputs_than_the_manifest_says_are_refused(tmp_path):
    folder = write_folder(tmp_path / "model")
    port = {"shape": ["batch"], "dtype": "float32"}
    write_manifest(folder, functions={"video": {"file": "video.onnx", "inputs": {"x": port}, "outputs": {"y": port}}})
    with pytest.raises(ValueError, match="its inputs are pixel_values_videos, expected x"):
        open_graphs(folder, read_manifest(folder))


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (Path(self.mark),)


def test_pt2_is_refused_and_nothing_in_it_runs(tmp_path):
    folder, mark = write_folder(tmp_path / "model"), tmp_path / "ran"
    module = torch.nn.Linear(2, 2)
    program = torch.export.export(module, (torch.rand(1, 2),))
    torch.export.save(program, folder / "video.pt2")
    with zipfile.ZipFile(folder / "video.pt2") as whole:
        entries = {name: whole.read(name) for name in whole.namelist()}
    evil = pickle.dumps(Evil(str(mark)))
    with zipfile.ZipFile(folder / "video.pt2", "w", zipfile.ZIP_STORED) as changed:
        for name, content in entries.items():
            changed.writestr(name, evil if "/data/" in name and not name.endswith(".json") else content)
    port = {"shape": ["batch", 2], "dtype": "float32"}
    functions = {"video": {"file": "video.pt2", "inputs": {"x": port}, "outputs": {"logits": port}}}
    write_manifest(folder, format="pt2", functions=functions)
    with pytest.raises(ValueError, match=r"exported as pt2, for other programs: torch\.export\.load runs code"):
        open_graphs(folder, read_manifest(folder))
    with pytest.raises(ValueError, match="exported as pt2"):
        AutoModelForVideoClassification.from_pretrained(folder)
    assert not mark.exists()
    pickle.loads(evil)  # which is what it would have done
    assert mark.exists()
