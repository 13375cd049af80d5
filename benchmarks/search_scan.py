"""Exact search among many rows: by an 8-bit copy first, by the float32 product, and by faiss' flat index.

python benchmarks/search_scan.py [--rows 1000000] [--threads 2] [--rounds 15]

The three take turns on the same rows in memory (faiss' own, 3 GB for a million of 768 values), for one query a call
and the thousand nearest rows, as `internvideo search` asks for. Two galleries: vectors of any direction, and clumps in
a narrow cone with one value far above the others, as embeddings of clips have. Needs the extra `search`.
"""

import argparse
import statistics
import time

import faiss
import torch
from torch.nn.functional import normalize

from internvideo_hf.search.stores import nearest
from internvideo_hf.search.stores.quantized import Codes
from internvideo_hf.search.stores.segments import SEGMENT_ROWS, Segment

DIM, HITS, CLUMPS = 768, 1000, 2000


def rows_of(kind: str, count: int, generator: torch.Generator) -> torch.Tensor:
    """Return unit vectors, `(count, DIM)`."""
    rows = torch.randn(count, DIM, generator=generator)
    if kind == "cone":
        center = torch.randn(DIM, generator=torch.Generator().manual_seed(1))
        center[5] = 20
        clumps = torch.randn(CLUMPS, DIM, generator=torch.Generator().manual_seed(2))
        rows = 0.5 * rows + clumps[torch.randint(CLUMPS, (count,), generator=generator)] + center
    return normalize(rows, dim=-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    faiss.omp_set_num_threads(arguments.threads)
    print(f"{arguments.rows} rows of {DIM}, {arguments.threads} threads, faiss {faiss.__version__}\n")
    print("| rows | way | median, ms | best, ms | best, of the product's | CPU, ms | rows compared in float32 |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for kind in ("any direction", "cone"):
        measure(kind, arguments.rows, arguments.rounds)


def measure(kind: str, count: int, rounds: int) -> None:
    """Print a line for each way."""
    generator = torch.Generator().manual_seed(0)
    flat = faiss.IndexFlatIP(DIM)
    for first in range(0, count, SEGMENT_ROWS):
        flat.add(rows_of(kind, min(SEGMENT_ROWS, count - first), generator).numpy())
    rows = torch.from_numpy(faiss.rev_swig_ptr(flat.get_xb(), count * DIM).reshape(count, DIM))
    none = torch.empty(0)
    segments = [Segment([], part, none, torch.empty(len(part)), none) for part in rows.split(SEGMENT_ROWS)]
    for segment in segments:
        segment.codes = Codes.of_rows(segment.embeddings)
    ways = {
        "float32 product": lambda query: nearest.exact(segments, query, HITS),
        "8-bit copy first": lambda query: nearest.scan(segments, query, HITS),
        "faiss flat": lambda query: flat.search(query.numpy(), HITS),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    work: dict[str, list[float]] = {name: [] for name in ways}
    compared = []
    for _ in range(rounds + 1):  # the first round is not counted
        noise = torch.randn(1, DIM, generator=generator) / DIM**0.5
        query = normalize(rows[torch.randint(count, (1,), generator=generator)] + noise, dim=-1)
        answers = {}
        for name, search in ways.items():
            start, used = time.perf_counter(), time.process_time()
            answers[name] = search(query)
            times[name].append(time.perf_counter() - start)
            work[name].append(time.process_time() - used)
        expected = answers["float32 product"]
        assert torch.equal(answers["8-bit copy first"][1].sort()[0], expected[1].sort()[0]), "other rows"
        bounds = torch.cat([segment.codes.bounds(query[0])[1] for segment in segments])
        compared.append(int((bounds >= expected[0].min()).sum()))
    whole = min(times["float32 product"][1:])
    for name, found in times.items():
        median, least, cpu = statistics.median(found[1:]), min(found[1:]), min(work[name][1:])
        number = statistics.median(compared[1:]) if name == "8-bit copy first" else count
        columns = f"{1e3 * median:.0f} | {1e3 * least:.0f} | {least / whole:.2f} | {1e3 * cpu:.0f} | {number:.0f}"
        print(f"| {kind} | {name} | {columns} |")


if __name__ == "__main__":
    main()
