"""How a training run becomes one of the package's models: `python -m internvideo_hf.demo.packing RUN OUT`."""

import argparse
import hashlib
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

from internvideo_hf.conversion.saving import check_replaceable, save_safetensors, whole_folder
from internvideo_hf.training.run_folder import FINAL, LOG, RECIPE

CHECKSUMS = "SHA256SUMS"
WEIGHTS = "model.safetensors"


def pack(run: str | Path, out: str | Path, *, overwrite: bool = False) -> None:
    """Copy the final model of a run with what tells of it, its weights in half precision, and sums of all files.

    The model computes in float32 all the same: its configuration says so. `sha256sum -c SHA256SUMS`, in the folder,
    checks it.

    Args:
        run: the folder of a run of `internvideo train` that has ended.
        out: the folder to write; its README.md is kept where there is one, since people write it.
        overwrite: replace the model that is there.

    Raises:
        FileExistsError: if `out` holds something else, or a model, and `overwrite` is not set.
        OSError: if the run has not ended, or something cannot be read or written.
    """
    run, out = Path(run), Path(out)
    if not (run / FINAL / WEIGHTS).is_file():
        raise FileNotFoundError(f"{run} holds no {FINAL}/{WEIGHTS}: the run has not ended. Run it to its end first.")
    check_replaceable(out, overwrite)
    card = next(path for path in (out / "README.md", run / FINAL / "README.md") if path.is_file())
    with whole_folder(out) as folder:
        shutil.copytree(run / FINAL, folder, dirs_exist_ok=True)
        save_safetensors(load_file(run / FINAL / WEIGHTS), folder / WEIGHTS, torch.float16)
        for file in (card, run / RECIPE, run / LOG):
            shutil.copy(file, folder)
        write_checksums(folder)


def write_checksums(folder: Path) -> None:
    """Write the SHA-256 of every file of a folder into its SHA256SUMS, as `sha256sum` writes and checks them."""
    files = sorted(path for path in folder.iterdir() if path.name != CHECKSUMS)
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def main() -> None:
    """Pack the final model of a run as the package holds it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("run", help="the folder of a run of `internvideo train`")
    parser.add_argument("out", help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the model that is there")
    options = parser.parse_args()
    pack(options.run, options.out, overwrite=options.overwrite)


if __name__ == "__main__":
    main()
