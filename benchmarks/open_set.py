"""How well each method tells four actions that a classifier has never seen from the eight that it knows.

    internvideo make-demo-data shapes --clips 10000
    python benchmarks/open_set.py shapes runs/open_set [--seeds 0 1 2]

For each seed, a small UniFormerV2 learns eight actions from nothing (recipe demo/classifier, with 8 frames). Then it
is trained on for the same number of steps twice: as the plain classifier that it is, and with an evidential head
(recipe demo/open_set). Clips that neither was trained on fit each scorer and its threshold; held-out clips of known
and of unknown actions are scored. Prints the closed accuracy of both, and the AUROC of each method over the seeds; the
ensemble is that of the plain classifiers of all seeds. About 13 minutes of one core per seed. Resumable.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from internvideo_hf.demo.synthetic import ACTIONS
from internvideo_hf.inference.classifier import Classifier
from internvideo_hf.inference.open_set.methods import METHODS, make_method
from internvideo_hf.inference.open_set.observations import Observations
from internvideo_hf.inference.open_set.observer import Observer
from internvideo_hf.inference.open_set.scorer import OpenSetScorer
from internvideo_hf.inference.runner import RunSettings
from internvideo_hf.tasks.open_set.metrics import accuracy, ranking_scores
from internvideo_hf.training.recipes import load_recipe
from internvideo_hf.training.run import train

UNKNOWN = [action for action in ACTIONS if action.startswith(("grows", "shrinks", "shakes", "bounces"))]
KNOWN = [action for action in ACTIONS if action not in UNKNOWN]
FITTED_ON = 800  # clips at the end of the training list that no model is trained on
HELD_OUT = ("test", "hard")
DROPOUT = {"rate": 0.5}
BASE = ["model.config.num_frames=8", "training.max_steps=1000", "training.save_strategy=no"]


def write_lists(data: Path, out: Path) -> None:
    """Write the lists of known clips, renumbered, and of unknown ones."""
    lists: dict[str, list[dict]] = {"unknown": []}
    for split in ("train", "val", *HELD_OUT):
        rows = [json.loads(line) for line in (data / f"{split}.jsonl").read_text().splitlines()]
        for row in rows:
            action = list(ACTIONS)[row["label"]]
            name = split if action in KNOWN else "unknown" if split in HELD_OUT else None
            if name is not None:
                place = KNOWN.index(action) if action in KNOWN else UNKNOWN.index(action)
                lists.setdefault(name, []).append({"video": str((data / row["video"]).resolve()), "label": place})
    lists["fit"], lists["train"] = lists["train"][-FITTED_ON:], lists["train"][:-FITTED_ON]
    lists["known"] = [row for split in HELD_OUT for row in lists.pop(split)]
    for name, rows in lists.items():
        (out / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (out / "labels.txt").write_text("".join(f"{action}\n" for action in KNOWN))


def train_both(seed: int, out: Path, changes: list[str]) -> dict[str, Path]:
    """Train the classifiers of a seed, and return their folders."""
    places = {"data.train": "train.jsonl", "data.validation": "val.jsonl", "data.labels": "labels.txt"}
    shared = [f"{name}={file}" for name, file in places.items()]
    shared += [f"training.seed={seed}", f"training.data_seed={seed}"]
    base = train(load_recipe("demo/classifier", [*shared, *BASE, *changes]), out, out / f"base-{seed}", quiet=True)
    evidential = load_recipe("demo/open_set", [*shared, *changes])
    plain = replace(evidential, model=replace(evidential.model, task="classification", config={}))
    return {
        name: train(recipe, out, out / f"{name}-{seed}", start=base, quiet=True)
        for name, recipe in (("plain", plain), ("evidential", evidential))
    }


def observe(classifier: Classifier, method: str, out: Path, limit: int | None, **options) -> dict[str, Observations]:
    """Return what a method reads of each list."""
    observer = Observer.of(classifier, make_method(method, **options))
    settings, found = RunSettings(batch_size=16, workers=0), {}
    for name in ("fit", "known", "unknown"):
        rows = [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()][:limit]
        found[name], _, _ = observer.observe(rows, settings, description=f"{name}, for {method}")
    return found


def score(method: str, seen: dict[str, Observations], **options) -> dict[str, float]:
    """Return AUROC of a method, and the fractions that its threshold keeps and finds."""
    scorer = OpenSetScorer(method, **options).fit(seen["fit"])
    scores = {name: scorer.score(seen[name]) for name in ("known", "unknown")}
    unknown = {name: 100 * scorer.is_unknown(values).double().mean().item() for name, values in scores.items()}
    auroc = ranking_scores(scores["known"].numpy(), scores["unknown"].numpy())["AUROC"]
    return {"AUROC": auroc, "kept": 100 - unknown["known"], "found": unknown["unknown"]}


def score_seed(models: dict[str, Path], members: list[Path], out: Path, limit: int | None) -> dict[str, dict]:
    """Return the scores of all methods, and the closed accuracy of both classifiers."""
    found: dict[str, dict] = {}
    for name, folder in models.items():
        classifier = Classifier.load(folder, device="cpu")
        seen = observe(classifier, "openmax", out, limit)
        answers = seen["known"].logits.mean(dim=1).argmax(dim=-1).numpy()
        found[name] = {"top-1": accuracy(seen["known"].labels.numpy(), answers)}
        if name == "evidential":
            for method in ("evidential", "max_softmax", "energy"):
                found[f"{method} of the evidential"] = score(method, seen)
            continue
        for method in sorted(METHODS.keys() - {"evidential", "mc_dropout", "ensemble"}):
            try:
                found[method] = score(method, seen)
            except ValueError as error:
                print(f"{method}: {error}")
        passes = observe(classifier, "mc_dropout", out, limit, **DROPOUT)
        found["mc_dropout"] = score("mc_dropout", passes, **DROPOUT)
        if members:
            options = {"members": [str(member) for member in members]}
            found["ensemble"] = score("ensemble", observe(classifier, "ensemble", out, limit, **options))
    return found


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="the folder that `internvideo make-demo-data` wrote")
    parser.add_argument("out", type=Path, help="the folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--changes", nargs="*", default=[], help="settings to change in all recipes")
    parser.add_argument("--limit", type=int, help="clips of each list to score; all by default")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    try:
        write_lists(options.data, options.out)
    except OSError as error:
        parser.error(f"{options.data} is not a folder that `internvideo make-demo-data` wrote: {error}")
    models = {seed: train_both(seed, options.out, options.changes) for seed in options.seeds}
    found = []
    for seed in options.seeds:
        others = [models[other]["plain"] for other in options.seeds if other != seed]
        file = options.out / f"scores-{seed}-of-{len(options.seeds)}.json"
        if not file.exists():
            file.write_text(json.dumps(score_seed(models[seed], others, options.out, options.limit), indent=1))
        found.append(json.loads(file.read_text()))
    print(f"known: {', '.join(KNOWN)}\nunknown: {', '.join(UNKNOWN)}\n")
    for name in ("plain", "evidential"):
        print(f"closed accuracy, {name}: {cell([scores[name]['top-1'] for scores in found])}")
    names = [name for name in found[0] if name not in ("plain", "evidential")]
    means = {name: np.mean([scores[name]["AUROC"] for scores in found]) for name in names}
    print("\n| method | AUROC | known kept, % | unknown found, % |\n|---|---:|---:|---:|")
    for name in sorted(names, key=lambda name: -means[name]):
        cells = [cell([scores[name][column] for scores in found]) for column in ("AUROC", "kept", "found")]
        print(f"| {name} | " + " | ".join(cells) + " |")


def cell(values: list[float]) -> str:
    """Return the mean of numbers with their range."""
    return f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
