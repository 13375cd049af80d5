"""Settings of ActionFormer: what follows from others, and what does not fit."""

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError

from internvideo_hf import ActionFormerConfig


def test_one_window_stands_for_all_levels_and_ranges_double():
    config = ActionFormerConfig()
    assert config.attention_windows == [19] * 6 and config.num_hidden_layers == 7
    assert config.regression_ranges == [[0, 4], [4, 8], [8, 16], [16, 32], [32, 64], [64, 10_000]]
    assert (config.intermediate_size, config.neck_hidden_size, config.head_hidden_size) == (2048, 512, 512)
    assert ActionFormerConfig(num_levels=1).regression_ranges == [[0, 10_000]]


@pytest.mark.parametrize(
    ("data_set", "lengths"),
    # Section 1.4 of the specification: multiples of the largest stride times window, of 2 * (window // 2) positions.
    [
        ("thumos14", {1: 2304, 2304: 2304, 2305: 2880, 2881: 3456, 50_000: 50_112}),
        ("activitynet", {768: 768, 769: 1152}),
        ("hacs", {100: 2304, 2305: 2688}),
        ("fineaction", {192: 192, 193: 288}),
    ],
)
def test_short_sequences_get_one_length_and_long_ones_a_multiple(data_set, lengths):
    config = ActionFormerConfig.from_data_set(data_set)
    assert {length: config.padded_length(length) for length in lengths} == lengths


def test_every_level_halves_the_length_whatever_the_windows():
    config = ActionFormerConfig(num_levels=3, attention_windows=[11, 1, -1], max_sequence_length=24)
    assert [config.padded_length(length) for length in (24, 25, 41)] == [24, 40, 60]


def test_decoding_is_filled_up_and_saved(tmp_path):
    config = ActionFormerConfig(suppression={"sigma": 0.75})
    config.save_pretrained(tmp_path)
    loaded = ActionFormerConfig.from_pretrained(tmp_path)
    assert loaded.suppression == ActionFormerConfig().suppression | {"sigma": 0.75}
    assert loaded.to_dict() == config.to_dict()
    assert ActionFormerConfig().suppression["sigma"] == 0.5, "configurations share no settings"


def test_an_unknown_data_set_is_refused():
    with pytest.raises(ValueError, match="thumos14"):
        ActionFormerConfig.from_data_set("thumos")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_attention_heads": 3}, "num_attention_heads=3 must divide"),
        ({"neck_type": "pan"}, "neck_type='pan' must be 'identity' or 'fpn'"),
        ({"neck_hidden_size": 8}, "neck_hidden_size=8 must be hidden_size=512"),
        ({"attention_windows": [5, 5]}, "one entry for each of num_levels=6"),
        ({"attention_windows": 4}, "must be odd"),
        ({"head_kernel_size": 2}, "head_kernel_size=2 must be odd"),
        ({"regression_ranges": [[0, 4]]}, "one entry for each of num_levels=6"),
        ({"max_sequence_length": 100}, "cannot be halved 5 times; make it a multiple of 32"),
        ({"drop_path_rate": 1.0}, "drop_path_rate=1.0 must be at least 0 and less than 1"),
        ({"class_prior": 0.0}, "class_prior=0.0 must be above 0"),
        ({"feature_size": 0}, "feature_size=0 must be at least 1"),
        ({"regression_ranges": [[0, 4], [8, 4], *[[8, 16]] * 4]}, "pairs of distances, the smaller one first"),
        ({"init_loss_normalizer": 0}, "init_loss_normalizer=0 must be above 0"),
        ({"features": {"window": "a", "stride": 2}}, "features.window='a' must be a number above 0"),
        ({"features": {"window": 16, "stride": 0}}, "features.stride=0 must be a number above 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(StrictDataclassClassValidationError) as error:
        ActionFormerConfig(**settings)
    assert words in str(error.value.__cause__ or error.value)
