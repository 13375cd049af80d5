"""An exported folder without an export: a graph of two nodes, by hand."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from internvideo_hf import UniFormerV2Config

CLASSES = 3


def write_folder(folder: Path, **changed: object) -> Path:
    """Write the export of a classifier whose logits are the sums of a clip times 0, 1, 2, and its features these sums.

    Args:
        folder: to write.
        changed: entries of `export.json`.
    """
    onnx = pytest.importorskip("onnx", reason="needs the extra export")
    pytest.importorskip("onnxruntime", reason="needs the extra export")
    helper, kind = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("ReduceSum", ["pixel_values_videos", "axes"], ["sums"], keepdims=0),
        helper.make_node("Unsqueeze", ["sums", "one"], ["pooler_output"]),
        helper.make_node("Mul", ["pooler_output", "weight"], ["logits"]),
    ]
    constants = [
        helper.make_tensor("axes", kind.INT64, [4], [1, 2, 3, 4]),
        helper.make_tensor("one", kind.INT64, [1], [1]),
        helper.make_tensor("weight", kind.FLOAT, [CLASSES], [0.0, 1.0, 2.0]),
    ]
    graph = helper.make_graph(
        nodes,
        "video",
        [helper.make_tensor_value_info("pixel_values_videos", kind.FLOAT, ["batch", 2, 3, 4, 4])],
        [
            helper.make_tensor_value_info("logits", kind.FLOAT, ["batch", CLASSES]),
            helper.make_tensor_value_info("pooler_output", kind.FLOAT, ["batch", 1]),
        ],
        constants,
    )
    folder.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / "video.onnx")
    config = UniFormerV2Config(num_labels=CLASSES)
    config.architectures, config.dtype = ["UniFormerV2ForVideoClassification"], "float32"
    config.save_pretrained(folder)
    write_manifest(folder, **changed)
    return folder


def write_manifest(folder: Path, **changed: object) -> None:
    """Write `export.json` of the files that are there."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256(path.read_bytes()).hexdigest()}
        for path in folder.iterdir()
        if path.name != "export.json"
    }
    video = {
        "file": "video.onnx",
        "inputs": {"pixel_values_videos": {"shape": ["batch", 2, 3, 4, 4], "dtype": "float32"}},
        "outputs": {
            "logits": {"shape": ["batch", CLASSES], "dtype": "float32"},
            "pooler_output": {"shape": ["batch", 1], "dtype": "float32"},
        },
    }
    content = {
        "format": "onnx",
        "dtype": "float32",
        "architecture": "UniFormerV2ForVideoClassification",
        "functions": {"video": video},
        "files": files,
        "package": "0.1.0",
        "parameters": 3,
        "weights": "0" * 64,
        "graphs": "1" * 64,
        "embeddings": None,
        "cosine_scale": 1.0,
        "agreement": {},
        "calibration": None,
        "scores": {},
        "version": 1,
    }
    (folder / "export.json").write_text(json.dumps(content | changed))
