"""Real inputs of a model, from drawn clips and their captions, in the frames and the size of an export."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from internvideo_hf.data.failures import one_video
from internvideo_hf.data.samples import Row
from internvideo_hf.demo.synthetic import canonical_caption, clip_at, write_clip
from internvideo_hf.inference.runner import VideoProcessor, read_views
from internvideo_hf.processing.processing import InternVideoProcessor
from internvideo_hf.video.errors import VideoDecodeError

SAMPLES = 3
"""Drawn clips of the comparison with torch, and their captions; or features."""


def fix_size(processor: VideoProcessor, frames: int | None, size: int | None) -> None:
    """Set the frames and the size of a processor for an export.

    Args:
        processor: of the model; changed in place.
        frames: of a clip; as configured if None.
        size: height and width in pixels; as configured if None. What is cropped is resized before in proportion.

    Raises:
        ValueError: if the frames differ in size from video to video, or a fused model is asked for another size.
    """
    branches = list(processor.branches.values())
    if len(branches) > 1 and (frames is not None or size is not None):
        raise ValueError("A fused model takes the frames and sizes of its encoders. Leave out --frames and --size.")
    for branch in branches:
        options: dict[str, Any] = {} if frames is None else {"num_frames": frames}
        if size is not None and branch.do_center_crop and "shortest_edge" in (edges := dict(branch.size)):
            ratio = size / branch.crop_size["height"]
            options["size"] = {"shortest_edge": round(edges["shortest_edge"] * ratio)}
        elif size is not None:
            options["size"] = {"height": size, "width": size}
        if size is not None and branch.do_center_crop:
            options["crop_size"] = {"height": size, "width": size}
        branch.configure(options)
        shapes = {
            tuple(_process(branch, np.zeros((2, *sides, 3), np.uint8)).shape) for sides in ((90, 160), (160, 90))
        }
        if len(shapes) > 1:
            raise ValueError(
                "The model's processor leaves each video its own width and height, and an exported model takes one "
                "size. Choose it by --size, such as 224."
            )


def drawn_inputs(
    processor: VideoProcessor, texts: InternVideoProcessor | None
) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
    """Return inputs of drawn clips by name, `(clips, frames, channels, height, width)`, and tokens of their captions.

    Args:
        processor: of videos, after `fix_size`.
        texts: the processor of texts; None for a model without.
    """
    clips = [clip_at("test", number) for number in range(SAMPLES)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.mp4" for number in range(SAMPLES)]
        for clip, path in zip(clips, paths, strict=True):
            write_clip(clip, path)
        views: Mapping[str, torch.Tensor] = processor(  # type: ignore[operator]  # every processor is called so
            videos=[str(path) for path in paths], num_clips=1, num_crops=1, return_tensors="pt"
        )
    found = {name: views[name] for name in processor.branches}
    if texts is None:
        return found, None
    captions = [canonical_caption(clip) for clip in clips]
    return found, texts(text=captions, truncation=True, return_tensors="pt")["input_ids"]


def drawn_features(config: Any, *, is_fixed: bool = False) -> dict[str, torch.Tensor]:
    """Return random features of videos for a head, and their mask: of a long video, of half of it and of one window.

    Args:
        config: of the head.
        is_fixed: the long one is as long as those of training; otherwise longer.
    """
    length = config.padded_length(config.max_sequence_length + (0 if is_fixed else 1))
    lengths = torch.tensor([length, (length + 1) // 2, 1])
    mask = (torch.arange(length) < lengths[:, None]).long()
    features = torch.randn(SAMPLES, length, config.feature_size, generator=torch.Generator().manual_seed(0))
    return {"features": features * mask[..., None], "attention_mask": mask}


def read_clips(
    processor: VideoProcessor,
    rows: Sequence[Row],
    description: str,
    say: Callable[[str], object] = lambda text: None,
) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
    """Read one clip of each video, and pass over the videos that cannot be read.

    Args:
        processor: after `fix_size`.
        rows: see `read_views`.
        description: of the progress bar.
        say: called with a line for each unreadable video.

    Yields:
        The number of a row, and the inputs of the model by name, `(1, frames, channels, height, width)` float32 each.

    Raises:
        ValueError: at the end, if no video can be read.
    """
    failures: list[VideoDecodeError] = []
    for number, row in enumerate(tqdm(rows, desc=description, unit="video", delay=2)):
        try:
            with one_video(str(row["video"])):
                views = read_views(row, processor, 1, 1)
        except VideoDecodeError as error:
            failures.append(error)
            say(f"Left out: {error}")
            continue
        yield number, {name: pixels[:1].float() for name, pixels in views.items()}
    if len(failures) == len(rows):
        raise ValueError(
            f"None of {len(rows)} videos can be read"
            + (f"; the first: {failures[0]}" if failures else ", as there are none. Give others.")
        )


def _process(branch: Any, frames: np.ndarray[Any, Any]) -> torch.Tensor:
    options = {"do_sample_frames": False, "num_clips": 1, "num_crops": 1, "return_tensors": "pt"}
    pixels: torch.Tensor = branch(videos=[frames], **options)["pixel_values_videos"]
    return pixels
