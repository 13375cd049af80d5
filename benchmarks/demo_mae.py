"""Gain of masked pretraining on drawn close-ups: fine-tuning with few labels, with and without it.

    internvideo make-demo-data close-ups --close-ups
    python benchmarks/demo_mae.py close-ups runs/mae [--labels 30 120 480] [--seeds 0 1 2]

Pretrains once for each seed with the recipe demo/mae_pretrain, without labels. Then fine-tunes with demo/mae_finetune
from it and from random weights, for the same number of steps, on the first videos of each shape, as many of one as of
another, the same for all seeds. The videos of val_near show what those of train_near do, in other poses. Writes
curves.png and prints a table. Resumable.
"""

import argparse
import json
from itertools import zip_longest
from pathlib import Path

import numpy as np

from internvideo_hf.demo.synthetic import SHAPES
from internvideo_hf.training.recipes import load_recipe
from internvideo_hf.training.run import train

ARMS = {"pretrained": "from masked pretraining", "random": "from nothing"}


def validation(run: Path) -> list[tuple[float, float]]:
    """Return (step, top-1 accuracy of the shape on `val_near`) of a run."""
    entries = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [(entry["step"], entry["eval_shape-top-1"]) for entry in entries if "eval_shape-top-1" in entry]


def draw(curves: dict[tuple[int, str], list[list[tuple[float, float]]]], path: Path) -> None:
    """Plot mean and range over seeds: a panel for each number of labels, a line for each arm."""
    from matplotlib.figure import Figure

    counts = list(dict.fromkeys(count for count, _ in curves))
    figure = Figure(figsize=(3.2 * len(counts), 3.2), layout="constrained")
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for panel, count in zip(panels, counts, strict=True):
        for arm, title in ARMS.items():
            runs = curves[count, arm]
            steps = [step for step, _ in runs[0]]
            values = np.array([[value for _, value in run] for run in runs])
            panel.plot(steps, values.mean(axis=0), label=title)
            panel.fill_between(steps, values.min(axis=0), values.max(axis=0), alpha=0.2)
        panel.axhline(100 / len(SHAPES), color="grey", linestyle=":", label="chance")
        panel.set(title=f"{count} labeled videos", xlabel="step")
    panels[0].set_ylabel("shape, top-1, %")
    panels[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run what is missing, then draw and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder that `internvideo make-demo-data --close-ups` wrote")
    parser.add_argument("out", type=Path, help="the folder for the runs")
    parser.add_argument("--labels", type=int, nargs="+", default=[30, 120, 480], help="labeled videos of 16 stills")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--changes", nargs="*", default=[], help="settings to change in both recipes")
    options = parser.parse_args()
    try:
        lines = (options.data / "train_near.jsonl").read_text().splitlines(keepends=True)
    except OSError as error:
        parser.error(f"{options.data} is not a folder that `internvideo make-demo-data --close-ups` wrote: {error}")
    if wrong := [count for count in options.labels if not 0 < count <= len(lines)]:
        parser.error(
            f"--labels: got {wrong[0]}, expected 1 to {len(lines)}, the videos of {options.data}/train_near.jsonl. "
            "Give fewer, or make a larger data set."
        )
    of_shapes = [[line for line in lines if json.loads(line)["shape"] == shape] for shape in SHAPES]
    lines = [line for turn in zip_longest(*of_shapes) for line in turn if line is not None]
    curves: dict[tuple[int, str], list[list[tuple[float, float]]]] = {}
    for seed in options.seeds:
        seeds = [f"training.seed={seed}", f"training.data_seed={seed}", *options.changes]
        pretrained = train(
            load_recipe("demo/mae_pretrain", seeds), options.data, options.out / f"pretrain-{seed}", quiet=True
        )
        for count in options.labels:
            few = (options.out / f"train_{count}.jsonl").resolve()
            few.write_text("".join(lines[:count]))
            for arm, start in (("pretrained", str(pretrained)), ("random", "random")):
                run = options.out / f"{arm}-{count}-{seed}"
                recipe = load_recipe("demo/mae_finetune", [f"data.train={few}", *seeds])
                train(recipe, options.data, run, start=start, quiet=True)
                curves.setdefault((count, arm), []).append(validation(run))
    draw(curves, options.out / "curves.png")
    print("| start | " + " | ".join(f"{count} videos" for count in options.labels) + " |")
    print("|---|" + "---:|" * len(options.labels))
    for arm, title in ARMS.items():
        cells = []
        for count in options.labels:
            values = [run[-1][1] for run in curves[count, arm]]
            cells.append(f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})")
        print(f"| {title} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
