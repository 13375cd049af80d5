"""The configuration of the fused model: where the encoders exchange, and checks of its numbers."""

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError

from internvideo_hf import InternVideoConfig


def test_defaults_are_four_equal_stages_and_the_last_global_blocks():
    config = InternVideoConfig()
    assert (config.exchange_layers, config.exchange_blocks) == ([2, 5, 8, 11], [0, 1, 2, 3])
    huge = InternVideoConfig(
        internvideo_mae_config={"num_hidden_layers": 32}, uniformerv2_config={"global_layers": list(range(4, 12))}
    )
    assert (huge.exchange_layers, huge.exchange_blocks) == ([7, 15, 23, 31], [4, 5, 6, 7])
    assert InternVideoConfig(exchange_blocks=[1, 3]).exchange_layers == [5, 11]
    assert InternVideoConfig(exchange_layers=[4]).exchange_blocks == [3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exchange_layers": [3, 2]}, "rise"),
        ({"exchange_layers": [12]}, r"0\.\.11"),
        ({"exchange_layers": []}, "must hold"),
        ({"exchange_blocks": [4]}, r"0\.\.3"),
        ({"exchange_layers": [3], "exchange_blocks": [0, 1]}, "same length"),
        ({"classifier_dropout": 1.0}, "less than 1"),
        ({"mlp_ratio": 0}, "above 0"),
        ({"internvideo_mae_config": {"use_mean_pooling": False}}, "mean of its tokens"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        InternVideoConfig(**changes)
