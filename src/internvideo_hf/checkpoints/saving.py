"""Writing a model's folder: whole or not at all, and tensor by tensor."""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from transformers.utils import logging

# What safetensors calls the number types that models hold.
DTYPE_CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def check_replaceable(folder: Path, overwrite: bool) -> None:
    """Refuse to put a model where something else stands, or, unless told so, where another model does.

    Raises:
        FileExistsError: saying what stands there, and what to do.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file. Choose the name of a folder.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise FileExistsError(f"{folder} exists and is not empty. Choose another folder, or pass --overwrite.")
    if not (folder / "config.json").is_file():
        raise FileExistsError(
            f"{folder} holds no config.json, so it is no model's folder and is not replaced. Choose another one."
        )


NUMBERS_AT_ONCE = 2**20


def save_safetensors(
    tensors: Mapping[str, torch.Tensor],
    path: Path,
    dtype: torch.dtype,
    compute: Callable[[str], torch.Tensor] | None = None,
) -> None:
    """Write tensors as a safetensors file, floating-point numbers as `dtype`.

    safetensors' own writer takes all tensors at once, and with them every change of number type or axis order at
    once. Here one tensor at a time is copied, so that a mapped file is all that is ever in memory.

    Args:
        compute: what to write under a name, called when its turn comes; `tensors` then tell names, shapes and kinds
            of number only.
    """
    dtypes = {name: dtype if tensor.is_floating_point() else tensor.dtype for name, tensor in tensors.items()}
    names = sorted(tensors, key=lambda name: -dtypes[name].itemsize)  # keeps every tensor aligned to its numbers
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name in names:
        start, end = end, end + tensors[name].numel() * dtypes[name].itemsize
        shape = list(tensors[name].shape)
        header[name] = {"dtype": DTYPE_CODES[dtypes[name]], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in logging.tqdm(names, desc="Writing tensors", unit="tensor"):
            tensor = tensors[name] if compute is None else compute(name)
            for part in tensor.detach().reshape(-1).split(NUMBERS_AT_ONCE):  # of which alone there is a copy
                file.write(part.to(dtypes[name]).view(torch.uint8).numpy())
