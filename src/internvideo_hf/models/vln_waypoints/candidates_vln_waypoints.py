"""Places to go to, from the heatmap of the predictor of waypoints."""

import math
from typing import NamedTuple

import torch

from internvideo_hf.models.vln_waypoints.configuration_vln_waypoints import VLNWaypointsConfig


class Candidates(NamedTuple):
    """Places that an agent can go to; padding stands at the end.

    Attributes:
        views: the view that each lies in, `(batch, candidates)`, int64.
        angles: `(batch, candidates)`, float32, radians to the left.
        distances: `(batch, candidates)`, float32, meters.
        mask: `(batch, candidates)`, False on padding.
    """

    views: torch.Tensor
    angles: torch.Tensor
    distances: torch.Tensor
    mask: torch.Tensor


def suppress_heatmap(logits: torch.Tensor, config: VLNWaypointsConfig) -> torch.Tensor:
    """Keep the most probable places, each of which suppresses those around it, as in the original.

    Its rules are kept, odd as they are. Rows are wrapped by one at either end, and a place that is found in such a row
    is lost, so that there may be fewer than `max_candidates`, and two across the seam may be close. The window of
    suppressed angles is shifted by the fraction of a row that the column is of all columns. Distances are circular
    to one side.

    Args:
        logits: `(batch, num_angles, num_distances)`.
        config: of the model.

    Returns:
        Probabilities of the same shape, 0 where there is no place.

    Raises:
        ValueError: if the shape does not fit the model.
    """
    if logits.ndim != 3 or tuple(logits.shape[1:]) != (config.num_angles, config.num_distances):
        raise ValueError(
            f"The heatmap has the shape {tuple(logits.shape)}, expected (batch, {config.num_angles}, "
            f"{config.num_distances})."
        )
    scores = logits.float().flatten(1).softmax(dim=1).view_as(logits)
    scores = torch.cat([scores[:, -1:], scores, scores[:, :1]], dim=1)
    columns = torch.arange(config.num_distances, device=logits.device)
    rows = torch.arange(scores.shape[1], device=logits.device)
    left, kept = scores.clone(), torch.zeros_like(scores)
    for _ in range(config.max_candidates):
        place = left.flatten(1).argmax(dim=1, keepdim=True)
        kept.flatten(1).scatter_(1, place, scores.flatten(1).gather(1, place))
        across = columns - place % config.num_distances
        near = torch.minimum(across.abs(), (across + config.num_distances).abs()) <= config.suppressed_distances
        along = (rows - place / config.num_distances).abs() <= config.suppressed_angles
        left = left * ~(along[:, :, None] & near[:, None])
    return kept[:, 1:-1]


def candidates_of(kept: torch.Tensor, config: VLNWaypointsConfig) -> Candidates:
    """Return the places of a suppressed heatmap, in the order of its rows and columns.

    Args:
        kept: of `suppress_heatmap`.
        config: of the model.
    """
    places = [cells.flatten().nonzero()[:, 0] for cells in kept]
    padded = torch.nn.utils.rnn.pad_sequence(places, batch_first=True, padding_value=-1)
    mask = padded >= 0
    cells = padded.clamp(min=0)
    return _candidates(cells // config.num_distances, cells % config.num_distances, mask, config)


def sample_candidates(
    logits: torch.Tensor,
    candidates: Candidates,
    config: VLNWaypointsConfig,
    generator: torch.Generator | None = None,
    as_published: bool = False,
) -> Candidates:
    """Move each place to another in the sector of its view, by the probabilities of the heatmap; for training.

    Args:
        logits: `(batch, num_angles, num_distances)`.
        candidates: of `candidates_of`.
        config: of the model.
        generator: of random numbers.
        as_published: repeat a mistake of the original, which turns the places of view 0 half a view to the right.
    """
    width = config.num_angles // config.num_views
    sectors = logits.float().roll(width // 2, dims=1).unflatten(1, (config.num_views, width)).flatten(2)
    right = -candidates.views % config.num_views  # number of the view, counted to the right
    chosen = sectors.gather(1, right[..., None].expand(-1, -1, sectors.shape[-1]))
    cells = torch.multinomial(chosen.softmax(-1).flatten(0, 1), 1, generator=generator).view_as(right)
    first = right * width - width // 2
    if as_published:
        first = first.clamp(min=0)
    rows = (first + cells // config.num_distances) % config.num_angles
    return _candidates(rows, cells % config.num_distances, candidates.mask, config)


def _candidates(
    rows: torch.Tensor, columns: torch.Tensor, mask: torch.Tensor, config: VLNWaypointsConfig
) -> Candidates:
    width = config.num_angles // config.num_views
    right = (rows + width // 2) // width
    return Candidates(
        -right % config.num_views * mask,
        (2 * math.pi - rows * (2 * math.pi / config.num_angles)) * mask,
        (columns + 1) * float(config.distance_step) * mask,
        mask,
    )
