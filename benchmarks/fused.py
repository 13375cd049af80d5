"""Cost of the fused model relative to its two encoders: one forward pass of each.

    python benchmarks/fused.py [--rounds 9] [--quick]

VideoMAE-B at 16 x 224 x 224 and UniFormerV2-B at 8 x 224 x 224, in float32 on two threads of one process, with open
gates. Variants alternate; the ratio is the median of the ratios within a round.
"""

import argparse
from functools import partial

import numpy as np
from side_by_side import as_row, environment, in_turns, timed  # sets what torch reads

# isort: split
import torch

from internvideo_hf.models.internvideo.configuration_internvideo import InternVideoConfig
from internvideo_hf.models.internvideo.modeling_internvideo import InternVideoForVideoClassification

QUICK = {
    "internvideo_mae_config": {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3, "image_size": 64},
    "uniformerv2_config": {
        "hidden_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "image_size": 64,
        "global_layers": [0, 1, 2, 3],
    },
}


@torch.no_grad()
def measure(quick: bool, batch: int, rounds: int) -> str:
    """Return a row: seconds of each encoder and of the fused model, and its ratio to their sum."""
    torch.manual_seed(0)
    model = InternVideoForVideoClassification(InternVideoConfig(**QUICK if quick else {}, num_labels=400)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("attention_gate", "mlp_gate")):
            parameter.fill_(0.5)
    mae, uniformerv2 = model.internvideo.internvideo_mae, model.internvideo.uniformerv2
    clips = [
        torch.randn(batch, config.num_frames, 3, config.image_size, config.image_size)
        for config in (mae.config, uniformerv2.config)
    ]
    calls = {
        "VideoMAE": partial(mae, clips[0]),
        "UniFormerV2": partial(uniformerv2, clips[1]),
        "fused": partial(model, *clips),
    }
    times = in_turns({name: partial(timed, call) for name, call in calls.items()}, rounds)
    ratio = np.median(times["fused"] / (times["VideoMAE"] + times["UniFormerV2"]), axis=0)
    seconds = [f"{np.median(row[:, 0]):.2f}" for row in times.values()]
    return as_row(f"batch {batch}", *seconds, f"{ratio[0]:.2f}", f"{ratio[1]:.2f}")


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="use a small model, to check that the script runs")
    options = parser.parse_args()
    torch.set_num_threads(2)
    print(environment(), end="\n\n")
    print(as_row("", "VideoMAE, s", "UniFormerV2, s", "fused, s", "ratio to their sum", "ratio, processor time"))
    print(as_row("---", *["---:"] * 5), flush=True)
    for batch in (1, 2):
        print(measure(options.quick, batch, options.rounds), flush=True)


if __name__ == "__main__":
    main()
