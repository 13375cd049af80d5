"""Several workers on this machine."""

from functools import partial

import pytest
import torch
from data.shard_work import decode_and_name_device

from internvideo_hf.data.executors.local import LocalEngine
from internvideo_hf.data.executors.parts import PartFolder, Shard, cut, run_shards, shard_key


@pytest.mark.slow
def test_workers_have_their_devices_and_decoders(tmp_path):
    engine = LocalEngine(["cpu", "meta"], jobs=4)
    assert (engine.workers, engine.decoders) == (2, 2)
    items = [number for number in range(60) if number not in (3, 5)]
    shards = [Shard(shard_key(shard, 0), shard) for shard in cut(items, str, 4)]
    work = partial(decode_and_name_device, engine=engine)
    found = [part for _, part in run_shards(work, shards, engine, PartFolder(tmp_path))]
    assert torch.cat([part.tensors["numbers"] for part in found]).tolist() == [2 * item for item in items]
    assert {part.notes for part in found} <= {"cpu", "meta"}


def test_no_device_is_refused():
    with pytest.raises(ValueError, match="expected at least one of each"):
        LocalEngine([])
