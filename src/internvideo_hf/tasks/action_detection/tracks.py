"""Tracks: boxes of one person in successive key frames get one number."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

MIN_IOU = 0.3
"""Least overlap of a person's boxes in two key frames, IoU in 0-1."""
MAX_GAP = 2
"""Key frames in a row that a person may be missing from."""


def link_boxes(frames: Sequence[Tensor], min_iou: float = MIN_IOU, max_gap: int = MAX_GAP) -> list[Tensor]:
    """Assign numbers to the boxes of key frames so that a person keeps a number.

    A box takes the number of the box before it that it overlaps most, the pair of the highest IoU first; of equal
    ones that of the lower number. The others get new numbers in their order.

    Args:
        frames: boxes of each key frame, `(n, 4)`, xyxy in any unit.
        min_iou: see `MIN_IOU`.
        max_gap: see `MAX_GAP`.

    Returns:
        Numbers from 1 for the boxes of each key frame, int64, `(n,)`.
    """
    found: list[Tensor] = []
    last: dict[int, tuple[int, Tensor]] = {}  # track -> its last key frame and box
    count = 0
    for position, boxes in enumerate(frames):
        last = {track: seen for track, seen in last.items() if position - seen[0] <= max_gap + 1}
        open_tracks = sorted(last)
        numbers = torch.zeros(len(boxes), dtype=torch.int64)
        if open_tracks and len(boxes):
            overlap = box_iou(torch.stack([last[track][1] for track in open_tracks]), boxes)
            for pair in overlap.flatten().argsort(descending=True, stable=True).tolist():
                row, column = divmod(pair, len(boxes))
                if overlap[row, column] < min_iou:
                    break
                if numbers[column] == 0 and open_tracks[row] not in numbers:
                    numbers[column] = open_tracks[row]
        for column in (numbers == 0).nonzero()[:, 0].tolist():
            count += 1
            numbers[column] = count
        last |= {track: (position, box) for track, box in zip(numbers.tolist(), boxes, strict=True)}
        found.append(numbers)
    return found
