"""Overhead of the training loader: samples per second, compared with decoding alone.

python benchmarks/loader.py [--videos 48] [--seconds 10] [--workers 2] [--rounds 3] [--views NAME ...] [--threads]

Both read the same frames of the same videos with the same number of workers; decoding alone returns only their number,
the loader augments them (16 frames of 224 x 224) and returns batches, whose clips are bytes where normalization comes
last, as `internvideo train` sends them to the device. "on the CPU" normalizes them in the process that trains, too.
Ratios are those of samples a second, and of CPU time, which other work on the machine disturbs less; "best" is that of
the shortest times of both. `--threads` has threads in the place of processes.
"""

import argparse
import datetime
import importlib.metadata
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from internvideo_hf.data.collation import VideoCollator, finish_batch
from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.samples import SampleSettings, sample_seed
from internvideo_hf.video import SAMPLERS, VideoReader

PROCESSES = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
HEIGHT, WIDTH, RATE, KEYFRAME_INTERVAL, BATCH = 320, 426, 30, 12, 8
IMAGENET = {"size": 224, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
FAST = IMAGENET | {"augmentation_backend": "tensor"}
RESIZED = IMAGENET | {"method": "torchvision_bilinear"}
VIEWS = {
    "finetuning": SampleSettings(16, "videomae_dense_train", "finetuning", view_options=FAST),
    "finetuning-pil": SampleSettings(16, "videomae_dense_train", "finetuning", view_options=IMAGENET),
    "pretraining": SampleSettings(16, "videomae_pretrain", "pretraining", view_options=RESIZED),
    "pretraining-pil": SampleSettings(16, "videomae_pretrain", "pretraining", view_options=IMAGENET),
    "contrastive": SampleSettings(16, "videomae_dense_train", "contrastive", view_options=IMAGENET),
    "finetuning-2-views": SampleSettings(16, "videomae_dense_train", "finetuning", view_options=FAST, num_views=2),
}


class DecodingAlone(Dataset):
    """Reads the frames of a `VideoDataset` with the same seed and discards them."""

    def __init__(self, rows: list[dict], settings: SampleSettings):
        self.rows, self.rule = rows, SAMPLERS[settings.sampler]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> int:
        with VideoReader(self.rows[index]["video"]) as reader:
            generator = np.random.RandomState(sample_seed(0, 0, index))
            return len(reader.read(self.rule(reader.num_frames, 16, generator=generator)[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=48, help="samples of an epoch")
    parser.add_argument("--seconds", type=float, default=10, help="length of each video")
    parser.add_argument("--workers", type=int, default=2, help="processes of the loader")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of which medians and the best are printed")
    parser.add_argument("--views", nargs="+", default=list(VIEWS), choices=list(VIEWS), help="what is measured")
    parser.add_argument("--threads", action="store_true", help="threads in the place of processes")
    arguments = parser.parse_args()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("av", "torch", "pillow"))
    machine = platform.processor() or platform.machine()
    kind = "threads" if arguments.threads else "processes"
    print(f"{datetime.date.today()}, {machine}, {os.cpu_count()} cores, {arguments.workers} {kind}, {versions}")
    print(f"load average {os.getloadavg()[0]:.1f}\n")
    print("| view | decoding, samples/s | loader / decoding, median | best | CPU time, median | best | on the CPU |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        # A few files are enough: the system keeps them in memory in either case.
        paths = [write(Path(folder, f"{number}.mp4"), arguments.seconds, number) for number in range(4)]
        rows = [{"video": str(paths[i % len(paths)]), "label": i % 10} for i in range(arguments.videos)]
        for name in arguments.views:
            compare(name, rows, VIEWS[name], arguments)
    print(f"\nload average {os.getloadavg()[0]:.1f}")


def compare(name: str, rows: list[dict], settings: SampleSettings, arguments: argparse.Namespace) -> None:
    decoding, whole = DecodingAlone(rows, settings), VideoDataset(rows, settings, raw=True)
    collate = VideoCollator()
    if arguments.threads:
        run = partial(by_threads, workers=arguments.workers)
    else:
        run = partial(by_processes, workers=arguments.workers)
    passes = {
        "decoding": lambda: run(decoding, default_collate),
        "loader": lambda: run(whole, collate),
        "normalized": lambda: map(finish_batch, run(whole, collate)),
    }
    # In turns, so that a slow moment of the machine meets all.
    rounds = [{key: spent(batches) for key, batches in passes.items()} for _ in range(arguments.rounds)]
    speed = statistics.median(len(rows) / one["decoding"][0] for one in rounds)
    cells = []
    for key, place in (("loader", 0), ("loader", 1), ("normalized", 0)):
        ratios = [one["decoding"][place] / one[key][place] for one in rounds]
        best = min(one["decoding"][place] for one in rounds) / min(one[key][place] for one in rounds)
        cells += [f"{statistics.median(ratios):.2f}", f"{best:.2f}"]
    print(f"| {name} | {speed:.1f} | {' | '.join(cells[:5])} |", flush=True)


def spent(batches: Callable[[], Iterable[object]]) -> tuple[float, float]:
    """Return the seconds, and the CPU seconds of all processes, until the last batch."""
    start, cpu = time.perf_counter(), cpu_seconds()
    for _ in batches():
        pass
    return time.perf_counter() - start, cpu_seconds() - cpu


def cpu_seconds() -> float:
    return sum(resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime for who in PROCESSES)


def by_processes(dataset: Dataset, collate: Callable, workers: int) -> Iterable[object]:
    return DataLoader(dataset, BATCH, num_workers=workers, collate_fn=collate)


def by_threads(dataset: Dataset, collate: Callable, workers: int) -> Iterable[object]:
    """Make batches by threads, as many in progress as of a loader with so many workers."""
    with ThreadPoolExecutor(workers) as pool:
        numbers = [range(first, min(first + BATCH, len(dataset))) for first in range(0, len(dataset), BATCH)]
        yield from pool.map(lambda batch: collate([dataset[number] for number in batch]), numbers)


def write(path: Path, seconds: float, seed: int) -> Path:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.gop_size = KEYFRAME_INTERVAL
        stream.options = {"preset": "veryfast"}
        noise = torch.randint(0, 24, (HEIGHT, WIDTH), generator=torch.Generator().manual_seed(seed)).numpy()
        for i in range(round(seconds * RATE)):
            wave = 110 + 60 * np.sin((rows + 2 * i) / 17) + 40 * np.cos((columns - 3 * i) / 23)
            picture = np.repeat((wave + np.roll(noise, i, 1))[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


if __name__ == "__main__":
    main()
