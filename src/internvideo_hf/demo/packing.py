"""How training runs become one of the package's models: `python -m internvideo_hf.demo.packing RUN ... OUT`."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from internvideo_hf.checkpoints.saving import check_replaceable, save_safetensors
from internvideo_hf.training.run_directory import FINAL, LOG, RECIPE
from internvideo_hf.utils.files import atomic_directory
from internvideo_hf.utils.fingerprints import file_sha256

CHECKSUMS = "SHA256SUMS"
WEIGHTS = "model.safetensors"


def pack(runs: Sequence[str | Path], out: str | Path, *, overwrite: bool = False) -> None:
    """Copy the final model of the last run, its weights in half precision, what tells of all runs, and sums of files.

    The model computes in float32 all the same: its configuration says so. `sha256sum -c SHA256SUMS`, in the folder,
    checks it.

    Args:
        runs: the folders of runs of `internvideo train` that have ended, each started from the one before. Of those
            before the last, recipe and log are kept as recipe-NAME.yaml and log-NAME.jsonl, NAME being the folder's.
        out: the folder to write; its README.md is kept where there is one, since people write it.
        overwrite: replace the model that is there.

    Raises:
        FileExistsError: if `out` holds something else, or a model, and `overwrite` is not set.
        ValueError: if there is no run, or two have folders of the same name.
        OSError: if a run has not ended, or something cannot be read or written.
    """
    folders, out = [Path(run).resolve() for run in runs], Path(out)
    if not folders or len({folder.name for folder in folders}) < len(folders):
        raise ValueError(f"Give one run or several, in folders of different names; got {[*map(str, runs)]}.")
    *earlier, run = folders
    for each in folders:
        if not (each / FINAL / WEIGHTS).is_file():
            raise FileNotFoundError(f"{each} holds no {FINAL}/{WEIGHTS}: it is no run of `train`, or has not ended.")
    check_replaceable(out, overwrite)
    card = out / "README.md" if (out / "README.md").is_file() else run / FINAL / "README.md"
    with atomic_directory(out) as folder:
        shutil.copytree(run / FINAL, folder, dirs_exist_ok=True)
        save_safetensors(load_file(run / FINAL / WEIGHTS), folder / WEIGHTS, torch.float16)
        for file in (card, run / RECIPE, run / LOG):
            shutil.copy(file, folder)
        for stage in earlier:
            for file in map(Path, (RECIPE, LOG)):
                shutil.copy(stage / file, folder / f"{file.stem}-{stage.name}{file.suffix}")
        write_checksums(folder)


def write_checksums(folder: Path) -> None:
    """Write the SHA-256 of every file of a folder into its SHA256SUMS, as `sha256sum` writes and checks them."""
    files = sorted(path for path in folder.iterdir() if path.name != CHECKSUMS)
    lines = [f"{file_sha256(file)}  {file.name}\n" for file in files]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def main() -> None:
    """Pack the final model of the last run as the package holds it, with recipes and logs of all."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("runs", nargs="+", help="the folders of runs of `internvideo train`, in their order")
    parser.add_argument("out", help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the model that is there")
    options = parser.parse_args()
    try:
        pack(options.runs, options.out, overwrite=options.overwrite)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
