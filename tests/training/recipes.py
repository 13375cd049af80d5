"""A small recipe and its data, for the tests of this folder and the processes that they start."""

from pathlib import Path

import yaml
from data.settings import write_videos

CLASSIFICATION = {
    "title": "A small classifier",
    "source": ["made up"],
    "model": {
        "family": "internvideo_mae",
        "task": "classification",
        "config": {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
            "num_frames": 4,
            "drop_path_rate": 0.2,
        },
    },
    "data": {
        "validation": "train.csv",
        "labels": 8,
        "mixup": {"mixup_alpha": 0.8},
        "clip": {"sampler": "videomae_dense_train", "sampler_options": {"sampling_rate": 2}, "view": "finetuning"},
    },
    "batch_size": 4,
    "training": {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "schedule": "linear_then_cosine",
        "dataloader_num_workers": 0,
        "logging_steps": 1,
    },
}


def write_recipe(folder: Path, content: dict = CLASSIFICATION, **changes) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def write_data(folder: Path, count: int = 8) -> Path:
    """Videos with labels and captions, in lists of both kinds."""
    folder.mkdir(exist_ok=True)
    rows = write_videos(folder, count)
    names = [Path(row["video"]).name for row in rows]
    (folder / "train.csv").write_text("".join(f"{name},{number}\n" for number, name in enumerate(names)))
    lines = [f"{name},a clip with the number {number}\n" for number, name in enumerate(names)]
    (folder / "captions.csv").write_text("video,caption\n" + "".join(lines))
    return folder
