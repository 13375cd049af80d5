"""ActionFormer's head alone: this package, and a plain reading of its windowed attention, by unfolding.

python benchmarks/actionformer.py [--lengths 2304 50000] [--rounds 3]

The head has the size and the windows of THUMOS-14's, and random weights. Each measurement is a process of its own; the
memory is what its peak adds to that of the loaded model. The plain reading copies the keys and values of the window of
each position, `(length, window, channels)`; its answers are compared with ours before a table is printed. A row of
features stands for 4 frames of a video of 30 frames a second.
"""

import argparse
import json
import subprocess
import sys
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from einops import rearrange
from side_by_side import as_row, environment, peak_memory, timed
from torch import nn

from internvideo_hf import ActionFormerConfig, ActionFormerForTemporalLocalization
from internvideo_hf.models.actionformer.attention_actionformer import ActionFormerAttention

OURS, PLAIN = "this package", "plain reading"
SECONDS = 4 / 30  # of video for each row of features
ALIKE = 400  # positions on which the two are compared


def unfolded(
    self: ActionFormerAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend to a copy of each position's window."""
    window = 2 * self.reach + 1

    def windows(part: torch.Tensor) -> torch.Tensor:
        padded = nn.functional.pad(part, (0, 0, self.reach, self.reach))
        return rearrange(padded.unfold(1, window, 1), "b n (k d) w -> b k n w d", k=self.num_heads)

    query = rearrange(query, "b n (k d) -> b k n d", k=self.num_heads)
    scores = torch.einsum("bknd,bknwd->bknw", query * self.scaling, windows(key))
    seen = nn.functional.pad(mask, (self.reach, self.reach)).unfold(1, window, 1).clone()
    seen[..., self.reach] = True
    probabilities = scores.masked_fill(~seen[:, None], torch.finfo(scores.dtype).min).softmax(dim=-1)
    return rearrange(torch.einsum("bknw,bknwd->bknd", probabilities, windows(value)), "b k n d -> b n k d"), None


def head() -> ActionFormerForTemporalLocalization:
    torch.manual_seed(0)
    return ActionFormerForTemporalLocalization(ActionFormerConfig()).eval()


@torch.no_grad()
def measure(kind: str, length: int) -> dict[str, float]:
    """Return seconds, and the memory that came on top in MB."""
    model, features = head(), torch.randn(1, length, ActionFormerConfig().feature_size)
    times: list[np.ndarray] = []
    if kind == PLAIN:
        ActionFormerAttention._attend_in_blocks = unfolded  # type: ignore[method-assign]
    model(features[:, :ALIKE])  # loads the kernels
    memory = peak_memory(lambda: times.append(timed(lambda: model(features))))
    return {"seconds": float(times[0][0]), "memory": memory / 1e6}


@torch.no_grad()
def check() -> None:
    """Refuse to compare what computes different things."""
    model, features = head(), torch.randn(1, ALIKE, ActionFormerConfig().feature_size)
    ours = model(features)
    with patch.object(ActionFormerAttention, "_attend_in_blocks", unfolded):
        plain = model(features)
    for one, other in zip(ours.logits, plain.logits, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[2304, 50000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child[0], int(options.child[1]))))
        return
    check()
    print(environment())
    print(as_row("rows", "minutes of video", "", "minutes a second", "memory, MB", "ratio of times"))
    print(as_row("---:", "---:", "---", "---:", "---:", "---:"))
    for length in options.lengths:
        found: dict[str, list[dict[str, float]]] = {OURS: [], PLAIN: []}
        for number in range(2 * options.rounds):
            kind = (OURS, PLAIN)[(number + number // 2) % 2]
            child = [sys.executable, __file__, "--child", kind, str(length)]
            done = subprocess.run(child, capture_output=True, text=True, check=True)
            found[kind].append(json.loads(done.stdout))
        minutes = length * SECONDS / 60
        times = {kind: float(np.median([one["seconds"] for one in runs])) for kind, runs in found.items()}
        for kind, runs in found.items():
            memory = np.median([one["memory"] for one in runs])
            ratio = f"{times[kind] / times[OURS]:.2f}"
            rate = f"{minutes / times[kind]:.1f}"
            print(as_row(f"{length:,}", f"{minutes:.0f}", kind, rate, f"{memory:,.0f}", ratio))


if __name__ == "__main__":
    main()
