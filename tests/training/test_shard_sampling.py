"""Shards that each process reads for itself."""

import pytest
import torch
from accelerate.data_loader import IterableDatasetShard

from internvideo_hf.data.samples import SampleSettings
from internvideo_hf.data.shards import ShardDataset
from internvideo_hf.training.shard_sampling import read_own_shards

SETTINGS = SampleSettings(4, "videomae_dense", "finetuning", {}, {"size": 16, "mean": [0.5] * 3, "std": [0.25] * 3})


class Loader:
    def __init__(self, dataset):
        self.dataset = dataset


def shards(**options) -> ShardDataset:
    return ShardDataset(["0.tar", "1.tar", "2.tar"], SETTINGS, **options)


def test_a_dataset_that_is_split_already_is_not_split_again():
    wrapped = IterableDatasetShard(shards(rank=1, world_size=2, repeat=True), num_processes=2, process_index=1)
    read_own_shards(Loader(wrapped), process=1, processes=2)
    assert (wrapped.num_processes, wrapped.process_index) == (1, 0)


@pytest.mark.parametrize("dataset", [shards(), torch.utils.data.TensorDataset(torch.zeros(2)), None])
def test_other_datasets_stay_as_they_are(dataset):
    wrapped = IterableDatasetShard(dataset, num_processes=2, process_index=1)
    read_own_shards(Loader(wrapped), process=1, processes=2)
    assert (wrapped.num_processes, wrapped.process_index) == (2, 1)


@pytest.mark.parametrize(
    ("options", "wrap", "message"),
    [
        ({"rank": 0, "world_size": 3, "repeat": True}, True, "for process 0 of 3, expected 1 of 2"),
        ({"rank": 1, "world_size": 2}, True, "Pass repeat=True, and set max_steps"),
        ({"rank": 1, "world_size": 2, "repeat": True}, False, "dispatch_batches"),
    ],
)
def test_what_would_lose_clips_or_hang_is_refused(options, wrap, message):
    dataset = shards(**options)
    if wrap:
        dataset = IterableDatasetShard(dataset, num_processes=2, process_index=1)
    with pytest.raises(ValueError, match=message):
        read_own_shards(Loader(dataset), process=1, processes=2)
