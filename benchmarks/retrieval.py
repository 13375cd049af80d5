"""Cost of a video index: indexing compared with decoding, and search among many embeddings.

python benchmarks/retrieval.py indexing [--videos 8] [--seconds 4]
python benchmarks/retrieval.py search [--rows 100000 1000000] [--dtype float16] [--approximate]

Indexing uses random weights of the size of InternVideo-MM B/16 (224 x 224, 8 frames). Search uses clustered random
unit vectors of size 768, since without neighbors an approximate index cannot be judged. All variants read the same
memory-mapped files: a million rows are 3 GB in float32.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from loader import write

from internvideo_hf.data.executors.processes import map_unordered
from internvideo_hf.search.clips import Windowing, read_clips
from internvideo_hf.search.index import VideoIndex
from internvideo_hf.search.stores.local import HEADER, LocalStore
from internvideo_hf.search.stores.segments import SEGMENT_ROWS, Segment, Video

DIM, QUERIES, HITS, CLUMPS = 768, 16, 10, 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["indexing", "search", "one-search"])
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4, help="length of each video, 320 x 426")
    parser.add_argument("--jobs", type=int, default=1, help="processes that decode")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32")
    parser.add_argument("--approximate", action="store_true", help="measure faiss' index, too (extra `search`)")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.what == "one-search":
        print(*one_search(arguments.folder, arguments.way))
        return
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("av", "torch"))
    machine = platform.processor() or platform.machine()
    print(f"{datetime.date.today()}, {machine}, {os.cpu_count()} cores, {versions}\n")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        (indexing if arguments.what == "indexing" else search)(Path(folder), arguments)


def indexing(folder: Path, arguments: argparse.Namespace) -> None:
    from internvideo_hf.models.internvideo_mm.configuration_internvideo_mm import InternVideoMMConfig
    from internvideo_hf.models.internvideo_mm.modeling_internvideo_mm import InternVideoMMModel
    from internvideo_hf.processing.processing import InternVideoProcessor
    from internvideo_hf.processing.tokenizer import build_clip_tokenizer
    from internvideo_hf.processing.video_processing import InternVideoVideoProcessor

    size = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    vision = {**size, "patch_size": 16, "global_layers": [8, 9, 10, 11], "num_global_attention_heads": 12}
    config = InternVideoMMConfig(vision_config=vision, projection_dim=512)
    InternVideoMMModel(config).save_pretrained(folder / "model")
    InternVideoProcessor(InternVideoVideoProcessor(), build_clip_tokenizer()).save_pretrained(folder / "model")
    (folder / "videos").mkdir()
    paths = [str(write(folder / f"videos/{i}.mp4", arguments.seconds, i)) for i in range(arguments.videos)]
    index = VideoIndex(folder / "model")
    processor = index.encoder.video_processor
    start = time.perf_counter()
    for _ in map_unordered(_Read(processor), [(path, None) for path in paths], arguments.jobs):
        pass
    decoding = len(paths) / (time.perf_counter() - start)
    start = time.perf_counter()
    index.add(paths, jobs=arguments.jobs)
    whole = len(paths) / (time.perf_counter() - start)
    start = time.perf_counter()
    again = index.update(paths)
    unchanged = len(again.unchanged) / (time.perf_counter() - start)
    print("| decoding and pixels alone, videos/s | indexing | of it | nothing changed |\n|---:|---:|---:|---:|")
    print(f"| {decoding:.2f} | {whole:.2f} | {whole / decoding:.2f} | {unchanged:,.0f} |")


class _Read:
    def __init__(self, processor):
        self.processor = processor

    def __call__(self, task):
        return len(read_clips(task, self.processor, Windowing()).pixels)


def search(folder: Path, arguments: argparse.Namespace) -> None:
    print("| rows | search | ms a query | first query, ms | memory, MB | recall@10 | built in, s |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    for rows in arguments.rows:
        place = folder / str(rows)
        fill(place, rows, arguments.dtype)
        ways = ["plain product", "exact"]
        built = {}
        if arguments.approximate:
            start = time.perf_counter()
            LocalStore.load(place).build_approximate()
            built["approximate"] = time.perf_counter() - start
            ways.append("approximate")
        for way in ways:
            # In a process of its own, so that memory is this way's alone.
            command = [sys.executable, __file__, "one-search", "--folder", str(place), "--way", way]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            each_query, first, memory, recall = map(float, output)
            seconds = f"{built[way]:.0f}" if way in built else ""
            print(
                f"| {rows:,} | {way} | {each_query:.1f} | {first:.0f} | {memory:,.0f} | {recall:.3f} | {seconds} |",
                flush=True,
            )
        for file in place.iterdir():
            file.unlink()


def fill(folder: Path, rows: int, dtype: str) -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(CLUMPS, DIM, generator=generator)
    settings = {"model": "", "fingerprint": "", "window": None, "stride": None, "dtype": dtype}
    store = LocalStore(settings, folder)
    for first in range(0, rows, SEGMENT_ROWS):
        count = min(SEGMENT_ROWS, rows - first)
        block = centres[torch.randint(CLUMPS, (count,), generator=generator)]
        block = torch.nn.functional.normalize(block + torch.randn(count, DIM, generator=generator), dim=-1)
        places = torch.arange(count)
        videos = [Video(f"/videos/{first + i}.mp4", 1, 1, "0" * 32, 1) for i in range(count)]
        spans = torch.zeros(count, 2, dtype=torch.float64)
        store.upsert(Segment(videos, block, spans, places, torch.zeros_like(places)))


def one_search(folder: Path, way: str) -> tuple[float, float, float, float]:
    """Milliseconds of a query and of the first one, MB of the process beyond its imports, share of true neighbours."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(CLUMPS, DIM, generator=generator)[:QUERIES]
    noise = torch.randn(QUERIES, DIM, generator=torch.Generator().manual_seed(1))
    queries = torch.nn.functional.normalize(centres + noise, dim=-1)
    process = psutil.Process()
    before = process.memory_info().rss
    if way == "plain product":
        from safetensors.torch import load_file

        names = json.loads((folder / HEADER).read_text())["parts"]
        files = [folder / name for name in names]
        tables = [load_file(file)["embeddings"].numpy() for file in files]

        def find(query):
            similar = np.concatenate([table @ query[0].numpy().astype(table.dtype) for table in tables])
            best = np.argpartition(-similar, HITS)[:HITS]
            return torch.from_numpy(best[np.argsort(-similar[best])])[None]

    else:
        store = LocalStore.load(folder)

        def find(query):
            return store.nearest(query, HITS, approximate=way == "approximate")[1]

    times, found = [], []
    for i in range(QUERIES):
        start = time.perf_counter()
        found.append(find(queries[i : i + 1])[0].tolist())
        times.append(1000 * (time.perf_counter() - start))
    memory = (process.memory_info().rss - before) / 1e6
    expected = LocalStore.load(folder).nearest(queries, HITS)[1].tolist()
    recall = sum(len(set(a) & set(b)) for a, b in zip(found, expected, strict=True)) / (HITS * QUERIES)
    return statistics.median(times[1:]), times[0], memory, recall


if __name__ == "__main__":
    main()
