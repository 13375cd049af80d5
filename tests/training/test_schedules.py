"""Learning-rate schedules, compared with values worked out by hand."""

import pytest

from internvideo_hf.training.schedules import (
    SCHEDULES,
    cosine_then_step,
    linear_then_cosine,
    one_drop,
    two_drops,
    warmup_cosine,
    warmup_cosine_floored,
    warmup_cosine_of_all,
)


def values(schedule, steps, *args, **options) -> list[float]:
    return [schedule(step, *args, **options) for step in steps]


def test_videomae_warms_up_to_its_last_warm_up_step_and_never_reaches_the_end():
    found = values(linear_then_cosine, range(8), 8, 4, start=0.1, end=0.2, peak=1.0)
    # The cosine of 0, 1/4, 2/4, 3/4 of a half turn.
    assert found == pytest.approx([0.1, 0.4, 0.7, 1.0, 1.0, 0.8828427, 0.6, 0.3171573])


def test_videomae_with_one_warm_up_step_starts_at_the_start():
    assert values(linear_then_cosine, (0, 1), 10, 1, start=0.3) == [0.3, 1.0]


def test_a_weight_decay_may_rise():
    assert values(linear_then_cosine, (0, 5, 10, 12), 10, end=0.5, peak=0.1) == pytest.approx([0.1, 0.3, 0.5, 0.5])


def test_uniformerv2_reaches_the_peak_after_the_warm_up_also_at_fractions_of_an_epoch():
    found = values(warmup_cosine, (0, 2.5, 5, 17.5, 30, 55), 55, 5, start=1e-6, end=1e-6, peak=4e-4)
    # A quarter and a half of the cosine: (2 + sqrt(2)) / 4 and 1/2.
    assert found == pytest.approx([1e-6, 2.005e-4, 4e-4, 3.4156784e-4, 2.005e-4, 1e-6])


def test_viclip_stays_above_its_floor_and_rises_again_behind_the_end():
    found = values(warmup_cosine_floored, (0, 1, 50, 100, 550, 1000, 1450), 1000, 100, peak=2.0, floor=0.02)
    assert found == pytest.approx([0.04, 0.04, 1.0, 2.0, 1.0, 0.04, 1.0])
    assert warmup_cosine_floored(0, 10, 2, start=0.7, end=0.7) == 0.01


def test_retrieval_drops_where_the_warm_up_ends():
    found = values(warmup_cosine_of_all, (0, 1, 2, 10, 20), 20, 2, peak=1.0)
    assert found == pytest.approx([0.0, 0.5, 0.9755283, 0.5, 0.0])


def test_tcanet_rises_along_a_cosine_and_drops_at_the_seventh_of_nine_epochs():
    found = values(cosine_then_step, (0, 5, 10, 69, 70, 90), 90, 10, start=0.0, end=0.1, peak=1.0)
    assert found == pytest.approx([0.0, 0.5, 1.0, 1.0, 0.1, 0.1])
    assert values(cosine_then_step, (2.5,), 90, 10, start=0.2, end=0.1, peak=1.0) == pytest.approx(
        [0.2 + 0.8 * (1 - 0.5**0.5) / 2]
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_impossible_steps_are_refused(name):
    with pytest.raises(ValueError, match="got 10, expected at least 0 and less than total_steps=10"):
        SCHEDULES[name](0, 10, 10, 0.0, 0.0)
    with pytest.raises(ValueError, match="step: got -1"):
        SCHEDULES[name](-1, 10, 2, 0.0, 0.0)


def test_open_set_drops_behind_epochs_20_and_40_of_50():
    per_epoch = 7
    factors = [two_drops(epoch * per_epoch, 50 * per_epoch) for epoch in (0, 19, 20, 39, 40, 49, 50)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.01])
    assert two_drops(20 * per_epoch - 1, 50 * per_epoch) == 1
    assert two_drops(30, 50, peak=2) == pytest.approx(0.2)


def test_dino_warms_up_from_a_thousandth_and_drops_in_the_last_of_twelve_epochs():
    found = values(one_drop, (0, 250, 500, 10_999, 11_000, 12_000), 12_000, 500, start=1e-7, end=7, peak=1e-4)
    assert found == pytest.approx([1e-7, 5.005e-5, 1e-4, 1e-4, 1e-5, 1e-5])
