"""Settings of small samples and rows of small videos, for the tests of this folder."""

from pathlib import Path

from torch.utils.data import DataLoader
from video.clips import write_video

from internvideo_hf.data.collation import VideoCollator
from internvideo_hf.data.samples import SampleSettings

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PIXELS = {"size": 16, **IMAGENET}


def settings(**changes) -> SampleSettings:
    """Fine-tuning on 4 frames of 16 x 16."""
    chosen = {"num_frames": 4, "sampler": "videomae_dense_train", "view": "finetuning", "view_options": PIXELS}
    return SampleSettings(**chosen | {"sampler_options": {"sampling_rate": 2}} | changes)


def write_videos(folder: Path, count: int = 6) -> list[dict]:
    """Write videos of different lengths, and return their rows."""
    return [
        {"video": str(write_video(folder / f"{number}.mp4", 20 + 4 * number, size=(24, 32))), "label": number}
        for number in range(count)
    ]


def batches(dataset, workers: int = 0, **options) -> list[dict]:
    collate = VideoCollator(mixup={"num_labels": 6}) if options.pop("mix", False) else VideoCollator()
    loader = iter(DataLoader(dataset, 3, collate_fn=collate, num_workers=workers, **options))
    try:
        return list(loader)
    finally:
        if workers:  # torch waits 5 s for a worker if an error leaves it to a garbage collection
            loader._shutdown_workers()
