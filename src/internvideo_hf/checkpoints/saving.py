"""Write the weights of a model tensor by tensor."""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from internvideo_hf.utils.files import check_output

# Number types of models -> their safetensors names.
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
    """Refuse a folder that must not be replaced by a model.

    Args:
        folder: where the model will be written; may be missing or empty.
        overwrite: whether a folder with a model may be replaced.

    Raises:
        FileExistsError: if something stands there that must stay.
        OSError: if it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file. Choose the name of a folder.")
    check_output(folder)
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise FileExistsError(f"{folder} exists and is not empty. Choose another folder, or pass --overwrite.")
    if not (folder / "config.json").is_file():
        raise FileExistsError(
            f"{folder} is not replaced: it holds no config.json, so it is not a model's folder. Choose another one."
        )


CHUNK_SIZE = 2**20


def save_safetensors(
    tensors: Mapping[str, torch.Tensor],
    path: Path,
    dtype: torch.dtype,
    compute: Callable[[str], torch.Tensor] | None = None,
) -> None:
    """Write tensors as a safetensors file, floating-point numbers as `dtype`.

    safetensors' own writer needs all tensors in memory, converted to their number type and axis order. This one copies
    one tensor at a time, so that memory holds no more than the mapped file.

    Args:
        tensors: by name; may be memory-mapped.
        path: the file.
        dtype: of all floating-point tensors.
        compute: returns the tensor to write under a name; `tensors` then only supply names, shapes and number types.

    Raises:
        DiskFullError: if there is no room for all of them; nothing is written.
    """
    dtypes = {name: dtype if tensor.is_floating_point() else tensor.dtype for name, tensor in tensors.items()}
    names = sorted(tensors, key=lambda name: -dtypes[name].itemsize)  # keeps every tensor aligned to its numbers
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        start, end = end, end + tensors[name].numel() * dtypes[name].itemsize
        shape = list(tensors[name].shape)
        header[name] = {"dtype": DTYPE_CODES[dtypes[name]], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    check_output(path, end)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in logging.tqdm(names, desc="Writing tensors", unit="tensor"):
            tensor = tensors[name] if compute is None else compute(name)
            for part in torch.split(tensor.detach().reshape(-1), CHUNK_SIZE):  # only a part is ever copied
                file.write(part.to(dtypes[name]).view(torch.uint8).numpy().data)
