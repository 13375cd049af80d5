"""Speed of the number types and the exported formats on the CPU, side by side in one run.

python benchmarks/precision.py [--rounds 7] [--only UniFormerV2 ...] [--threads 2] [--folder DIR] [--quick]

Base models with random weights and one clip: UniFormerV2-B at 8 x 224 x 224, VideoMAE-B at 16 x 224 x 224. Each way to
run them is the one that a command takes: `--dtype` and `--compile` on the folder, or a folder of `internvideo export`;
int8 is calibrated on drawn clips. The peer is transformers' VideoMAE with the same weights, exported by transformers'
own ONNX exporter, on onnxruntime (optimum 2.3 and optimum-onnx 0.1 export no video model). All take their turn in
every round, in reversed order every second one; a ratio is the median of the ratios to our float32 within a round. The
cosine is that of the scores with those of torch in float32, the least one of other drawn clips. Exports take minutes:
`--folder` keeps them for the next run. Prints Markdown tables, as in README.md.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from side_by_side import as_row, environment, in_turns, timed  # sets what torch reads

# isort: split
import onnxruntime
import openvino
import torch
import transformers
from transformers import AutoModelForVideoClassification
from transformers.exporters import OnnxConfig, OnnxExporter

from internvideo_hf import (
    InternVideoMAEConfig,
    InternVideoMAEForVideoClassification,
    InternVideoVideoProcessor,
    UniFormerV2Config,
    UniFormerV2ForVideoClassification,
)
from internvideo_hf.checkpoints.transformers_videomae import export
from internvideo_hf.demo.synthetic import clip_at, write_clip
from internvideo_hf.export.run import Settings, export_model
from internvideo_hf.inference.runner import load_model
from internvideo_hf.utils.devices import cpu_flags

QUICK = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, image_size=64)
FLAGS = ("avx2", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
CALIBRATION, COMPARED = 16, 4  # clips
TORCH = {  # name of the row -> number type, compiled
    "torch float32": ("float32", False),
    "torch float32, compiled": ("float32", True),
    "torch bfloat16": ("bfloat16", False),
    "torch bfloat16, compiled": ("bfloat16", True),
}
EXPORTED = {  # name of the row -> format, number type
    "onnxruntime float32": ("onnx", "float32"),
    "onnxruntime int8": ("onnx", "int8"),
    "OpenVINO float32": ("openvino", "float32"),
    "OpenVINO bfloat16": ("openvino", "bfloat16"),
    "OpenVINO int8": ("openvino", "int8"),
}
PEER = "transformers' VideoMAE, its ONNX export"
Outputs = Callable[[torch.Tensor], torch.Tensor]


def drawn_videos(folder: Path, number: int) -> list[str]:
    paths = [folder / f"{index}.mp4" for index in range(number)]
    for index, path in enumerate(paths):
        if not path.exists():
            write_clip(clip_at("train", index), path)
    return [str(path) for path in paths]


def save_models(folder: Path, quick: bool) -> dict[str, Path]:
    """Save models with random weights, and their processors; return their folders by the name of the model."""
    options = QUICK if quick else {}
    torch.manual_seed(0)
    uniformer = UniFormerV2ForVideoClassification(
        UniFormerV2Config(num_labels=400, **(options | {"global_layers": [0, 1]} if quick else {}))
    )
    mae = InternVideoMAEForVideoClassification(InternVideoMAEConfig(num_labels=400, **options))
    models = {"UniFormerV2-B 8 x 224": uniformer, "VideoMAE-B 16 x 224": mae}
    for name, model in models.items():
        size = model.config.image_size
        crop = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
        model.save_pretrained(folder / name)
        InternVideoVideoProcessor(num_frames=model.config.num_frames, **crop).save_pretrained(folder / name)
    return {name: folder / name for name in models}


def in_torch(folder: Path, dtype: str, compiled: bool) -> Outputs:
    os.environ["INTERNVIDEO_RUN_COMPILE"] = str(int(compiled))
    model = load_model(AutoModelForVideoClassification, folder, "cpu", dtype)
    return outputs_of(model, getattr(torch, dtype))


def exported(folder: Path, output_dir: Path, format: str, dtype: str, videos: list[str]) -> Outputs:
    os.environ["INTERNVIDEO_RUN_COMPILE"] = "0"
    if not output_dir.exists():
        export_model(folder, output_dir, Settings(format, dtype, calibrate=tuple(videos) if dtype == "int8" else ()))
    return outputs_of(load_model(AutoModelForVideoClassification, output_dir, "cpu"), torch.float32)


def outputs_of(model: torch.nn.Module, dtype: torch.dtype) -> Outputs:
    @torch.no_grad()
    def run(clip: torch.Tensor) -> torch.Tensor:
        return model(pixel_values_videos=clip.to(dtype)).logits.float()

    return run


def of_transformers(folder: Path, scratch: Path) -> Outputs:
    """Return transformers' VideoMAE with the same weights, exported by transformers."""
    ours = InternVideoMAEForVideoClassification.from_pretrained(folder)
    model, *_ = export(ours.config, ours.state_dict())
    config = model.eval().config
    if not (scratch / "onnx").exists():
        clip = torch.zeros(1, config.num_frames, config.num_channels, config.image_size, config.image_size)
        OnnxExporter().export(model, {"pixel_values": clip}, config=OnnxConfig()).save_pretrained(scratch / "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    [graph] = (scratch / "onnx").glob("*.onnx")
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    [name] = [entry.name for entry in session.get_inputs()]
    return lambda pixels: torch.from_numpy(session.run(["logits"], {name: pixels.numpy()})[0])


def measure(name: str, folder: Path, videos: list[str], rounds: int, scratch: Path) -> None:
    """Print a model's table."""
    started: dict[str, float] = {}
    ways: dict[str, Outputs] = {}

    def add(row: str, make: Callable[[], Outputs]) -> None:
        start = time.perf_counter()
        ways[row] = make()
        ways[row](clips[0])  # compiles
        started[row] = time.perf_counter() - start
        print(row, round(started[row]), file=sys.stderr, flush=True)

    processor = transformers.AutoVideoProcessor.from_pretrained(folder)
    batch = processor(videos=videos[-COMPARED:], num_clips=1, num_crops=1, return_tensors="pt")["pixel_values_videos"]
    clips = list(batch.split(1))
    for row, (dtype, compiled) in TORCH.items():
        add(row, lambda dtype=dtype, compiled=compiled: in_torch(folder, dtype, compiled))
    for row, (format, dtype) in EXPORTED.items():
        output_dir = scratch / row
        add(row, lambda f=format, d=dtype, o=output_dir: exported(folder, o, f, d, videos[:-COMPARED]))
    if "VideoMAE" in name:
        add(PEER, lambda: of_transformers(folder, scratch))

    first, *_ = ways
    expected = [ways[first](clip) for clip in clips]

    def timed_alone(way: Outputs) -> np.ndarray:
        time.sleep(0.3)  # until the threads of the runtime before stop to wait for work
        return timed(lambda: way(clips[0]))

    times = in_turns({row: partial(timed_alone, way) for row, way in ways.items()}, rounds)
    print(as_row(name, "s a clip", "best, s", "times as fast", "best, times", "cosine", "ready after, s"))
    print(as_row("---", *["---:"] * 6))
    for row, way in ways.items():
        cosine = min(torch.cosine_similarity(way(c), e).item() for c, e in zip(clips, expected, strict=True))
        wall, reference = times[row][:, 0], times[first][:, 0]
        ratio, best = np.median(reference / wall), reference.min() / wall.min()
        cells = [f"{np.median(wall):.3f}", f"{wall.min():.3f}", f"{ratio:.2f}", f"{best:.2f}", f"{cosine:.6f}"]
        print(as_row(row, *cells, f"{started[row]:.0f}"), flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", help="keep the models and their exports here, and take those that are there")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORDS", help="words in the names of the models")
    parser.add_argument("--quick", action="store_true", help="use small models, to check that the script runs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    there = [flag for flag in FLAGS if flag in cpu_flags()]
    print(environment(), end="\n\n")
    print(
        f"onnxruntime {onnxruntime.__version__}, OpenVINO {openvino.__version__.split('-')[0]}, {options.threads} "
        f"threads; of {', '.join(FLAGS)} this CPU has {', '.join(there) or 'none'}.",
        end="\n\n",
    )
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(options.folder or temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        videos = drawn_videos(scratch, CALIBRATION + COMPARED)
        for name, path in save_models(scratch, options.quick).items():
            if any(words in name for words in options.only):
                (scratch / f"{name} exports").mkdir(exist_ok=True)
                measure(name, path, videos, options.rounds, scratch / f"{name} exports")


if __name__ == "__main__":
    main()
