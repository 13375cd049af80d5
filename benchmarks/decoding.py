"""Decoders: memory after many opens, and the cost of reading 8 frames of a long video.

python benchmarks/decoding.py [--minutes 10] [--opens 500]
"""

import argparse
import datetime
import gc
import importlib.metadata
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import psutil

from internvideo_hf.video.reader import VideoReader, available_backends

RATE = 30
HEIGHT, WIDTH = 240, 320
KEYFRAME_INTERVAL = 250
OPENS = (20, 125, 250, 500)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="length of the long video")
    parser.add_argument("--opens", type=int, default=OPENS[-1], help="how often to open the short video")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the median is printed")
    parser.add_argument("--memory-of", choices=["pyav", "decord", "torchcodec"], help=argparse.SUPPRESS)
    parser.add_argument("--video", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        # A process of its own for each decoder, so that none counts the libraries of another.
        print(memory_row(arguments.video, arguments.memory_of, arguments.opens))
        return
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        memory_table(Path(folder) / "short.mp4", arguments.opens)
        time_table(Path(folder) / "long.mp4", arguments.minutes, arguments.repeats)


def memory_table(path: Path, opens: int) -> None:
    write_video(path, num_frames=64)
    steps = [step for step in OPENS if step <= opens]
    print("\n## Resident memory in MB after so many times open, read 8 frames, close\n")
    print(f"| backend | {' | '.join(f'{step}' for step in steps)} |")
    print("|---|" + "---|" * len(steps))
    for backend in available_backends():
        command = [sys.executable, __file__, "--memory-of", backend, "--video", str(path), "--opens", str(opens)]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1])


def memory_row(path: Path, backend: str, opens: int) -> str:
    sizes = []
    for done in range(1, opens + 1):
        with VideoReader(path, backend=backend) as reader:
            reader.read(np.linspace(0, reader.num_frames - 1, 8).astype(int))
        if done in OPENS:
            sizes.append(psutil.Process().memory_info().rss / 2**20)
    return f"| {backend} | {' | '.join(f'{size:.1f}' for size in sizes)} |"


def time_table(path: Path, minutes: float, repeats: int) -> None:
    num_frames = round(minutes * 60 * RATE)
    write_video(path, num_frames)
    megabytes = path.stat().st_size / 2**20
    print(
        f"\n## {num_frames} frames, {WIDTH}x{HEIGHT} H.264, a keyframe every {KEYFRAME_INTERVAL}, {megabytes:.0f} MB\n"
    )
    print("| backend | 8 even frames, s | frames decoded | the whole file, s | frames decoded | times faster |")
    print("|---|---|---|---|---|---|")
    spread = (np.arange(8) + 0.5) * num_frames / 8
    backends = available_backends()
    # In turns, so that a slow moment of the machine meets every decoder.
    runs = [{name: (read(path, name, spread), read_all(path, name)) for name in backends} for _ in range(repeats)]
    for name in backends:
        few, whole = (np.median([run[name][part][0] for run in runs]) for part in (0, 1))
        counts = [runs[0][name][part][1] for part in (0, 1)]
        few_decoded, all_decoded = ("not told" if count is None else count for count in counts)
        print(f"| {name} | {few:.2f} | {few_decoded} | {whole:.2f} | {all_decoded} | {whole / few:.1f} |")


def read(path: Path, backend: str, indices: np.ndarray) -> tuple[float, int | None]:
    """Return the seconds to open, read and close a video, and the number of decoded frames."""
    gc.collect()
    start = time.perf_counter()
    with VideoReader(path, backend=backend) as reader:
        reader.read(indices.astype(int))
        decoded = reader.frames_decoded
    return time.perf_counter() - start, decoded


def read_all(path: Path, backend: str) -> tuple[float, int | None]:
    """Return the seconds to decode the file in chunks that fit into memory."""
    gc.collect()
    start = time.perf_counter()
    with VideoReader(path, backend=backend) as reader:
        for first in range(0, reader.num_frames, 4 * KEYFRAME_INTERVAL):
            reader.read(range(first, min(first + 4 * KEYFRAME_INTERVAL, reader.num_frames)))
        decoded = reader.frames_decoded
    return time.perf_counter() - start, decoded


def write_video(path: Path, num_frames: int) -> None:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.gop_size = KEYFRAME_INTERVAL
        stream.options = {"preset": "ultrafast", "x264-params": "scenecut=0"}
        for i in range(num_frames):
            pixels = np.empty((HEIGHT * 3 // 2, WIDTH), dtype=np.uint8)
            pixels[:HEIGHT] = (rows + 3 * i) ^ (columns + i)
            pixels[HEIGHT:] = 128
            frame = av.VideoFrame.from_ndarray(pixels, format="yuv420p")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def machine() -> str:
    names = ["torch", "numpy", "av", "decord", "torchcodec"]
    versions = [f"{name} {version}" for name in names if (version := installed(name))]
    return f"{datetime.date.today()} · {processor()} · Python {platform.python_version()} · {' · '.join(versions)}"


def processor() -> str:
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    name = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{name}, {psutil.cpu_count()} cores"


def installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
