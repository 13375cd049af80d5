"""Training on several processes that each read shards of their own."""

from typing import Any

from internvideo_hf.data.shards import ShardDataset


def read_own_shards(loader: Any, process: int, processes: int) -> None:
    """Have Accelerate leave a `ShardDataset` alone that is split over the processes already.

    Of a dataset without a length Accelerate has one process read for all, or all of them read everything and drop what
    is others'. Done to a share, either would lose the other shares.

    Args:
        loader: as Accelerate prepared it; of any other dataset it is left as it is.
        process: number of this process, in [0, processes).
        processes: how many train together.

    Raises:
        ValueError: if the dataset is split in another way, ends, or is read by one process for all.
    """
    from accelerate.data_loader import IterableDatasetShard  # which only training needs

    share = getattr(loader, "dataset", None)
    dataset = share.dataset if isinstance(share, IterableDatasetShard) else share
    if not isinstance(dataset, ShardDataset) or dataset.world_size == 1:
        return
    if (dataset.rank, dataset.world_size) != (process, processes):
        raise ValueError(
            f"The ShardDataset holds share {dataset.rank} of {dataset.world_size}, expected {process} of {processes}: "
            "pass rank=args.process_index, world_size=args.world_size."
        )
    if not dataset.repeat:
        raise ValueError(
            "The ShardDataset ends, and the processes' shares are not of one length: those that still have clips "
            "would wait for the others forever. Pass repeat=True, and say how long to train by max_steps."
        )
    if not isinstance(share, IterableDatasetShard):
        raise ValueError(
            "The first process would read its share for all, and nobody the others: pass "
            "accelerator_config={'dispatch_batches': False} to the training arguments."
        )
    share.num_processes, share.process_index = 1, 0
