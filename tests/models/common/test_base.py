"""The flags that all models share, and those in which a class differs."""

import pytest
import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_utils import PreTrainedModel

import internvideo_hf
from internvideo_hf.auto import FAMILIES
from internvideo_hf.models.common.base import VideoPreTrainedModel, init_weight_with, torch_default_

PUBLIC = [getattr(internvideo_hf, name) for name in internvideo_hf.__all__]
MODELS = {kind.__name__: kind for kind in PUBLIC if isinstance(kind, type) and issubclass(kind, PreTrainedModel)}
READ_NO_VIDEO = {
    "VLNPlannerForNavigation": ("input_ids", ["text", "video"]),
    "VLNWaypointsModel": ("depth_features", ["image"]),
    "VSLNetForTemporalGrounding": ("features", ["time", "text"]),
    "VSLNetModel": ("features", ["time", "text"]),
}
READ_TEXT = {
    "InternVideoMMForConditionalGeneration",
    "InternVideoMMForQuestionAnswering",
    "InternVideoMMModel",
    "ViCLIPModel",
}


@pytest.mark.parametrize("name", MODELS)
def test_models_state_what_they_support(name):
    model = MODELS[name]
    assert issubclass(model, VideoPreTrainedModel)
    assert model.supports_gradient_checkpointing
    assert model._supports_sdpa and model._supports_attention_backend
    if FAMILIES[model.config_class.model_type].video_processor is None:
        # Windows are masks, which the other kernels do not take.
        expected = READ_NO_VIDEO.get(name, ("features", ["time"]))
        assert (model.main_input_name, model.input_modalities) == expected
        assert not (model._supports_flash_attn or model._supports_flex_attn)
    else:
        # `generate` continues its main input.
        assert model.main_input_name == ("input_ids" if model.can_generate() else "pixel_values_videos")
        assert model.input_modalities == (["video", "text"] if name in READ_TEXT else ["video"])
        assert model._supports_flash_attn and model._supports_flex_attn
    assert model._can_compile_fullgraph == (name != "InternVideoMAEForPreTraining")


def test_a_layer_names_the_function_that_initializes_it():
    first, second, other = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
    init_weight_with(init.zeros_, first, second)
    assert first.weight_init is second.weight_init is init.zeros_ and not hasattr(other, "weight_init")
    torch.manual_seed(0)
    expected = nn.Linear(4, 4).weight
    torch.manual_seed(0)
    assert torch.equal(torch_default_(other.weight.data.clone()), expected)
