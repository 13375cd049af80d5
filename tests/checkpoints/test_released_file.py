"""Reading released files: every known layout, and no code execution from any file."""

import argparse
import io
import json
import os
import pickle
import random
import warnings
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from internvideo_hf.checkpoints import CheckpointError
from internvideo_hf.checkpoints.released_file import load_state_dict

TENSORS = {"clip.weight": torch.arange(6.0).reshape(2, 3), "clip.scale": torch.tensor(4.5)}


def save(content, path: Path, **options) -> Path:
    torch.save(content, path, **options)
    return path


def assert_loads(path: Path, **options) -> None:
    loaded = load_state_dict(path, **options)
    assert list(loaded) == list(TENSORS)
    for name, tensor in TENSORS.items():
        torch.testing.assert_close(loaded[name], tensor, rtol=0, atol=0)
        assert not loaded[name].requires_grad


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in TENSORS.items()}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(TENSORS, id="bare"),
        pytest.param(OrderedDict(TENSORS), id="ordered"),
        pytest.param({"state_dict": TENSORS, "epoch": 3}, id="lightning"),
        pytest.param({"model": TENSORS, "scaler": {"scale": 1.0}}, id="model"),
        pytest.param({"module": TENSORS, "ds_version": "0.9"}, id="deepspeed"),
        pytest.param({"model_state": TENSORS, "cfg": "a: 1"}, id="slowfast"),
        pytest.param({"state_dict": prefixed("module.")}, id="data parallel"),
        pytest.param({"state_dict": {"a": torch.ones(1)}, "state_dict_ema": prefixed("module.")}, id="averaged"),
        pytest.param({"state_dict": prefixed("_orig_mod.")}, id="compiled"),
        pytest.param({"state_dict": prefixed("module._orig_mod.")}, id="compiled, then data parallel"),
        pytest.param({"state_dict": prefixed("_orig_mod.module.")}, id="data parallel, then compiled"),
        pytest.param({**TENSORS, "epoch": 3, "note": "text"}, id="bare, among numbers and texts"),
        pytest.param({name: torch.nn.Parameter(tensor) for name, tensor in TENSORS.items()}, id="parameters"),
    ],
)
def test_a_layout_gives_the_plain_state_dict(content, tmp_path):
    assert_loads(save(content, tmp_path / "file.ckpt"))
    assert_loads(save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False))


def test_a_prefix_of_some_names_only_is_part_of_the_names(tmp_path):
    path = save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "file.pth")
    assert list(load_state_dict(path)) == ["module.a", "b"]


def test_safetensors_files_load(tmp_path):
    save_file(TENSORS, tmp_path / "file.safetensors")
    loaded = load_state_dict(tmp_path / "file.safetensors")
    assert {name: tensor.tolist() for name, tensor in loaded.items()} == {
        name: tensor.tolist() for name, tensor in TENSORS.items()
    }


def test_a_lightning_file_with_plain_entries_needs_no_trust(tmp_path):
    optimizer = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4}]}
    content = {
        "epoch": 3,
        "global_step": 400_000,
        "pytorch-lightning_version": "1.6.0",
        "state_dict": TENSORS,
        "hyper_parameters": {"lr": 8e-5, "betas": (0.9, 0.98), "name": "mm", "resume": None},
        "optimizer_states": [optimizer],
        "lr_schedulers": [{"last_epoch": 3, "_last_lr": [8e-5]}],
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
        "loops": OrderedDict(fit_loop={"state_dict": {}}),
    }
    assert_loads(save(content, tmp_path / "file.ckpt"))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_a_namespace_of_hyper_parameters_is_refused_by_name_and_read_on_trust(zipped, tmp_path):
    content = {"state_dict": TENSORS, "hyper_parameters": argparse.Namespace(lr=8e-5)}
    path = save(content, tmp_path / "file.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"would run argparse\.Namespace.*--trust-pickle \(trust_pickle=True\)"):
        load_state_dict(path)
    assert_loads(path, trust_pickle=True)


class System:
    """Unpickles into the outcome of a shell command."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


class Open:
    """Unpickles into a file that is created for it."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


class Evaluate:
    """Unpickles into whatever an expression gives."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return eval, (f"open({str(self.marker)!r}, 'w')",)


@pytest.mark.parametrize(("evil", "name"), [(System, rf"{os.name}\.system"), (Open, r"io\.open"), (Evaluate, "eval")])
@pytest.mark.parametrize("layout", ["zip", "before 1.6", "pickle"])
def test_no_code_of_a_malicious_file_runs(evil, name, layout, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "evil.ckpt"
    content = {"state_dict": TENSORS, "callbacks": evil(marker)}
    if layout == "pickle":
        path.write_bytes(pickle.dumps({"callbacks": evil(marker)}, protocol=2))
    else:
        save(content, path, _use_new_zipfile_serialization=layout == "zip")
    with pytest.raises(CheckpointError, match=rf"evil\.ckpt was refused: loading it would run .*({name})"):
        load_state_dict(path)
    assert not marker.exists()


@pytest.mark.parametrize("evil", [System, Open, Evaluate])
def test_the_malicious_files_would_run_on_trust(evil, tmp_path):
    marker = tmp_path / "marker"
    assert_loads(
        save({"state_dict": TENSORS, "callbacks": evil(marker)}, tmp_path / "evil.ckpt"),
        trust_pickle=True,
    )
    assert marker.exists()


def test_an_environment_variable_cannot_lift_the_guard(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = save({"state_dict": TENSORS, "callbacks": Open(tmp_path / "marker")}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="refused"):
        load_state_dict(path)
    assert not (tmp_path / "marker").exists()


def test_a_pickled_module_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.linear\.Linear"):
        load_state_dict(save(torch.nn.Linear(2, 2), tmp_path / "module.pth"))


def test_a_class_of_a_package_that_is_not_installed_is_named_on_trust(tmp_path):
    path = tmp_path / "file.ckpt"
    payload = pickle.dumps({"state_dict": {}, "callbacks": None}, protocol=2)
    with_class = payload.replace(b"N", b"cno_such_package\nThing\n", 1)
    buffer = io.BytesIO()
    torch.save({}, buffer, _use_new_zipfile_serialization=False)
    path.write_bytes(buffer.getvalue().replace(pickle.dumps({}, protocol=2), with_class, 1))
    with pytest.raises(CheckpointError, match="no_such_package"):
        load_state_dict(path, trust_pickle=True)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_a_torchscript_archive_is_refused(tmp_path):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / "ViT-B-16.pt")
    with pytest.raises(CheckpointError, match=r"ViT-B-16\.pt was refused: it is a TorchScript.*state_dict\(\)"):
        load_state_dict(tmp_path / "ViT-B-16.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "not a PyTorch checkpoint"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "not a PyTorch checkpoint"),
        (b"PK\x03\x04", "damaged or truncated"),
        (b"\x80\x02", "damaged or truncated|not a PyTorch checkpoint"),
        (bytes(1000), "not a checkpoint|damaged"),
    ],
)
def test_a_file_of_another_kind_is_refused(content, message, tmp_path):
    path = tmp_path / "file.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_state_dict(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(CheckpointError, match="none.ckpt does not exist"):
        load_state_dict(tmp_path / "none.ckpt")
    with pytest.raises(CheckpointError, match="is a directory"):
        load_state_dict(tmp_path)


@pytest.mark.parametrize(
    "content", [{}, {"epoch": 3}, {"state_dict": {}}, [torch.ones(1)], torch.ones(1), {"state_dict": {"a": 1.0}}]
)
def test_a_file_without_named_tensors_is_refused(content, tmp_path):
    with pytest.raises(CheckpointError, match="holds no tensors by name"):
        load_state_dict(save(content, tmp_path / "file.pth"))


@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_a_truncated_file_is_refused(part, zipped, content, tmp_path):
    path = save(content, tmp_path / "cut.ckpt", _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(1, int(part * len(whole)))])
    with pytest.raises(CheckpointError, match=r"cut\.ckpt .*Download it again"):
        load_state_dict(path)


@pytest.mark.parametrize("part", [0.0001, 0.01, 0.5, 0.9999])
def test_a_truncated_safetensors_file_is_refused(part, released, tmp_path):
    path = tmp_path / "cut.safetensors"
    save_file(released, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(CheckpointError, match=r"not a safetensors file.*Download it again"):
        load_state_dict(path)


def test_a_safetensors_header_that_promises_more_than_the_file_holds_is_refused(tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}).encode()
    path = tmp_path / "file.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_state_dict(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_damaged_bytes_never_end_in_anything_but_the_one_error(zipped, tmp_path):
    path = save({"state_dict": TENSORS, "epoch": 3}, tmp_path / "file.ckpt", _use_new_zipfile_serialization=zipped)
    whole, draw = path.read_bytes(), random.Random(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load_state_dict(path)  # damage in the numbers themselves goes unseen
            except CheckpointError as error:
                assert str(path) in str(error)
