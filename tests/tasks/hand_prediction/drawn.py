"""Drawn videos in which a square glides, in Ego4D's layout, and a tiny model of hands."""

import json
from pathlib import Path

import av
import numpy as np
import torch
from tasks.hand_prediction.lists import TIMES, clip, document

from internvideo_hf import InternVideoMAEConfig, InternVideoMAEForHandPrediction, InternVideoVideoProcessor
from internvideo_hf.models.common.hand_prediction import HAND_LABELS

WIDTH, HEIGHT, RATE, SIDE = 64, 48, 8, 8
"""Of the videos and of the square."""
FRAME, STEP, FRAMES = 8, 2, 17
"""The first moment, frames from one to the next, frames of a video."""
SETTINGS = {
    "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
    "patch_size": 8, "num_frames": 4,
}  # fmt: skip
PROCESSOR = {
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32},
    "num_frames": 4,
    "sampler": "ego4d_hands",
    "sampler_kwargs": {"seconds": 1},
    "resize_method": "cv2_linear",
}
TINY = [
    *(f"model.config.{name}={value}" for name, value in SETTINGS.items()),
    *("model.family=internvideo_mae", "model.size=null", "model.start=null", "model.processor.sampler=ego4d_hands"),
    *("model.processor.sampler_kwargs={seconds: 1}", "model.processor.size={shortest_edge: 32}"),
    *("data.train=hands_train.json", "data.validation=hands_val.json", "training.dataloader_num_workers=0"),
    *("training.fp16=false", "training.per_device_train_batch_size=4", "batch_size=4"),
]


def way(number: int) -> np.ndarray:
    """Return the center of the square in each frame, `(frames, 2)`, x and y in pixels."""
    rng = np.random.default_rng(number)
    start, speed = rng.uniform((20, 16), (44, 32)), rng.uniform(-0.6, 0.6, 2)
    return np.rint(start + speed * np.arange(FRAMES)[:, None])


def write_videos(root: Path, videos: int = 6) -> None:
    """Write `clips/clip-N.mp4`, and hands_train.json, hands_val.json: the square is the left hand, the last third."""
    (root / "clips").mkdir(parents=True, exist_ok=True)
    entries: dict[str, list[dict]] = {"train": [], "val": []}
    for number in range(videos):
        places = way(number)
        write_square(root / f"clips/clip-{number}.mp4", places)
        moments = {
            name: {
                "frame": 1000 + FRAME + STEP * time,
                "clip_frame": FRAME + STEP * time,
                "boxes": [{"left_hand": places[FRAME + STEP * time].tolist()}],
            }
            for time, name in enumerate(TIMES)
        }
        entries["val" if 3 * number >= 2 * videos else "train"].append(clip(number, [moments]))
    for subset, clips in entries.items():
        (root / f"hands_{subset}.json").write_text(json.dumps(document(*clips, split=subset)))


def write_square(path: Path, places: np.ndarray) -> None:
    """Write a video of a white square, without loss."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"qp": "0", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        for x, y in places.astype(int):
            frame = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
            frame[y - SIDE // 2 : y + SIDE // 2, x - SIDE // 2 : x + SIDE // 2] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


def write_predictor(folder: Path, labels: tuple[str, ...] = HAND_LABELS, **changes) -> Path:
    """Write a predictor whose every number is that of its bias, 1, 2, 3, ..."""
    torch.manual_seed(0)
    model = InternVideoMAEForHandPrediction(
        InternVideoMAEConfig(**SETTINGS | {"id2label": dict(enumerate(labels))} | changes)
    )
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.arange(1.0, len(labels) + 1))
    model.save_pretrained(folder)
    InternVideoVideoProcessor(**PROCESSOR).save_pretrained(folder)
    return folder
