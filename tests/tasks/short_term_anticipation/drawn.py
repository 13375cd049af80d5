"""Drawn videos in Ego4D's layout: a white hand goes to a green cup or to a red knife, and a tiny model of them."""

import json
from pathlib import Path

import numpy as np
import torch
from tasks.action_detection.drawn import write_frames

from internvideo_hf import (
    InternVideoMAEConfig,
    InternVideoMAEForShortTermAnticipation,
    InternVideoVideoProcessor,
)

HEIGHT, WIDTH, RATE, SIDE, HAND = 32, 48, 10, 10, 4
FRAMES, CONTACT, MOMENTS = 20, 18, (8, 12, 16)
NOUNS, VERBS = ["cup", "knife"], ["take", "cut"]
COLORS = [(0, 255, 0), (255, 0, 0)]
SETTINGS = {
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
    "num_frames": 4,
    "use_mean_pooling": False,
    "roi_aligned": True,
}
PROCESSOR = {
    "size": {"shortest_edge": 32},
    "num_frames": 4,
    "do_center_crop": False,
    "sampler": "videomae_dense",
    "sampler_kwargs": {"sampling_rate": 2},
    "resize_method": "cv2_linear",
    "image_mean": [0.45] * 3,
    "image_std": [0.225] * 3,
}
TINY = [
    *(f"model.config.{name}={value}".lower() for name, value in SETTINGS.items()),
    "model.config.drop_path_rate=0",
    *("model.size=null", "model.start=null", "model.processor.size={shortest_edge: 32}"),
    *("data.interactions.short_sides=[32, 40]", "data.interactions.crop_size=32", "data.interactions.flip=0"),
    *("training.dataloader_num_workers=0", "training.fp16=false", "training.layer_decay=1"),
    *("batch_size=6", "training.per_device_train_batch_size=6", "training.base_batch_size=null"),
]


def draw(target: int, places: list[tuple[int, int]], frame: int) -> np.ndarray:
    """Draw a frame; the hand touches the target at frame CONTACT."""
    picture = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    for (top, left), color in zip(places, COLORS, strict=True):
        picture[top : top + SIDE, left : left + SIDE] = color
    top, left = places[target]
    y, x = top + SIDE // 2 - 2, left + SIDE // 2 - 2
    part = min(frame / CONTACT, 1)
    y, x = round(HEIGHT - HAND + (y - HEIGHT + HAND) * part), round(WIDTH // 2 + (x - WIDTH // 2) * part)
    picture[y : y + HAND, x : x + HAND] = 255
    return picture


def write_ego4d(root: Path, videos: int = 6, version: int = 2, seed: int = 0) -> None:
    """Write `full_scale/`, `annotations/` of training, validation and test, and `object_detections.json`.

    The last third is for validation; the test list has the moments of validation without their objects. Both objects
    are detected, the one that is touched with the higher score.
    """
    rng = np.random.default_rng(seed)
    for folder in ("full_scale", "annotations"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    lists: dict[str, list[dict]] = {"train": [], "val": []}
    detections, sizes = {}, {}
    for number in range(videos):
        video, target = f"video-{number}", number % 2
        places = [(int(rng.integers(0, 12)), int(rng.integers(0, 12))), (int(rng.integers(0, 12)), 36)]
        write_frames(root / f"full_scale/{video}.mp4", [draw(target, places, frame) for frame in range(FRAMES)])
        sizes[video] = {"frame_width": WIDTH, "frame_height": HEIGHT, "fps": RATE}
        boxes = [[left, top, left + SIDE - 1, top + SIDE - 1] for top, left in places]
        for frame in MOMENTS:
            uid = f"{video}_{frame:07d}"
            touched = {"box": boxes[target], "noun_category_id": target, "verb_category_id": target}
            moment = {"uid": uid, "video_uid" if version == 2 else "video_id": video, "frame": frame}
            moment |= {"clip_id": number, "clip_uid": f"clip-{number}", "clip_frame": frame - 2}
            moment["objects"] = [{**touched, "time_to_contact": (CONTACT - frame) / RATE}]
            lists["val" if 3 * number >= 2 * videos else "train"].append(moment)
            detections[uid] = [
                {
                    "box": [edge + 0.25 for edge in box],
                    "score": 0.9 if noun == target else 0.4,
                    "noun_category_id": noun,
                }
                for noun, box in enumerate(boxes)
            ]
    kept = ("uid", "video_uid", "video_id", "frame", "clip_id", "clip_uid", "clip_frame")
    lists["test_unannotated"] = [{key: row[key] for key in kept if key in row} for row in lists["val"]]
    for name, rows in lists.items():
        document = {
            "info": {"version": f"{version}.0", "video_metadata": sizes},
            "noun_categories": [{"id": n, "name": name} for n, name in enumerate(NOUNS)],
            "verb_categories": [{"id": n, "name": name} for n, name in enumerate(VERBS)],
            "annotations": rows,
        }
        (root / f"annotations/fho_sta_{name}.json").write_text(json.dumps(document))
    (root / "object_detections.json").write_text(json.dumps(detections))


def write_model(folder: Path, **changes) -> Path:
    """Write a random model of the verbs."""
    torch.manual_seed(0)
    names = dict(enumerate([*VERBS, "no verb"]))
    config = InternVideoMAEConfig(**SETTINGS | {"id2label": names} | changes)
    InternVideoMAEForShortTermAnticipation(config).save_pretrained(folder)
    InternVideoVideoProcessor(**PROCESSOR).save_pretrained(folder)
    return folder
