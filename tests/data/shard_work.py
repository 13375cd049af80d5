"""Work on shards, importable by spawned processes."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import torch

from internvideo_hf.data.executors.local import LocalEngine
from internvideo_hf.data.executors.parts import Part


def double_all(items: Sequence[int]) -> Part:
    """Twice the items."""
    return Part({"numbers": 2 * torch.tensor(items)}, None)


def kill_on_thirteen(items: Sequence[int], mark: Path | None) -> Part:
    """Twice the items; 13 kills the worker, with a mark only the first time."""
    if 13 in items and (mark is None or not mark.exists()):
        if mark is not None:
            mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return double_all(items)


def decode_and_name_device(items: Sequence[int], engine: LocalEngine) -> Part:
    """Twice the items by decoding processes of the worker, and the worker's device."""
    from data.crash import double

    doubled = [result for _, result in engine.executor().map_ordered(double, items, engine.decoders)]
    return Part({"numbers": torch.tensor(doubled)}, engine.device())
