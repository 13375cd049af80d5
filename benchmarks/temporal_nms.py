"""Soft suppression of temporal segments: this package, a Python loop, and a C++ loop, bare and as in the original.

python benchmarks/temporal_nms.py [--candidates 2000] [--classes 20] [--rounds 5]

The C++ loop is compiled when the benchmark starts (g++ -O3, about a second); without a compiler its rows are missing.
The original selects and copies the candidates of each class by torch, runs the loop to its end, joins and sorts the
classes, and cuts the result; its row does so too. The bare loops return indices alone. All visit as many candidates,
but for those that rounding decides, which is checked before a table is printed.
"""

import argparse
import ctypes
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from side_by_side import as_row, environment, in_turns, ratios, timed

from internvideo_hf.tasks.temporal_localization.decoding import Detections, Suppression, suppress

SIGMA, MIN_SCORE, MOST = 0.5, 0.001, 200
SOURCE = r"""
#include <algorithm>
#include <cmath>
extern "C" long soft(float* a, float* b, float* s, long* index, long n, float sigma, float low) {
    for (long i = 0; i < n; i++) {
        long best = i;
        for (long j = i + 1; j < n; j++) if (s[j] > s[best]) best = j;
        std::swap(a[i], a[best]); std::swap(b[i], b[best]); std::swap(s[i], s[best]); std::swap(index[i], index[best]);
        float area = b[i] - a[i] + 1e-6f;
        for (long j = i + 1; j < n; j++) {
            float shared = std::max(0.f, std::min(b[i], b[j]) - std::max(a[i], a[j]));
            float overlap = shared / (area + (b[j] - a[j] + 1e-6f) - shared);
            s[j] *= std::exp(-(overlap * overlap) / sigma);
            if (s[j] < low) { n--; a[j] = a[n]; b[j] = b[n]; s[j] = s[n]; index[j] = index[n]; j--; }
        }
    }
    return n;
}
"""
Kernel = Callable[[np.ndarray, np.ndarray], list[int]]
Loop = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], int]


def python_loop(segments: np.ndarray, scores: np.ndarray) -> list[int]:
    """Return the visited candidates, one number at a time."""
    rows = [[*segment, score, index] for index, (*segment, score) in enumerate(np.c_[segments, scores].tolist())]
    i, n = 0, len(rows)
    while i < n:
        best = max(range(i, n), key=lambda j: rows[j][2])
        rows[i], rows[best] = rows[best], rows[i]
        start, end = rows[i][:2]
        length, j = end - start + 1e-6, i + 1
        while j < n:
            other = rows[j]
            shared = max(0.0, min(end, other[1]) - max(start, other[0]))
            overlap = shared / (length + other[1] - other[0] + 1e-6 - shared)
            other[2] *= math.exp(-overlap * overlap / SIGMA)
            if other[2] < MIN_SCORE:
                n -= 1
                rows[j] = rows[n]
            else:
                j += 1
        i += 1
    return [row[3] for row in rows[:n]]


def compile_loop(folder: Path) -> Loop | None:
    """Return the C++ loop, which changes starts, ends, scores and indices in place; None without a compiler."""
    if (compiler := shutil.which("g++")) is None:
        return None
    (folder / "soft.cpp").write_text(SOURCE)
    subprocess.run([compiler, "-O3", "-shared", "-fPIC", "soft.cpp", "-o", "soft.so"], cwd=folder, check=True)
    function = ctypes.CDLL(str(folder / "soft.so")).soft
    pointers = [np.ctypeslib.ndpointer(kind, flags="C") for kind in (np.float32, np.float32, np.float32, np.int64)]
    function.argtypes = [*pointers, ctypes.c_long, ctypes.c_float, ctypes.c_float]
    function.restype = ctypes.c_long
    return lambda *columns: int(function(*columns, len(columns[0]), SIGMA, MIN_SCORE))


def cpp_loop(loop: Loop, segments: np.ndarray, scores: np.ndarray) -> list[int]:
    """Return the visited candidates."""
    starts, ends = (np.ascontiguousarray(column) for column in segments.T)
    index = np.arange(len(scores))
    return index[: loop(starts, ends, scores.copy(), index)].tolist()


def as_original(loop: Loop, candidates: Detections, most: int) -> Detections:
    """Suppress class by class, with the tensors that the original makes and copies around its C++ loop."""
    found = []
    for label in candidates.labels.unique():
        own = torch.where(candidates.labels == label)[0]
        segments, scores, labels = (tensor[own] for tensor in candidates)
        starts, ends = (column.contiguous() for column in segments.unbind(dim=1))
        decayed, index = scores.clone(), torch.arange(len(own))
        kept = loop(*(tensor.numpy() for tensor in (starts, ends, decayed, index)))
        result = torch.stack([starts, ends, decayed], dim=1)[: min(kept, most)]
        found.append((result[:, :2].clone(), result[:, 2].clone(), labels[index[:kept]][:most].clone()))
    segments, scores, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = scores.sort(descending=True)[1][:most]
    return Detections(segments[order], scores[order], labels[order])


def by_class(kernel: Kernel, candidates: Detections) -> list[list[int]]:
    """Run a loop over the candidates of each class, as the original does."""
    segments, scores, labels = (tensor.numpy() for tensor in candidates)
    return [kernel(segments[labels == label], scores[labels == label]) for label in np.unique(labels)]


def draw(count: int, classes: int) -> Detections:
    """Sample candidates of a long video, many of which overlap."""
    generator = torch.Generator().manual_seed(0)
    middles, lengths = torch.rand(count, generator=generator) * 2304, torch.rand(count, generator=generator) * 60 + 1
    segments = torch.stack([middles - lengths / 2, middles + lengths / 2], dim=1)
    labels = torch.randint(classes, (count,), generator=generator)
    return Detections(segments, torch.rand(count, generator=generator), labels)


def compare(candidates: Detections, loop: Loop | None, rounds: int) -> None:
    """Print the times of all variants for some candidates."""
    ours = {
        f"suppress, {'all' if limit is None else limit} segments": partial(
            suppress, candidates, Suppression("gaussian", True, SIGMA, min_score=MIN_SCORE, max_segments=limit)
        )
        for limit in (MOST, None)
    }
    first, every = ours
    kernels: dict[str, Kernel] = {"Python loop": python_loop}
    calls: dict[str, Callable[[], object]] = {**ours}
    if loop is not None:
        calls[f"C++ loop as in the original, {MOST} segments"] = original = partial(
            as_original, loop, candidates, MOST
        )
        torch.testing.assert_close(original().scores, ours[first]().scores, atol=1e-5, rtol=1e-5)
        kernels["C++ loop alone"] = partial(cpp_loop, loop)
    for name, kernel in kernels.items():
        visited = sum(map(len, by_class(kernel, candidates)))
        assert abs(visited - len(ours[every]().scores)) <= visited // 500, name
        calls[name] = partial(by_class, kernel, candidates)
    times = in_turns({name: partial(timed, call) for name, call in calls.items()}, rounds)
    against = ratios(times, first)
    classes = len(candidates.labels.unique())
    print(as_row(f"{len(candidates.scores):,} candidates, classes: {classes}", "milliseconds of one core", "ratio"))
    for name, row in times.items():
        print(as_row(name, f"{1e3 * np.median(row[:, 1]):.1f}", f"{against[name][1]:.2f}"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--candidates", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(environment())
    with tempfile.TemporaryDirectory() as folder:
        loop = compile_loop(Path(folder))
        for classes in (1, args.classes):
            compare(draw(args.candidates, classes), loop, args.rounds)


if __name__ == "__main__":
    main()
