"""Gain of masked pretraining on synthetic videos: fine-tuning with few labels, with and without it.

    internvideo make-demo-data shapes --clips 10000
    python benchmarks/demo_mae.py shapes runs/mae [--labels 1200] [--seeds 0 1 2]

Pretrains once with the recipe demo/mae_pretrain, without labels. Then, for each seed, fine-tunes with
demo/mae_finetune from it and from random weights, for the same number of steps, on the first --labels clips, in which
all actions are equally frequent. Writes curves.png and prints a table. Resumable.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from internvideo_hf.demo.scores import demo_scores
from internvideo_hf.demo.synthetic import ACTIONS
from internvideo_hf.training.recipes import load_recipe
from internvideo_hf.training.run import train

ARMS = {"pretrained": "from masked pretraining", "random": "from nothing"}


def validation(run: Path) -> list[tuple[float, float]]:
    """Return (step, top-1 accuracy on `val`) of a run."""
    entries = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [(entry["step"], entry["eval_top-1"]) for entry in entries if "eval_top-1" in entry]


def draw(curves: dict[str, list[list[tuple[float, float]]]], path: Path, labels: int) -> None:
    """Plot mean and range over seeds of each arm."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for arm, runs in curves.items():
        steps = [step for step, _ in runs[0]]
        values = np.array([[value for _, value in run] for run in runs])
        axes.plot(steps, values.mean(axis=0), label=ARMS[arm])
        axes.fill_between(steps, values.min(axis=0), values.max(axis=0), alpha=0.2)
    axes.axhline(100 / len(ACTIONS), color="grey", linestyle=":", label="chance")
    axes.set(
        title=f"{len(ACTIONS)} actions, {labels} labels, unseen compositions (val)", xlabel="step", ylabel="top-1, %"
    )
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run what is missing, then draw and print."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="the folder that `internvideo make-demo-data` wrote")
    parser.add_argument("out", type=Path, help="the folder for the runs")
    parser.add_argument("--labels", type=int, default=1200, help="labeled clips, a multiple of 12")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--changes", nargs="*", default=[], help="settings to change in both recipes")
    options = parser.parse_args()
    try:
        lines = (options.data / "train.jsonl").read_text().splitlines(keepends=True)
    except OSError as error:
        parser.error(f"{options.data} is not a folder that `internvideo make-demo-data` wrote: {error}")
    if options.labels < 1 or options.labels % len(ACTIONS) or options.labels > len(lines):
        parser.error(
            f"--labels {options.labels}: a multiple of {len(ACTIONS)}, {len(lines)} at most, has as many of each."
        )
    pretrained = train(
        load_recipe("demo/mae_pretrain", options.changes), options.data, options.out / "pretrain", quiet=True
    )

    few = (options.out / f"train_{options.labels}.jsonl").resolve()
    few.write_text("".join(lines[: options.labels]))
    starts = {"pretrained": str(pretrained), "random": "random"}
    curves = {arm: [] for arm in ARMS}
    scores = {arm: [] for arm in ARMS}
    for seed in options.seeds:
        for arm, start in starts.items():
            changes = [f"data.train={few}", f"training.seed={seed}", f"training.data_seed={seed}"]
            run = options.out / f"{arm}-{options.labels}-{seed}"
            final = train(
                load_recipe("demo/mae_finetune", [*changes, *options.changes]),
                options.data,
                run,
                start=start,
                quiet=True,
            )
            curves[arm].append(validation(run))
            scores[arm].append(
                {
                    split: demo_scores(final, options.data, split)["clips"]["action"]
                    for split in ("val", "test", "hard")
                }
            )
    draw(curves, options.out / "curves.png", options.labels)
    print("| start | " + " | ".join(scores["random"][0]) + " |\n|---|" + "---|" * 3)
    for arm, found in scores.items():
        cells = []
        for split in found[0]:
            values = [entry[split] for entry in found]
            cells.append(f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})")
        print(f"| {ARMS[arm]} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
