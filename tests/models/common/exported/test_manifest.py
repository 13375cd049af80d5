"""What an exported folder may hold, and what is refused."""

import json
import re

import pytest
from handmade_export import write_folder, write_manifest

from internvideo_hf.models.common.exported.manifest import Port, is_exported, read_manifest


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "model")


def test_a_folder_is_exported_by_its_manifest(folder, tmp_path):
    assert is_exported(folder) and is_exported(str(folder))
    assert not is_exported(tmp_path) and not is_exported("owner/name") and not is_exported(None)


def test_a_manifest_is_read_as_it_was_written(folder):
    manifest = read_manifest(folder)
    assert manifest.functions["video"].inputs["pixel_values_videos"] == Port(("batch", 2, 3, 4, 4))
    again = json.loads(manifest.to_json())
    assert again == json.loads((folder / "export.json").read_text())


def test_fixed_axes_fit_one_length_and_named_ones_any():
    port = Port(("batch", 2, 3))
    assert port.takes((7, 2, 3)) and not port.takes((7, 2, 4)) and not port.takes((2, 3))
    even = Port(("batch", "2*frames", 3))
    assert even.takes((1, 4, 3)) and even.takes((7, 6, 3)) and not even.takes((1, 5, 3))


@pytest.mark.parametrize(("dtype", "other"), [("int8", True), ("float32", False)])
def test_the_graphs_identify_int8_alone(folder, dtype, other):
    found = []
    for graphs in ("1" * 64, "2" * 64):
        write_manifest(folder, dtype=dtype, graphs=graphs, calibration={"clips": 100})
        found.append(read_manifest(folder).identity)
    assert all(re.fullmatch("[0-9a-f]{64}", identity) for identity in found)
    assert (found[0] != found[1]) is other and ("0" * 64 in found) is not other


@pytest.mark.parametrize("name", ["helper.py", "model.safetensors", "weights.bin", "notes"])
def test_files_that_are_not_listed_are_refused(folder, name):
    (folder / name).write_text("")
    with pytest.raises(ValueError, match=rf"{name}, which export.json does not list"):
        read_manifest(folder)


def test_card_and_hidden_files_may_be_changed(folder):
    (folder / "README.md").write_text("mine")
    (folder / ".gitattributes").write_text("")
    read_manifest(folder)


def test_missing_and_changed_files_are_refused(folder):
    graph = (folder / "video.onnx").read_bytes()
    (folder / "video.onnx").write_bytes(graph[:-1] + b"0")
    with pytest.raises(ValueError, match=r"video\.onnx is not the file that was exported"):
        read_manifest(folder)
    (folder / "video.onnx").unlink()
    with pytest.raises(ValueError, match=r"lacks video\.onnx"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"version": 2}, "of version 2 of the layout, expected 1"),
        ({"version": None}, "of version None"),
        ({"format": "pickle"}, "pickle"),
        ({"functions": {"video": {"file": "../video.onnx", "inputs": {}, "outputs": {}}}}, "not the name"),
        ({"files": {"/etc/passwd": {"bytes": 1, "sha256": ""}}}, "not the name"),
        ({"functions": {"video": {"file": "other.onnx", "inputs": {}, "outputs": {}}}}, "not the name"),
        ({"functions": []}, "is damaged"),
        ({"files": 3}, "is damaged"),
    ],
)
def test_other_versions_and_nonsense_are_refused(folder, changed, word):
    write_manifest(folder, **changed)
    with pytest.raises(ValueError, match=word):
        read_manifest(folder)


def test_what_is_no_object_is_refused(folder):
    for text, word in (("[]", "expected a JSON object"), ("{", "not valid JSON")):
        (folder / "export.json").write_text(text)
        with pytest.raises(ValueError, match=word):
            read_manifest(folder)
