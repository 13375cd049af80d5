"""Writing a model's folder: whole or not at all, and tensor by tensor."""

import json
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `folder` once the block has ended without an error.

    What stood there before stays until then, and stays for good where anything fails.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        new, old = Path(scratch, "new"), Path(scratch, "old")
        new.mkdir()
        yield new
        if folder.is_dir() and not any(folder.iterdir()):
            # Filled rather than replaced: it may be a mount point, or the folder that a shell is in.
            for file in new.iterdir():
                file.rename(folder / file.name)
            return
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise


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
