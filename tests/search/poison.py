"""Shards of an index whose videos may kill or hang their decoder, importable by workers and their processes."""

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from internvideo_hf.data.executors.parts import Engine, Part
from internvideo_hf.search import sharding
from internvideo_hf.search.clips import Clips, Task, read_clips
from internvideo_hf.search.sharding import ShardSettings, embed_shard


def embed_poisoned(pieces: Sequence[Task], settings: ShardSettings, engine: Engine) -> Part:
    """Decode and embed the pieces of a shard by `read_poisoned`."""
    sharding.read_clips = read_poisoned
    return embed_shard(pieces, settings, engine)


def read_poisoned(task: Task, **options: Any) -> Clips:
    """Read clips; a video whose name says so kills the process, or never ends."""
    if "kills" in task[0]:
        os.kill(os.getpid(), signal.SIGSEGV)
    while "hangs" in task[0]:
        time.sleep(0.1)
    return read_clips(task, **options)
