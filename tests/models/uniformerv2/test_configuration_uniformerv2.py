"""The configuration of UniFormerV2: released sizes, and checks of its numbers."""

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError
from models.uniformerv2.test_modeling_uniformerv2 import tiny_config

from internvideo_hf import UniFormerV2Config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 3}, "num_attention_heads=3 must divide hidden_size=16"),
        ({"num_global_attention_heads": 5}, "num_global_attention_heads=5 must divide hidden_size=16"),
        ({"patch_size": 7}, "patch_size=7 must divide image_size=32"),
        ({"global_layers": [2, 0]}, "must rise"),
        ({"global_layers": [1, 1]}, "without repeats"),
        ({"global_layers": [1, 3]}, r"inside 0\.\.2"),
    ],
)
def test_sizes_that_do_not_fit_each_other_are_refused(changes, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        tiny_config(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_local_blocks": 3}, "num_local_blocks=3 must be 0, 1 or 2"),
        ({"local_intermediate_size": -1}, "local_intermediate_size=-1 must be at least 1"),
    ],
)
def test_settings_of_local_blocks_are_checked(changes, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        tiny_config(**changes)


@pytest.mark.parametrize(
    ("size", "width", "layers", "patch", "pixels"),
    [("base", 768, 12, 16, 224), ("large", 1024, 24, 14, 224), ("large-336", 1024, 24, 14, 336)],
)
def test_presets_have_the_released_sizes(size, width, layers, patch, pixels):
    scene, motion = (UniFormerV2Config.from_size(size, task) for task in ("scene", "motion"))
    for config in (scene, motion):
        assert (config.hidden_size, config.num_hidden_layers) == (width, layers)
        assert (config.num_attention_heads, config.num_global_attention_heads) == (width // 64, width // 64)
        assert (config.intermediate_size, config.patch_size, config.image_size) == (4 * width, patch, pixels)
    assert scene.global_layers == list(range(layers - 4, layers))
    assert (scene.num_local_blocks, scene.temporal_downsampling, scene.drop_path_rate) == (0, False, 0.0)
    assert motion.global_layers == {12: list(range(4, 12)), 24: list(range(8, 24))}[layers]
    assert (motion.num_local_blocks, motion.temporal_downsampling) == (2, True)
    assert (motion.drop_path_rate, motion.global_drop_path_rate) == (0.2, 0.4)
    assert motion.local_intermediate_size == {768: 512, 1024: 682}[width]


def test_presets_take_other_values_and_name_what_they_know():
    config = UniFormerV2Config.from_size("base", "motion", num_labels=12, num_frames=32)
    assert (config.num_labels, config.num_frames) == (12, 32)
    with pytest.raises(ValueError, match="size: got 'huge', expected one of base, large, large-336"):
        UniFormerV2Config.from_size("huge")
    with pytest.raises(ValueError, match="task: got 'action', expected one of scene, motion"):
        UniFormerV2Config.from_size("base", "action")
