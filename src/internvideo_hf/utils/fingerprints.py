"""Content hashes of files, JSON values and tensors.

Saved files hold these hashes (indexes, features, scores, adapters), so the bytes that are hashed must not change.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, 64 hexadecimal digits."""
    return str(_file_digest(path).hexdigest())


def files_sha256(directory: str | Path, patterns: tuple[str, ...]) -> str:
    """Return the SHA-256 of the contents of the files of a directory that match, in order of pattern and name.

    Args:
        directory: where the files are.
        patterns: glob patterns, such as "*.safetensors".
    """
    digest = hashlib.sha256()
    for pattern in patterns:
        for path in sorted(Path(directory).glob(pattern)):
            digest.update(_file_digest(path).digest())
    return digest.hexdigest()


def ends_sha256(path: Path, size: int) -> str:
    """Return the SHA-256 of a file's length, its first and its last bytes: cheap for large videos.

    Args:
        path: the file.
        size: bytes at each end.
    """
    length, digest = path.stat().st_size, hashlib.sha256()
    with path.open("rb") as file:
        digest.update(f"{length}".encode() + file.read(size))
        file.seek(max(length - size, 0))
        digest.update(file.read())
    return digest.hexdigest()


def json_sha256(content: Any) -> str:
    """Return the SHA-256 of a value as JSON with sorted keys; what JSON lacks is hashed as its `str`."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def text_sha256(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8, with lone surrogates of names that are none."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def tensors_sha256(tensors: Mapping[str, torch.Tensor], also: Any = None) -> str:
    """Return the SHA-256 of named tensors: names, number types, shapes and numbers.

    Args:
        tensors: in any order, on any device.
        also: a JSON value that is hashed after them, if not None.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    if also is not None:
        digest.update(json.dumps(also, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _file_digest(path: str | Path) -> Any:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256")
