"""Retrieval metrics of a large set: time and memory for both directions, with and without dual softmax.

python benchmarks/metrics.py [--texts 10000] [--videos 10000] [--rounds 3]

`naive` uses full matrices: a double argsort, and dual softmax in one piece. Recalls are compared before the table is
printed. Memory is the peak of the process beyond the similarity matrix.
"""

import argparse

import numpy as np
from side_by_side import as_row, environment, in_turns, peak_memory, ratios, timed

from internvideo_hf.inference.ranking import dual_softmax, rank_scores, retrieval_metrics


def draw(texts: int, videos: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample similarities with a realistic spread, and the video of each text."""
    generator = np.random.default_rng(0)
    owners = np.sort(np.concatenate([np.arange(videos), generator.integers(0, videos, texts - videos)]))
    similarity = generator.standard_normal((texts, videos), dtype=np.float32)
    similarity[np.arange(texts), owners] += 3
    return similarity, owners


def naive(similarity: np.ndarray, owners: np.ndarray) -> dict[str, dict[str, float]]:
    """Compute text-to-video recall by sorting."""
    found = {}
    for way, matrix in (("plain", similarity), ("dual_softmax", dual_softmax(similarity))):
        places = np.argsort(np.argsort(-matrix, axis=1), axis=1)
        found[way] = rank_scores(places[np.arange(len(owners)), owners])
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    similarity, owners = draw(args.texts, args.videos)
    expected, found = naive(similarity, owners), retrieval_metrics(similarity, owners)
    for way, scores in expected.items():
        assert abs(scores["R@1"] - found["text_to_video"][way]["R@1"]) < 0.02, way
    calls = {
        "blocks, both ways": lambda: retrieval_metrics(similarity, owners),
        "by sorting, text to video alone": lambda: naive(similarity, owners),
    }
    times = in_turns({name: lambda call=call: timed(call) for name, call in calls.items()}, args.rounds)
    against = ratios(times, "blocks, both ways")
    print(environment())
    print(f"matrix: {similarity.nbytes / 1e6:,.0f} MB")
    print(as_row("", "seconds", "processor seconds", "ratio", "memory, MB"))
    for name, call in calls.items():
        seconds, processor = np.median(times[name], axis=0)
        memory = peak_memory(call)
        print(as_row(name, f"{seconds:.2f}", f"{processor:.2f}", f"{against[name][0]:.2f}", f"{memory / 1e6:,.0f}"))


if __name__ == "__main__":
    main()
