"""Training in several processes, each of which reads its own shards."""

from typing import Any

from internvideo_hf.data.shards import ShardDataset


def read_own_shards(loader: Any, process: int, processes: int) -> None:
    """Stop Accelerate from splitting a `ShardDataset` that is already split over the processes.

    Accelerate lets one process read a dataset without a length for all, or lets every process read all of it and drop
    the samples of the others. With a part of the shards in each process, both would lose samples.

    Args:
        loader: as Accelerate prepared it; left unchanged for other datasets.
        process: number of this process, in [0, processes).
        processes: number of processes.

    Raises:
        ValueError: if the dataset is split in another way, ends, or is read by one process for all.
    """
    from accelerate.data_loader import IterableDatasetShard  # only training needs accelerate

    wrapped = getattr(loader, "dataset", None)
    dataset = wrapped.dataset if isinstance(wrapped, IterableDatasetShard) else wrapped
    if not isinstance(dataset, ShardDataset) or dataset.world_size == 1:
        return
    if (dataset.rank, dataset.world_size) != (process, processes):
        raise ValueError(
            f"The dataset is for process {dataset.rank} of {dataset.world_size}, expected {process} of {processes}. "
            "Pass rank=args.process_index, world_size=args.world_size."
        )
    if not dataset.repeat:
        raise ValueError(
            "The ShardDataset ends, at different steps in different processes: those with clips left would wait for "
            "the others forever. Pass repeat=True, and set max_steps."
        )
    if not isinstance(wrapped, IterableDatasetShard):
        raise ValueError(
            "The first process would read its shards for all, and no process the others: pass "
            "accelerator_config={'dispatch_batches': False} to the training arguments."
        )
    wrapped.num_processes, wrapped.process_index = 1, 0
