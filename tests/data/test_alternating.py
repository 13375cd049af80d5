"""Videos and images by turns: the kinds, sizes and rows of the batches, in one process and in several."""

from itertools import chain

import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler

from internvideo_hf.data.alternating import AlternatingSampler, VideosAndImages


def steps_of(sampler: AlternatingSampler, size: int) -> list[list]:
    order = list(sampler)
    return [order[start : start + size] for start in range(0, len(order), size)]


def kinds(step: list) -> set[str]:
    return {"images" if isinstance(index, tuple) else "video" for index in step}


def test_even_steps_hold_videos_and_odd_ones_so_many_times_the_images():
    sampler = AlternatingSampler(20, 100, step_size=4, images_per_video=3)
    steps = steps_of(sampler, 4)
    assert len(sampler) == 40 and len(steps) == 10
    assert [kinds(step) for step in steps] == [{"video"}, {"images"}] * 5
    videos, images = list(chain(*steps[::2])), list(chain(*chain(*steps[1::2])))
    assert sorted(videos) == list(range(20))
    assert len(images) == len(set(images)) == 60 and set(images) <= set(range(100))


@pytest.mark.parametrize(("videos", "images", "pairs"), [(9, 100, 2), (100, 9, 2), (4, 4, 1)])
def test_an_epoch_ends_with_the_shorter_list(videos, images, pairs):
    assert len(AlternatingSampler(videos, images, step_size=4)) == pairs * 8


def test_epochs_and_seeds_draw_anew_and_the_same_ones_the_same():
    def order(seed, epoch):
        sampler = AlternatingSampler(8, 50, step_size=4, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    seen = set(chain(*chain(index for epoch in range(40) for index in order(0, epoch) if isinstance(index, tuple))))
    assert seen == set(range(50))  # though an epoch takes eight images


@pytest.mark.parametrize("accumulated", [1, 2])
def test_all_processes_see_one_kind_in_a_step_and_together_the_rows_of_one_process(accumulated):
    per_device, processes = 2, 2
    step_size = per_device * processes * accumulated
    sampler = AlternatingSampler(17, 40, step_size=step_size, images_per_video=2)
    whole = steps_of(sampler, step_size)
    batches = BatchSampler(sampler, per_device, drop_last=False)
    shards = [list(BatchSamplerShard(batches, processes, rank)) for rank in range(processes)]
    assert len(shards[0]) == len(shards[1]) == len(whole) * accumulated
    for number, step in enumerate(whole):
        parts = [shard[number * accumulated : (number + 1) * accumulated] for shard in shards]
        assert all(kinds(batch) == kinds(step) for part in parts for batch in part)
        assert sorted(chain(*chain(*parts))) == sorted(step)


@pytest.mark.parametrize(
    ("videos", "images", "per_video", "words"),
    [(3, 100, 1, "3 videos and 100 images"), (100, 7, 2, "4 videos and 8 images"), (9, 9, 0, "at least 1")],
)
def test_lists_without_a_full_step_are_refused(videos, images, per_video, words):
    with pytest.raises(ValueError, match=words):
        AlternatingSampler(videos, images, step_size=4, images_per_video=per_video)


def test_a_tuple_of_indices_means_images():
    both = VideosAndImages("abc", "xyz")
    assert both[1] == "b" and both[(2, 0)] == ["z", "x"] and len(both) == 3
