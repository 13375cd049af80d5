"""Numbers of the planner that do not fit each other are refused; the default is the public planner on ViT-L."""

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError

from internvideo_hf import VLNPlannerConfig


def test_the_default_is_right_and_the_mirrored_order_has_to_be_asked_for():
    config = VLNPlannerConfig()
    assert (config.num_hidden_layers, config.num_cross_layers, config.num_panorama_layers) == (9, 4, 2)
    assert (config.video_size, config.still_size, config.rgb_size) == (1024, 512, 768)
    assert not config.mirrored_video_views and not config.use_critic


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 7}, "num_attention_heads=7 must divide hidden_size=768"),
        ({"num_views": 0}, "num_views=0 must be at least 1"),
        ({"max_history_steps": 0}, "max_history_steps=0"),
        ({"type_vocab_size": 1}, "type_vocab_size=1 must be at least 2"),
        ({"feature_dropout": 1}, "feature_dropout=1 must be at least 0 and less than 1"),
        ({"hidden_size": 10**9}, "hidden_size"),
    ],
)
def test_nonsense_is_refused(changes, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        VLNPlannerConfig(**changes)
