"""Settings of VSLNet: the paper's sizes, what is kept of features, and what does not fit."""

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError

from internvideo_hf import VSLNetConfig


def test_the_defaults_are_those_of_the_paper():
    config = VSLNetConfig()
    assert (config.hidden_size, config.num_attention_heads) == (128, 8)
    assert (config.num_conv_layers, config.kernel_size, config.num_hidden_layers) == (4, 7, 5)
    assert (config.hidden_dropout, config.highlight_extension, config.highlight_loss_weight) == (0.2, 0.1, 5.0)


def test_what_is_known_of_features_is_saved(tmp_path):
    features = {"encoder": "owner/name", "window": 16, "stride": 16, "fps": 30.0}
    config = VSLNetConfig(features=features, text_encoder="openai/clip-vit-base-patch16", text_revision="main")
    config.save_pretrained(tmp_path)
    loaded = VSLNetConfig.from_pretrained(tmp_path)
    assert loaded.features == features and loaded.to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_attention_heads": 3}, "num_attention_heads=3 must divide hidden_size=128"),
        ({"video_size": 0}, "video_size=0 must be at least 1"),
        ({"text_size": 0}, "text_size=0 must be at least 1"),
        ({"max_positions": 0}, "max_positions=0 must be at least 1"),
        ({"kernel_size": 4}, "kernel_size=4 must be odd"),
        ({"num_conv_layers": -1}, "num_conv_layers=-1 must be at least 0"),
        ({"hidden_dropout": 1.0}, "hidden_dropout=1.0 must be at least 0 and less than 1"),
        ({"highlight_extension": -0.1}, "highlight_extension=-0.1 must be at least 0"),
        ({"features": {"window": 16, "stride": 0}}, "features.stride=0 must be a number above 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(StrictDataclassClassValidationError) as error:
        VSLNetConfig(**settings)
    assert words in str(error.value.__cause__ or error.value)
