"""Overhead of the training loader: samples per second, compared with decoding alone.

python benchmarks/loader.py [--videos 48] [--seconds 10] [--workers 2] [--rounds 3]

Both read the same frames of the same videos with the same number of workers; decoding alone returns only their number,
the loader augments them (VideoMAE fine-tuning, 16 frames of 224 x 224) and returns batches.
"""

import argparse
import datetime
import importlib.metadata
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.dataset import VideoDataset
from internvideo_hf.data.samples import SampleSettings, sample_seed
from internvideo_hf.video import SAMPLERS, VideoReader

HEIGHT, WIDTH, RATE, KEYFRAME_INTERVAL, BATCH = 320, 426, 30, 12, 8
IMAGENET = {"size": 224, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
VIEWS = {
    "pretraining": SampleSettings(16, "videomae_pretrain", "pretraining", view_options=IMAGENET),
    "contrastive": SampleSettings(16, "videomae_dense_train", "contrastive", view_options=IMAGENET),
    "finetuning": SampleSettings(16, "videomae_dense_train", "finetuning", view_options=IMAGENET),
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
    parser.add_argument("--rounds", type=int, default=3, help="rounds of which the median is printed")
    arguments = parser.parse_args()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("av", "torch"))
    machine = platform.processor() or platform.machine()
    print(f"{datetime.date.today()}, {machine}, {os.cpu_count()} cores, {arguments.workers} workers, {versions}\n")
    print("| view | decoding alone, samples/s | loader, samples/s | loader / decoding |\n|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        # A few files are enough: the system keeps them in memory in either case.
        paths = [write(Path(folder, f"{number}.mp4"), arguments.seconds, number) for number in range(4)]
        rows = [{"video": str(paths[i % len(paths)]), "label": i % 10} for i in range(arguments.videos)]
        for name, settings in VIEWS.items():
            compare(name, rows, settings, arguments)


def compare(name: str, rows: list[dict], settings: SampleSettings, arguments: argparse.Namespace) -> None:
    loaders = {
        "decoding": DataLoader(DecodingAlone(rows, settings), BATCH, num_workers=arguments.workers),
        "loader": DataLoader(
            VideoDataset(rows, settings), BATCH, num_workers=arguments.workers, collate_fn=VideoCollator()
        ),
    }
    # In turns, so that a slow moment of the machine meets both.
    rounds = [
        {key: samples_per_second(loader, len(rows)) for key, loader in loaders.items()}
        for _ in range(arguments.rounds)
    ]
    alone, whole = (statistics.median(speeds[key] for speeds in rounds) for key in loaders)
    ratio = statistics.median(speeds["loader"] / speeds["decoding"] for speeds in rounds)
    print(f"| {name} | {alone:.1f} | {whole:.1f} | {ratio:.2f} |", flush=True)


def samples_per_second(loader: DataLoader, samples: int) -> float:
    start = time.perf_counter()
    for _ in loader:
        pass
    return samples / (time.perf_counter() - start)


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
