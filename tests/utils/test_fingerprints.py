"""Hashes stored in saved files, with their input bytes spelled out."""

import hashlib
import struct

import torch

from internvideo_hf.utils.fingerprints import (
    ends_sha256,
    file_sha256,
    files_sha256,
    json_sha256,
    tensors_sha256,
    text_sha256,
)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_files(tmp_path):
    (tmp_path / "b.bin").write_bytes(b"0123456789")
    (tmp_path / "a.json").write_bytes(b"{}")
    assert file_sha256(tmp_path / "b.bin") == digest(b"0123456789")
    assert ends_sha256(tmp_path / "b.bin", 3) == digest(b"10" + b"012" + b"789")
    both = hashlib.sha256(b"0123456789").digest() + hashlib.sha256(b"{}").digest()
    assert files_sha256(tmp_path, ("*.bin", "*.json")) == digest(both)


def test_values():
    assert json_sha256({"b": 1, "a": [None, "x"]}) == digest(b'{"a": [null, "x"], "b": 1}')
    assert text_sha256("\u00e9") == digest(b"\xc3\xa9")


def test_tensors_in_any_order():
    tensors = {"b": torch.tensor([[1.0, 2.0]]), "a": torch.tensor(7, dtype=torch.int64)}
    expected = b"a torch.int64 ()" + struct.pack("<q", 7) + b"b torch.float32 (1, 2)" + struct.pack("<2f", 1, 2)
    assert tensors_sha256(tensors) == tensors_sha256(dict(reversed(tensors.items()))) == digest(expected)
    assert tensors_sha256(tensors, also={"k": 1}) == digest(expected + b'{"k": 1}')
