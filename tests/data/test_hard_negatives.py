"""Batches of similar captions: content, completeness, resumption."""

import numpy as np
import pytest
from accelerate import Accelerator, skip_first_batches
from torch.utils.data import DataLoader

from internvideo_hf.data.hard_negatives import HardNegativeBatchSampler

SIZE, KINDS, ROWS = 8, 10, 240
VIDEOS = [f"{number // 2}.mp4" for number in range(ROWS)]  # two captions of each
KIND = np.arange(ROWS) // 2 % KINDS
VECTORS = np.eye(KINDS, dtype=np.float32)[KIND]


class Vectors:
    """Embeddings that tell kinds apart and nothing else; it counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> np.ndarray:
        self.calls += 1
        return VECTORS


def sampler(**options) -> HardNegativeBatchSampler:
    return HardNegativeBatchSampler(
        VIDEOS, Vectors(), **{"batch_size": SIZE, "seed": 3, "after": 0, "among": 2} | options
    )


def batches(rows: HardNegativeBatchSampler, epoch: int = 0) -> list[list[int]]:
    rows.set_epoch(epoch)
    return np.array(list(rows)).reshape(-1, SIZE).tolist()


def similar(some: list[list[int]]) -> int:
    """How many batches hold one kind only, or two where one had not enough left."""
    return sum(len(set(KIND[batch])) <= 2 for batch in some)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_every_row_comes_once(share):
    order = sum(batches(sampler(share=share)), [])
    assert sorted(order) == list(range(ROWS))


def test_what_fills_no_batch_is_left_out():
    rows = sampler(batch_size=SIZE + 1)
    order = list(rows)
    assert len(order) == len(rows) == ROWS // (SIZE + 1) * (SIZE + 1)
    assert len(set(order)) == len(order)


def test_an_epoch_may_have_fewer_rows_which_are_others_each_time():
    rows = sampler(rows=100)
    first, second = (sum(batches(rows, epoch), []) for epoch in range(2))
    assert len(rows) == len(first) == len(set(first)) == 96
    assert set(first) != set(second) and set(first) | set(second) <= set(range(ROWS))
    assert len(sampler(rows=10 * ROWS)) == ROWS
    with pytest.raises(ValueError, match="out of 4 rows"):
        sampler(rows=4)


def test_a_share_of_the_batches_holds_similar_captions():
    counts = [similar(batches(sampler(share=0.5, among=1), epoch)) for epoch in range(20)]
    assert 0.3 < np.mean(counts) / (ROWS / SIZE) < 0.6
    assert similar(batches(sampler(share=0.0))) == 0


def test_no_video_comes_twice_in_a_similar_batch():
    rows = sampler(share=0.2)
    of_one_kind = [batch for batch in batches(rows) if len(set(KIND[batch])) == 1]
    assert of_one_kind
    for batch in of_one_kind:
        assert len({VIDEOS[row] for row in batch}) == SIZE


def test_first_epochs_are_drawn_and_ask_for_nothing():
    rows = sampler(share=1.0, after=2)
    assert similar(batches(rows, 1)) == 0 and rows._vectors.calls == 0
    assert similar(batches(rows, 2)) > 0 and rows._vectors.calls == 1


def test_order_depends_on_seed_and_epoch():
    rows = sampler()
    assert batches(rows, 1) == batches(sampler(), 1)
    assert batches(rows, 1) != batches(rows, 2)
    assert batches(rows, 1) != batches(sampler(seed=4), 1)


def test_a_loader_keeps_the_batches_and_goes_on_in_their_middle():
    loader = Accelerator(cpu=True).prepare(DataLoader(range(ROWS), SIZE, sampler=sampler()))
    loader.set_epoch(2)
    found = [batch.tolist() for batch in loader]
    assert found == batches(sampler(), 2)
    rest = skip_first_batches(loader, 5)
    rest.set_epoch(2)
    assert [batch.tolist() for batch in rest] == found[5:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 1.5}, "share=1.5"),
        ({"after": -1}, "after=-1"),
        ({"among": 0}, "among=0"),
        ({"batch_size": 0}, "batches of 0"),
        ({"batch_size": 1000}, "lower it"),
    ],
)
def test_wrong_numbers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sampler(**options)
