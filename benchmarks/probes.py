"""Probes on drawn clips: encoders that were trained on such clips, and a random one of transformers as the floor.

    internvideo make-demo-data shapes --clips 600 --seed 26
    python benchmarks/probes.py shapes/train.jsonl probes

Writes `OUT/NAME/result.json` of each encoder, and prints a table in Markdown. Resumable.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import VideoMAEConfig, VideoMAEModel, VideoMAEVideoProcessor

from internvideo_hf.evaluation.probes import load_probe
from internvideo_hf.evaluation.probing import probe
from internvideo_hf.inference.runner import RunSettings

SIDE = 64
RANDOM = VideoMAEConfig(
    image_size=SIDE, patch_size=8, num_frames=8, hidden_size=96, num_hidden_layers=4, num_attention_heads=4,
    intermediate_size=384,
)  # fmt: skip


def random_encoder(folder: Path) -> Path:
    """Write a VideoMAE that was never trained."""
    torch.manual_seed(0)
    VideoMAEModel(RANDOM).save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    VideoMAEVideoProcessor(size=size, crop_size=size).save_pretrained(folder)
    return folder


def main() -> None:
    """Probe all encoders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    random = args.out / "random-encoder"
    models = {
        "demo-classifier": "demo-classifier",
        "demo-mm": "demo-mm",
        "random VideoMAE": random if (random / "model.safetensors").exists() else random_encoder(random),
    }
    probes = {name: load_probe(name) for name in ("linear", "attentive")}
    print("| encoder | probe | 1 clip a class | 5 | 20 |\n|---|---|---|---|---|")
    for name, model in models.items():
        with tqdm(desc=name) as bar:
            result = probe(
                model, args.list, probes, args.out / name, shots=(1, 5, 20), settings=RunSettings(workers=0),
                device="cpu", on_fit=partial(progress, bar),
            )  # fmt: skip
        for kind in probes:
            scores = [row["top-1"] for row in result["scores"] if row["probe"] == kind]
            cells = " | ".join(f"{score['mean']:.1f} ± {score['confidence']:.1f}" for score in scores)
            print(f"| {name} | {kind} | {cells} |")


def progress(bar: tqdm, done: int, total: int) -> None:
    """Show how many probes are trained."""
    bar.total = total
    bar.update(done - bar.n)


if __name__ == "__main__":
    main()
