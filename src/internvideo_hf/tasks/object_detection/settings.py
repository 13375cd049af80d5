"""What training and evaluation of detectors share: which frames and which boxes count."""

from collections.abc import Sequence

import torch

from internvideo_hf.inference.objects import Objects
from internvideo_hf.recipes.reading import RecipeError
from internvideo_hf.tasks.object_detection.annotations import MOMENTS
from internvideo_hf.tasks.object_detection.metrics import MAX_BOXES
from internvideo_hf.tasks.protocol import FrameData
from internvideo_hf.utils.names import check_name


def check_frames(data: FrameData) -> None:
    """Refuse settings of frames that make no sense.

    Args:
        data: of a recipe or a protocol.

    Raises:
        RecipeError: naming the setting.
    """
    if not data.moments:
        raise RecipeError(f"data.frames.moments is empty, expected some of {', '.join(MOMENTS)}.")
    for moment in data.moments:
        check_name(moment, MOMENTS, "data.frames.moments", RecipeError)
    edges = data.shortest_edge
    if edges is not None and not (len(edges) == 2 and 0 < edges[0] <= edges[1] <= data.longest_edge):
        raise RecipeError(
            f"data.frames.shortest_edge is {edges}, expected the least and the largest length in pixels, up to "
            f"longest_edge={data.longest_edge}."
        )
    if not 0 <= data.flip <= 1:
        raise RecipeError(f"data.frames.flip is {data.flip}, expected a probability from 0 to 1.")


def boxes_in_pixels(found: Objects, counted: Sequence[int] | None, width: float, height: float) -> torch.Tensor:
    """Return the best boxes of a frame, cut to it: left, top, width, height in pixels and score, `(n, 5)` float32.

    Args:
        found: in the frame.
        counted: numbers of the classes that count; None for all.
        width: of the frame as annotated, pixels.
        height: of the frame as annotated, pixels.
    """
    boxes, scores = found.boxes, found.scores
    if counted is not None:
        of_class = torch.isin(found.labels, torch.tensor(list(counted)))
        boxes, scores = boxes[of_class], scores[of_class]
    corners = boxes[:MAX_BOXES].clamp(0, 1) * torch.tensor([width, height, width, height])
    return torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2], scores[:MAX_BOXES, None]], dim=1)
