"""Videos of colored squares that stand or move, with their boxes and actions, and the settings of a tiny detector."""

from pathlib import Path

import av
import numpy as np
import torch

from internvideo_hf import InternVideoMAEConfig, InternVideoVideoProcessor
from internvideo_hf.models.internvideo_mae.modeling_internvideo_mae_detection import (
    InternVideoMAEForVideoActionDetection,
)

CLASSES = ["green", "red"]
HEIGHT, WIDTH, RATE, SIDE = 32, 48, 10, 12
SETTINGS = {
    "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
    "patch_size": 8, "num_frames": 4, "use_mean_pooling": False,
}  # fmt: skip
PROCESSOR = {
    "size": {"shortest_edge": 32},
    "num_frames": 4,
    "do_center_crop": False,
    "sampler": "videomae_dense",
    "sampler_kwargs": {"sampling_rate": 2},
    "resize_method": "cv2_linear",
}
TINY = [
    *(f"model.config.{name}={value}".lower() for name, value in SETTINGS.items()),
    "model.config.drop_path_rate=0",
    *("model.size=null", "model.start=null", "model.processor.size={shortest_edge: 32}", "data.boxes.crop_size=32"),
    *("model.processor.sampler=videomae_dense", "model.processor.sampler_kwargs={sampling_rate: 2}"),
    *("training.dataloader_num_workers=0", "training.activation_checkpointing=false", "training.fp16=false"),
]


def write_videos(root: Path, videos: int = 6, seconds: int = 3, seed: int = 0) -> None:
    """Write videos with a green and a red square at random places, and train.csv, val.csv, of key frames each second.

    The last third is for validation. Squares stand still.
    """
    rng = np.random.default_rng(seed)
    (root / "videos").mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {"train": [], "val": []}
    for number in range(videos):
        frame = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
        top, left = rng.integers(0, HEIGHT - SIDE), rng.integers(0, WIDTH // 2 - SIDE)
        places = {"green": (int(top), int(left)), "red": (int(HEIGHT - SIDE - top), int(left + WIDTH // 2))}
        for color, (y, x) in places.items():
            frame[y : y + SIDE, x : x + SIDE, 1 if color == "green" else 0] = 255
        name = f"video{number}"
        write_frames(root / f"videos/{name}.mp4", [frame] * seconds * RATE)
        subset = "val" if 3 * number >= 2 * videos else "train"
        for second in range(seconds):
            for person, (color, (y, x)) in enumerate(places.items()):
                box = x / WIDTH, y / HEIGHT, (x + SIDE) / WIDTH, (y + SIDE) / HEIGHT
                lines[subset].append(",".join(map(str, (name, second, *box, color, person))))
    for subset, rows in lines.items():
        (root / f"{subset}.csv").write_text("\n".join(rows) + "\n")


def write_frames(path: Path, frames: list[np.ndarray]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"qp": "0", "threads": "1"})
        stream.height, stream.width, _ = frames[0].shape
        stream.pix_fmt = "yuv444p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


def write_detector(folder: Path, **changes) -> Path:
    """Write a random detector of the classes."""
    torch.manual_seed(0)
    config = InternVideoMAEConfig(**SETTINGS | {"id2label": dict(enumerate(CLASSES))} | changes)
    InternVideoMAEForVideoActionDetection(config).save_pretrained(folder)
    InternVideoVideoProcessor(**PROCESSOR).save_pretrained(folder)
    return folder
