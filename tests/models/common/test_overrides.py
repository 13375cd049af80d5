"""Configuration values by name: unknown ones are refused, and errors read plainly."""

import pytest

from internvideo_hf import InternVideoMMConfig, UniFormerV2Config
from internvideo_hf.models.common.overrides import check_overrides, configuration_errors


def test_unknown_fields_are_refused_with_the_nearest():
    check_overrides({"num_frames": 4, "num_labels": 3}, UniFormerV2Config)
    check_overrides({"vision_config": {"num_frames": 4}}, InternVideoMMConfig)
    with pytest.raises(ValueError, match="Unknown setting model.config.num_frame for UniFormerV2Config.*num_frames"):
        check_overrides({"num_frame": 4}, UniFormerV2Config, "model.config.")
    with pytest.raises(ValueError, match="Unknown setting vision_config.patches for UniFormerV2Config"):
        check_overrides({"vision_config": {"patches": 4}}, InternVideoMMConfig)
    with pytest.raises(ValueError, match="vision_config: got 4, expected settings by name"):
        check_overrides({"vision_config": 4}, InternVideoMMConfig)
    with pytest.raises(ValueError, match="Unknown setting dtype"):
        check_overrides({"dtype": "float16"}, UniFormerV2Config)


def test_errors_of_a_configuration_are_value_errors():
    with pytest.raises(ValueError, match="Invalid model configuration: patch_size=15 must divide image_size=224"):
        with configuration_errors():
            UniFormerV2Config(patch_size=15)
    with pytest.raises(ValueError, match="Invalid model configuration: ZeroDivisionError"):
        with configuration_errors():
            UniFormerV2Config(patch_size=0)
