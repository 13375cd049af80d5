"""Compare the forward pass of two revisions of the package, in alternating processes.

git worktree add ../before REVISION
python benchmarks/revisions.py ../before/src src
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from side_by_side import as_row, environment

# Runs in its own process with one revision's package on the path; prints the best time of four, in seconds.
MEASURE = """
import json, sys, time
import torch
import internvideo_hf as package

torch.set_num_threads(2)
torch.manual_seed(0)
if sys.argv[1] == "VideoMAE-B":
    config, frames = package.InternVideoMAEConfig.from_size("base"), 16
    model = package.InternVideoMAEModel(config)
else:
    config = package.UniFormerV2Config.from_size("base", "scene")
    model, frames = package.UniFormerV2Model(config), config.num_frames
video, times = torch.randn(1, frames, 3, 224, 224), []
with torch.no_grad():
    model.eval()(video)
    for _ in range(4):
        start = time.perf_counter()
        model(video)
        times.append(time.perf_counter() - start)
print(json.dumps(min(times)))
"""


def best_seconds(source: Path, model: str) -> float:
    environ = os.environ | {"PYTHONPATH": str(source.resolve())}
    command = [sys.executable, "-c", MEASURE, model]
    output = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="the src folder of the earlier revision")
    parser.add_argument("after", type=Path, help="the src folder of the later revision")
    parser.add_argument("--rounds", type=int, default=4, help="processes per revision and model (default: 4)")
    arguments = parser.parse_args()
    print(environment(), end="\n\n")
    print(as_row("forward, batch 1", "before, s", "after, s", "after / before"))
    print("|---|---:|---:|---:|")
    for model in ("VideoMAE-B", "UniFormerV2-B"):
        pairs = []
        for i in range(arguments.rounds):
            order = (arguments.before, arguments.after) if i % 2 == 0 else (arguments.after, arguments.before)
            seconds = {source: best_seconds(source, model) for source in order}
            pairs.append((seconds[arguments.before], seconds[arguments.after]))
        before, after = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(as_row(model, f"{before:.3f}", f"{after:.3f}", f"{statistics.median(b / a for a, b in pairs):.3f}"))


if __name__ == "__main__":
    main()
