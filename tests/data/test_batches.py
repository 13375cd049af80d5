"""Batches of similar captions: what is in them, that nothing is lost, and that a run can go on from the middle."""

import numpy as np
import pytest
from accelerate import Accelerator, skip_first_batches
from torch.utils.data import DataLoader

from internvideo_hf.data.batches import SimilarBatchSampler

SIZE = 8
COLOURS, SHAPES, BACKGROUNDS = ("red", "green", "blue"), ("heart", "moon", "arrow", "cross"), ("plain", "dotted")
CAPTIONS = [
    f"a {colour} {shape} on a {background} background {extra}"
    for colour in COLOURS
    for shape in SHAPES
    for background in BACKGROUNDS
    for extra in ("", "there")
] * 5
VIDEOS = [f"{number // 2}.mp4" for number in range(len(CAPTIONS))]  # two captions of each


def sampler(**options) -> SimilarBatchSampler:
    return SimilarBatchSampler(CAPTIONS, VIDEOS, **{"batch_size": SIZE, "seed": 3} | options)


def batches(rows: SimilarBatchSampler, epoch: int = 0) -> list[list[int]]:
    rows.set_epoch(epoch)
    return np.array(list(rows)).reshape(-1, SIZE).tolist()


def distinct_words(batch: list[int]) -> int:
    return len({word for row in batch for word in CAPTIONS[row].split()})


def mean_words(some: list[list[int]]) -> float:
    return np.mean([distinct_words(batch) for batch in some])


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_every_row_comes_once(share):
    order = sum(batches(sampler(share=share)), [])
    assert sorted(order) == list(range(len(CAPTIONS)))


def test_what_fills_no_batch_is_left_out():
    rows = sampler(batch_size=SIZE + 1)
    order = list(rows)
    assert len(order) == len(rows) == len(CAPTIONS) // (SIZE + 1) * (SIZE + 1)
    assert len(set(order)) == len(order)


def test_captions_of_a_batch_are_alike():
    drawn, alike = batches(sampler(share=0.0)), batches(sampler(share=0.3))
    assert mean_words(sorted(alike, key=distinct_words)[:6]) < mean_words(drawn) - 1.5


def test_no_video_comes_twice_in_a_similar_batch():
    for batch in batches(sampler(share=1.0))[:4]:  # while there are others
        assert len({VIDEOS[row] for row in batch}) == SIZE


def test_first_epochs_are_drawn():
    rows, half = sampler(share=1.0, after=1.5), len(CAPTIONS) // SIZE // 2
    assert batches(rows, 0) != batches(rows, 1)
    assert mean_words(batches(rows, 0)) > mean_words(batches(rows, 2)) + 0.5
    later = batches(rows, 1)
    assert mean_words(later[:half]) > mean_words(later[half:]) + 0.5


def test_order_depends_on_seed_and_epoch_alone():
    rows = sampler()
    assert batches(rows, 1) == batches(sampler(), 1)
    assert batches(rows, 1) != batches(rows, 2)
    assert batches(rows, 1) != batches(sampler(seed=4), 1)


def test_a_loader_keeps_the_batches_and_goes_on_in_their_middle():
    rows = sampler()
    loader = Accelerator(cpu=True).prepare(DataLoader(range(len(CAPTIONS)), SIZE, sampler=rows))
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
        ({"batch_size": 0}, "batches of 0"),
        ({"batch_size": 1000}, "lower it"),
        ({"videos": ["a"]}, "1 videos"),
    ],
)
def test_wrong_numbers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SimilarBatchSampler(**{"captions": CAPTIONS, "videos": VIDEOS, "batch_size": SIZE} | options)
