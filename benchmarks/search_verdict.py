"""How often `search` calls a clip a match, for sentences that describe one, and for sentences that describe none.

python benchmarks/search_verdict.py [--seed 7] [--queries 720] [--fit]

The 240 clips of the split `test` are drawn anew and searched with demo-mm. An absent sentence is that of any
composition (shape, color, action, background, size) that no clip of the gallery shows; they are counted by how their
nearest clip differs. `--fit` measures on the split `val` instead, and prints the least cosine of 90 % of the true
sentences, as `null_captions.json` of the model holds it.
"""

import argparse
import tempfile
from collections import defaultdict
from dataclasses import fields
from itertools import product
from pathlib import Path

import numpy as np

import internvideo_hf
from internvideo_hf.demo.synthetic import (
    ACTIONS,
    BACKGROUNDS,
    COLORS,
    SHAPES,
    SIZES,
    Clip,
    canonical_caption,
    clip_at,
    write_clip,
)

GALLERY = 240
LOOKS = [field.name for field in fields(Clip)][2:]


def compositions() -> list[Clip]:
    """Return every composition once."""
    looks = product(SHAPES, COLORS, ACTIONS, BACKGROUNDS)
    sized = {name: [None] if action.changes_size else list(SIZES) for name, action in ACTIONS.items()}
    return [Clip("test", 0, *look, size) for look in looks for size in sized[look[2]]]


def difference(clip: Clip, gallery: list[Clip]) -> str:
    """Return how the clip of the gallery that is most like it differs."""
    differing = [{name for name in LOOKS if getattr(clip, name) != getattr(other, name)} for other in gallery]
    least = min(map(len, differing))
    if least > 1:
        return "in two words or more"
    return "in the shape only" if {"shape"} in differing else "in one other word only"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=7, help="of the clips")
    parser.add_argument("--queries", type=int, default=720, help="absent sentences")
    parser.add_argument("--fit", action="store_true", help="measure the least cosine of a match, on other clips")
    arguments = parser.parse_args()
    split = "val" if arguments.fit else "test"
    clips = [clip_at(split, index, arguments.seed) for index in range(GALLERY)]
    index = internvideo_hf.VideoIndex(internvideo_hf.demo_path("demo-mm"), device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.mp4" for number in range(GALLERY)]
        for clip, path in zip(clips, paths, strict=True):
            write_clip(clip, path, arguments.seed)
        index.add([str(path) for path in paths])
    shown = {canonical_caption(clip) for clip in clips}
    absent = [clip for clip in compositions() if canonical_caption(clip) not in shown]
    chosen = np.random.default_rng(arguments.seed).choice(len(absent), min(arguments.queries, len(absent)), False)
    true = [index.search(canonical_caption(clip)) for clip in clips]
    if arguments.fit:
        least = np.quantile([hits[0].similarity for hits in true], 0.1)
        print(f"least cosine of 90 % of the true sentences: {least:.3f}")
    matches = defaultdict(list, {"true": [hits.matches for hits in true]})
    for number in chosen:
        found = index.search(canonical_caption(absent[number])).matches
        for name in ("anyhow", difference(absent[number], clips)):
            matches[f"absent: the nearest clip differs {name}"].append(found)
    print(f"{split}, seed {arguments.seed}, {GALLERY} clips\n\n| sentence | number | matches, % |\n|---|---:|---:|")
    for name, found in matches.items():
        print(f"| {name} | {len(found)} | {100 * np.mean(found):.1f} |")


if __name__ == "__main__":
    main()
