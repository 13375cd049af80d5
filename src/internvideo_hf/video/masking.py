"""Masks of masked video modeling: VideoMAE's rules, as pure functions of the token grid.

A rule is called `rule(grid, mask_ratio, generator=...)` and draws the mask of one sample.

- `grid`: tokens of a clip along time, rows and columns, such as (8, 14, 14) for 16 frames of 224 pixels.
- `mask_ratio`: fraction to hide, in [0, 1), rounded down to whole tokens.
- `generator`: source of the draws. The originals draw from `numpy.random`: a RandomState with the same seed replays
  them, also those that draw the masks of a whole batch at once.
- Returns bool, shape (t * h * w,), True = hidden, in the order of the tokens (time slowest, then row, then column).
  Every draw of one rule hides the same number of tokens, so masks can be stacked.
- Raises ValueError for a grid or ratio out of range, or a generator of an unknown kind.

A repeated sample gets a mask of its own. `MASKS` names the rules for configs. Source of all: VideoMAE pre-training
(`masking_generator`, golden case vm_masks).
"""

from collections.abc import Callable

import numpy as np

from internvideo_hf.video.randomness import Generator, draw_integer, draw_normals, draw_permutation

LOWEST_VISIBLE_RATIO = 0.05
"""Fraction of a frame's tokens that the progressive rules approach where they hide most."""

_CELL = 4
"""Tokens of the running cell, 2 x 2."""


def _check(grid: tuple[int, int, int], mask_ratio: float) -> None:
    if len(grid) != 3 or not all(isinstance(side, int | np.integer) and side >= 1 for side in grid):
        raise ValueError(
            f"grid: got {grid}, expected (frames, rows, columns) of tokens, each at least 1; divide the clip by the "
            "tubelet and the patch size"
        )
    if not 0 <= mask_ratio < 1:
        raise ValueError(f"mask_ratio: got {mask_ratio}, expected a fraction in [0, 1); leave some tokens visible")


def _shuffled(num_tokens: int, mask_ratio: float, generator: Generator) -> np.ndarray:
    num_hidden = int(mask_ratio * num_tokens)
    # The original shuffles a vector whose first entries are the visible ones.
    return draw_permutation(generator, num_tokens) >= num_tokens - num_hidden


def _ranks(num_tokens: int, generator: Generator) -> np.ndarray:
    """Rank each token among normal draws, 0 for the largest."""
    return np.argsort(np.argsort(-draw_normals(generator, num_tokens)))


def tube(grid: tuple[int, int, int], mask_ratio: float, *, generator: Generator) -> np.ndarray:
    """Hide the same places in every frame, so that a token cannot be copied from its neighbor in time.

    Hides t * int(mask_ratio * h * w) tokens: 1408 of 1568 for a grid of (8, 14, 14) and a ratio of 0.9. Draws one
    shuffle of a frame's places. The rule of every released pre-training, there `t_consist`. Source: VideoMAE
    (arXiv:2203.12602), section 3.3.
    """
    _check(grid, mask_ratio)
    frames, height, width = grid
    return np.tile(_shuffled(height * width, mask_ratio, generator), frames)


def random(grid: tuple[int, int, int], mask_ratio: float, *, generator: Generator) -> np.ndarray:
    """Hide int(mask_ratio * t * h * w) tokens anywhere in space and time, by one shuffle of all places.

    Source: VideoMAE (arXiv:2203.12602), section 4.2, ablation of the masking strategy.
    """
    _check(grid, mask_ratio)
    return _shuffled(int(np.prod(grid)), mask_ratio, generator)


def _nested(num_kept: np.ndarray, num_tokens: int, generator: Generator) -> np.ndarray:
    """Hide frames so that their visible places contain each other, `num_kept` of them in each frame.

    The original also hides the last place that it means to keep, so a frame shows one token less (released). Where
    there is none to keep it stops with an error, and here the frame is hidden.
    """
    ranks = _ranks(num_tokens, generator)
    return (ranks >= num_kept[:, None] - 1).reshape(-1)


def progressive(grid: tuple[int, int, int], mask_ratio: float, *, generator: Generator) -> np.ndarray:
    """Hide more with every frame: from `mask_ratio` in the first to 0.95 in the last.

    Visible tokens of a frame: the whole part of a straight line from int((1 - mask_ratio) * h * w) to
    int(0.05 * h * w), less one. The visible places of a frame are among those of the frames that show more. Draws one
    normal value for each place of a frame. Original name: `t_progressive`.
    """
    _check(grid, mask_ratio)
    frames, height, width = grid
    return _nested(_line(frames, height * width, mask_ratio), height * width, generator)


def center_progressive(grid: tuple[int, int, int], mask_ratio: float, *, generator: Generator) -> np.ndarray:
    """Hide least in the middle of the clip: 0.95 in the first and last frame, `mask_ratio` in the two central ones.

    The second half is the line of `progressive`, the first half its mirror image; the number of frames must be even.
    Original name: `t_center_prog`.
    """
    _check(grid, mask_ratio)
    frames, height, width = grid
    if frames % 2:
        raise ValueError(f"grid: got {frames} frames of tokens, expected an even number; choose another mask")
    falling = _line(frames // 2, height * width, mask_ratio)
    return _nested(np.concatenate([falling[::-1], falling]), height * width, generator)


def _line(num_steps: int, num_tokens: int, mask_ratio: float) -> np.ndarray:
    most, fewest = int((1 - mask_ratio) * num_tokens), int(LOWEST_VISIBLE_RATIO * num_tokens)
    return np.linspace(most, fewest, num_steps).astype(np.int64)


def running_cell(grid: tuple[int, int, int], mask_ratio: float, *, generator: Generator) -> np.ndarray:
    """Hide int(4 * mask_ratio) tokens of every 2 x 2 cell; the hidden ones move one place on with every frame.

    Needs even numbers of rows and columns, and a ratio of 0.25 or more. Draws one place to start from, of four. Used
    as mask of the decoder too, where True = not reconstructed. Source: MAR (arXiv:2207.11660); as mask of the decoder
    VideoMAE V2 (arXiv:2303.16727).
    """
    _check(grid, mask_ratio)
    frames, height, width = grid
    if height % 2 or width % 2:
        raise ValueError(
            f"grid: got {height} x {width} tokens (rows x columns), expected even numbers; choose another mask"
        )
    num_hidden = int(_CELL * mask_ratio)
    if num_hidden < 1:
        raise ValueError(f"mask_ratio: got {mask_ratio}, expected at least 0.25; a cell of four hides one or more")
    start = draw_integer(generator, 0, _CELL)
    # The original moves the cell on before it reads the first frame, hence the + 1.
    steps = start + 1 + np.arange(frames)[:, None] + np.arange(_CELL)
    cells = (steps % _CELL < num_hidden).reshape(frames, 2, 2)
    return np.tile(cells, (1, height // 2, width // 2)).reshape(-1)


def random_decode(grid: tuple[int, int, int], mask_ratio: float, *, generator: Generator) -> np.ndarray:
    """Hide int(mask_ratio * t * h * w) tokens anywhere, as `random`, but drawn as the original draws decoder masks.

    Draws one normal value for each token; the largest are hidden, which the decoder does not reconstruct.
    """
    _check(grid, mask_ratio)
    num_tokens = int(np.prod(grid))
    return _ranks(num_tokens, generator) < int(mask_ratio * num_tokens)


MASKS: dict[str, Callable[..., np.ndarray]] = {
    "tube": tube,
    "random": random,
    "progressive": progressive,
    "center_progressive": center_progressive,
    "running_cell": running_cell,
    "random_decode": random_decode,
}
"""Name in a config -> function (grid, mask_ratio, *, generator) -> mask. tube: every released pre-training."""
