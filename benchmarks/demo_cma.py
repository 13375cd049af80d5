"""Gain of cross-model attention over two encoders that were each trained on half of the actions.

    internvideo make-demo-data shapes --clips 10000
    python benchmarks/demo_cma.py shapes runs/cma [--seeds 0 1 2]

For each seed, a VideoMAE learns moving and shaking (recipe demo/cma_mae), and a UniFormerV2 learns turning, circling
and changing size (demo/cma_uniformerv2), each with every twentieth clip of the other's, which covers three of its six
actions, since the list cycles through all of them. `internvideo fuse` makes one model of them, which demo/cma trains
on all clips with both encoders frozen: with cross-model attention, and, for comparison, for the same number of steps
with its gates shut, so that only heads, norms and the sum of scores are trained. Prints a table over the seeds.
Resumable.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from internvideo_hf.checkpoints import fuse_encoders
from internvideo_hf.demo.synthetic import ACTIONS
from internvideo_hf.evaluation.ensemble_run import evaluate_ensemble
from internvideo_hf.evaluation.protocols import load_ensemble
from internvideo_hf.training.recipes import load_recipe
from internvideo_hf.training.run import train

HELD_OUT = ("val", "test", "hard")
ONE_IN = 20
KNOWN = {
    "mae": [action for action in ACTIONS if action.startswith(("moves", "shakes", "bounces"))],
    "uniformerv2": [action for action in ACTIONS if action.startswith(("rotates", "circles", "grows", "shrinks"))],
}
ROWS = {
    "mae": "VideoMAE, moving and shaking",
    "uniformerv2": "UniFormerV2, turning and changing size",
    "mean of probabilities": "mean of both, probabilities",
    "fused": "mean of both, logits: fused, not trained",
    "shut": "trained with the gates shut",
    "open": "trained with the exchanges",
}


def write_lists(data: Path, out: Path) -> dict[str, Path]:
    """Write a list for each encoder: all clips of its actions, and a fraction of the others."""
    lines = [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()]
    lists = {}
    for name, actions in KNOWN.items():
        known = {list(ACTIONS).index(action) for action in actions}
        others = [row for row in lines if row["label"] not in known]
        kept = [row for row in lines if row["label"] in known] + others[::ONE_IN]
        lists[name] = (out / f"train_{name}.jsonl").resolve()
        lists[name].write_text("".join(f"{json.dumps(row)}\n" for row in kept))
    return lists


def accuracies(members: list[Path], data: Path, kept: Path) -> list[dict[str, float]]:
    """Return top-1 accuracy by split, of each member and of the mean of their probabilities."""
    found: list[dict[str, float]] = [{} for _ in range(len(members) + 1)]
    for split in HELD_OUT:
        protocol = load_ensemble("classifiers", [f"data.list={split}.jsonl"])
        result = evaluate_ensemble(protocol, members, data, scores=kept, workers=0, batch_size=1, quiet=True)
        for place, scores in enumerate([*(member["scores"] for member in result["members"]), result["scores"]]):
            found[place][split] = scores["top-1"]
    return found


def run(seed: int, data: Path, out: Path, lists: dict[str, Path], changes: list[str]) -> dict[str, dict[str, float]]:
    """Run all trainings of a seed and return top-1 accuracy of each row by split."""
    seeds = [f"training.seed={seed}", f"training.data_seed={seed}", *changes]
    finals = {
        name: train(
            load_recipe(f"demo/cma_{name}", [f"data.train={path}", *seeds]),
            data,
            out / f"{name}-{seed}",
            start="random",
            quiet=True,
        )
        for name, path in lists.items()
    }
    finals["fused"] = out / f"fused-{seed}"
    if not finals["fused"].is_dir():
        fuse_encoders(finals["mae"], finals["uniformerv2"], finals["fused"])
    for arm, more in (("shut", ["model.freeze=[exchanges]"]), ("open", [])):
        recipe = load_recipe("demo/cma", [*seeds, *more])
        finals[arm] = train(recipe, data, out / f"{arm}-{seed}", start=finals["fused"], quiet=True)
    kept = out / "scores"
    mae, uniformerv2, mean = accuracies([finals["mae"], finals["uniformerv2"]], data, kept)
    found = {"mae": mae, "uniformerv2": uniformerv2, "mean of probabilities": mean}
    return found | {name: accuracies([finals[name]], data, kept)[0] for name in ("fused", "shut", "open")}


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="the folder that `internvideo make-demo-data` wrote")
    parser.add_argument("out", type=Path, help="the folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--changes", nargs="*", default=[], help="settings to change in all recipes")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        lists = write_lists(options.data, options.out)
    except OSError as error:
        parser.error(f"{options.data} is not a folder that `internvideo make-demo-data` wrote: {error}")
    found = [run(seed, options.data, options.out, lists, options.changes) for seed in options.seeds]
    print("| top-1, mean (range) | " + " | ".join([*HELD_OUT, "all three"]) + " |\n|---|" + "---|" * 4)
    for name, title in ROWS.items():
        columns = [[scores[name][split] for scores in found] for split in HELD_OUT]
        columns.append(np.mean(columns, axis=0).tolist())
        cells = [f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})" for values in columns]
        print(f"| {title} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
