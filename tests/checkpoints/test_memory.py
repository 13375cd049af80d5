"""Conversion needs about the memory of the file's size: it maps the file and writes tensor by tensor."""

import json
import re
from pathlib import Path

import forks
import pytest
import torch

MANIFEST = Path(__file__).parents[1] / "manifests/InternVideo-MM-B-16.json"
VISION_LAYERS, GLOBAL_BLOCKS, TEXT_LAYERS, VOCABULARY = 3, 2, 2, 8192
LIMIT = 1.3

# The peak of an interpreter that has imported everything, and then converts; in bytes.
PROBE = """
import re, resource, sys
from pathlib import Path
from transformers.utils import logging
from internvideo_hf.checkpoints import convert_checkpoint

def memory(field):
    status = Path("/proc/self/status")
    if not status.exists():  # macOS, where the peak stands for both and is in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * int(re.search(rf"{field}:\\s+(\\d+) kB", status.read_text())[1])

logging.disable_progress_bar()
before = memory("VmRSS")
convert_checkpoint(sys.argv[1], sys.argv[2], dtype=sys.argv[3])
print(memory("VmHWM") - before)
"""


def stays(name: str) -> bool:
    """Whether a smaller model of the same widths has this tensor as well."""
    limits = {
        "clip.visual.transformer.resblocks": VISION_LAYERS,
        "clip.visual.transformer.dec": GLOBAL_BLOCKS,
        "clip.visual.transformer.dpe": GLOBAL_BLOCKS,
        "clip.transformer.resblocks": TEXT_LAYERS,
    }
    match = re.match(r"(.+?)\.(\d+)\.", name)
    return not match or match[1] not in limits or int(match[2]) < limits[match[1]]


@pytest.fixture(scope="module")
def large_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Lightning file of about 180 MB with the released B/16's widths and fewer layers."""
    shapes = {name: shape for name, shape in json.loads(MANIFEST.read_text())["state_dict"].items() if stays(name)}
    shapes["clip.token_embedding.weight"][0] = VOCABULARY
    path = tmp_path_factory.mktemp("large") / "large.ckpt"
    torch.save({"state_dict": {name: torch.full(shape, 0.5) for name, shape in shapes.items()}, "epoch": 1}, path)
    return path


# Another number type needs a second copy of every tensor, one at a time.
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=pytest.mark.slow)])
def test_the_peak_stays_near_the_size_of_the_file(dtype, large_checkpoint, tmp_path):
    result = forks.run(PROBE, large_checkpoint, tmp_path / "out", dtype)
    assert result.returncode == 0, result.stderr
    peak, size = int(result.stdout), large_checkpoint.stat().st_size
    assert 150e6 < size < 200e6
    assert peak <= LIMIT * size, f"{peak / 1e6:.0f} MB for a file of {size / 1e6:.0f} MB"
