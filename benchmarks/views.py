"""Savings of a single decode: test views of one video, and sliding windows over a long one.

python benchmarks/views.py [--minutes 1] [--repeats 3]
"""

import argparse
import datetime
import importlib.metadata
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch

from internvideo_hf import InternVideoVideoProcessor, VideoReader
from internvideo_hf.video import SAMPLERS

RATE, KEYFRAME_INTERVAL = 30, 250
WINDOW, STRIDE = 16, 4
CLIPS, CROPS = 5, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1, help="length of the video for sliding windows")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the median is printed")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("av", "torch"))
    print(f"{datetime.date.today()}, {platform.processor() or platform.machine()}, 2 threads, {versions}\n")
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder, "short.mp4"), Path(folder, "long.mp4")
        write(short, seconds=10, height=720, width=1280)
        write(long, seconds=60 * arguments.minutes, height=240, width=320)
        views(short, arguments.repeats)
        windows(long, arguments.repeats)


def views(video: Path, repeats: int) -> None:
    """Time 5 x 3 views of a 10 s 720p clip: one call, and one read per view."""
    processor = InternVideoVideoProcessor(
        num_frames=16,
        sampler="videomae_dense",
        resize_method="cv2_linear",
        size={"shortest_edge": 224},
        decoder="pyav",
    )

    def together() -> torch.Tensor:
        return processor(video, num_clips=CLIPS, num_crops=CROPS, return_tensors="pt")["pixel_values_videos"]

    def one_by_one() -> torch.Tensor:
        with VideoReader(video, backend="pyav") as reader:
            clips = SAMPLERS["videomae_dense"](reader.num_frames, 16, CLIPS)
        chosen = []
        for clip in clips:
            for crop in range(CROPS):
                with VideoReader(video, backend="pyav") as reader:
                    frames = reader.read(clip)
                crops = processor(frames, do_sample_frames=False, num_crops=CROPS, return_tensors="pt")
                chosen.append(crops["pixel_values_videos"][crop])
        return torch.stack(chosen)

    assert torch.equal(together(), one_by_one())
    once, often = medians([together, one_by_one], repeats)
    print("| 5 x 3 views of 10 s at 1280 x 720 | seconds | ratio |\n|---|---:|---:|")
    print(f"| one decode for all views | {once:.2f} | 1.0 |")
    print(f"| a read for each of the 15 | {often:.2f} | {often / once:.1f} |\n")


def windows(video: Path, repeats: int) -> None:
    """Time windows of 16 frames at stride 4: one pass over the frames, and one read per window."""
    decoded = {}

    def once() -> None:
        with VideoReader(video, backend="pyav") as reader:
            before = reader.frames_decoded
            count = sum(len(block) for block in reader.blocks(64))
            decoded["once"] = reader.frames_decoded - before
            assert count == reader.num_frames

    def each() -> None:
        with VideoReader(video, backend="pyav") as reader:
            before = reader.frames_decoded
            for start in range(0, reader.num_frames - WINDOW + 1, STRIDE):
                reader.read(range(start, start + WINDOW))
            decoded["each"] = reader.frames_decoded - before

    passed, read = medians([once, each], repeats)
    print(f"| windows of {WINDOW} at stride {STRIDE} | seconds | frames decoded | ratio |\n|---|---:|---:|---:|")
    print(f"| every frame once | {passed:.2f} | {decoded['once']:,} | 1.0 |")
    print(f"| a read for each window | {read:.2f} | {decoded['each']:,} | {read / passed:.1f} |")


def medians(functions: list[Callable[[], object]], repeats: int) -> list[float]:
    """Return median seconds of each function; they alternate, so that machine drift affects all alike."""
    seconds = [[] for _ in functions]
    for _ in range(repeats):
        for index, function in enumerate(functions):
            begin = time.perf_counter()
            function()
            seconds[index].append(time.perf_counter() - begin)
    return [statistics.median(times) for times in seconds]


def write(path: Path, seconds: float, height: int, width: int) -> None:
    """Write a moving pattern in H.264 with distant keyframes, as in web videos."""
    y, x = np.mgrid[:height, :width]
    with av.open(path, "w") as container:
        stream = container.add_stream(
            "libx264", rate=RATE, options={"preset": "ultrafast", "g": str(KEYFRAME_INTERVAL)}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(int(seconds * RATE)):
            picture = np.stack([x + 5 * index, y + 3 * index, x + y], axis=-1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


if __name__ == "__main__":
    main()
