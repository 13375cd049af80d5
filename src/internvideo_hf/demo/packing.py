"""Packing of training runs into a bundled model: `python -m internvideo_hf.demo.packing RUN ... OUT`."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from internvideo_hf.checkpoints.saving import check_replaceable, save_safetensors
from internvideo_hf.inference.open_set.scorer import FOLDER as SCORER
from internvideo_hf.training.run_directory import FINAL, LOG, RECIPE
from internvideo_hf.utils.files import atomic_directory
from internvideo_hf.utils.fingerprints import file_sha256

CHECKSUMS = "SHA256SUMS"
WEIGHTS = "model.safetensors"


def pack(runs: Sequence[str | Path], out: str | Path, *, overwrite: bool = False) -> None:
    """Copy the final model of the last run in half precision, with recipes and logs of all runs and checksums.

    The model still computes in float32, as configured. `sha256sum -c SHA256SUMS` in the folder verifies it.

    Args:
        runs: run directories of finished `internvideo train` runs, each started from the one before. Recipes and logs
            of all but the last are saved as recipe-NAME.yaml and log-NAME.jsonl with the directory's name.
        out: the folder to write; an existing README.md is kept, since people write it.
        overwrite: replace an existing model.

    Raises:
        FileExistsError: if `out` holds other files, or a model and `overwrite` is not set.
        ValueError: if `runs` is empty, or two directories have the same name.
        FileExistsError: also if `out` holds a scorer of videos without a known action, which is of the old weights.
        OSError: if a run has not finished, or a file cannot be read or written.
    """
    folders, out = [Path(run).resolve() for run in runs], Path(out)
    if not folders or len({folder.name for folder in folders}) < len(folders):
        raise ValueError(f"Expected one or several runs in folders of different names, got {[*map(str, runs)]}.")
    *earlier, run = folders
    for each in folders:
        if not (each / FINAL / WEIGHTS).is_file():
            raise FileNotFoundError(f"{each} holds no {FINAL}/{WEIGHTS}: expected a finished run of `train`.")
    check_replaceable(out, overwrite)
    if (scorer := out / SCORER).exists():
        raise FileExistsError(f"{scorer} is of the old weights. Delete it, and run `internvideo calibrate` later.")
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
    """Write SHA256SUMS for all files of a folder, in the format of `sha256sum`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / CHECKSUMS)
    lines = [f"{file_sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def main() -> None:
    """Pack the final model of the last run as a bundled model, with recipes and logs of all runs."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("runs", nargs="+", help="run directories of `internvideo train`, in order")
    parser.add_argument("out", help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing model")
    options = parser.parse_args()
    try:
        pack(options.runs, options.out, overwrite=options.overwrite)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
