"""The shared checks pass on a sound classifier, and fail on classifiers with the faults that they look for."""

import pytest
import torch
from huggingface_hub.dataclasses import strict
from models.model_checks import ModelChecks, Tower, draw
from torch import nn
from transformers import AutoConfig, AutoModelForVideoClassification
from transformers import initialization as init
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.modeling_utils import PreTrainedModel
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from internvideo_hf.models.common.layers import Attention, EncoderLayer, as_clips


@strict
class ToyConfig(PreTrainedConfig):
    model_type = "internvideo_toy"
    hidden_size: int = 8
    intermediate_size: int = 12
    num_attention_heads: int = 2
    num_hidden_layers: int = 2
    patch_size: int = 8
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    attention_dropout: float | int = 0.0
    initializer_range: float = 0.02


class ToyForVideoClassification(PreTrainedModel):
    """Patches of all frames as tokens, two layers, the mean, and a label."""

    config: ToyConfig
    main_input_name = "pixel_values_videos"
    accepts_loss_kwargs = False
    supports_gradient_checkpointing = True
    _input_embed_layer = "patches"
    _no_split_modules = ["EncoderLayer"]
    _supports_sdpa = True
    _can_record_outputs = {
        "hidden_states": EncoderLayer,
        "attentions": OutputRecorder(Attention, index=1, layer_name="self_attn"),
    }

    def __init__(self, config: ToyConfig):
        super().__init__(config)
        size = config.patch_size
        self.patches = nn.Conv3d(3, config.hidden_size, (1, size, size), (1, size, size))
        self.shift = nn.Parameter(torch.empty(config.hidden_size))
        self.register_buffer("scale", torch.linspace(1, 2, config.hidden_size), persistent=False)
        self.layers = nn.ModuleList([EncoderLayer(config) for _ in range(config.num_hidden_layers)])
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ToyForVideoClassification):
            init.normal_(module.shift, std=self.config.initializer_range)
            init.copy_(module.scale, torch.linspace(1, 2, self.config.hidden_size))

    def embed(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        pixels = as_clips(pixel_values_videos, 3, self.config.patch_size).transpose(1, 2)
        patches = self.patches(pixels.to(self.patches.weight.dtype))
        return patches.flatten(2).transpose(1, 2) * self.scale.to(patches.device) + self.shift.to(patches.device)

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self, pixel_values_videos: torch.Tensor, labels: torch.Tensor | None = None, **kwargs
    ) -> ImageClassifierOutput:
        tokens = self.embed(pixel_values_videos)
        for layer in self.layers:
            tokens = layer(tokens)
        logits = self.classifier(tokens.mean(dim=1))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels.to(logits.device))
        return ImageClassifierOutput(loss=loss, logits=logits)


AutoConfig.register(ToyConfig.model_type, ToyConfig, exist_ok=True)
AutoModelForVideoClassification.register(ToyConfig, ToyForVideoClassification, exist_ok=True)


class TestToy(ModelChecks):
    model_class = ToyForVideoClassification
    auto_class = AutoModelForVideoClassification
    input_embeddings = "patches"
    loss_over = "samples"

    def config(self):
        return ToyConfig(num_labels=5)

    def inputs(self):
        return {"pixel_values_videos": draw(2, 2, 3, 16, 24), "labels": torch.tensor([1, 3])}

    def towers(self, outputs):
        return [Tower(outputs, 2, (2, 12, 8), (2, 2, 12, 12))]


class ForgottenParameter(ToyForVideoClassification):
    def _init_weights(self, module):
        PreTrainedModel._init_weights(self, module)


class AddsWhereItIs(ToyForVideoClassification):
    def embed(self, pixel_values_videos):
        return super().embed(pixel_values_videos) + self.shift


class BlindGate(ToyForVideoClassification):
    def embed(self, pixel_values_videos):
        return super().embed(pixel_values_videos).detach()


class SeesItsNeighbours(ToyForVideoClassification):
    def embed(self, pixel_values_videos):
        tokens = super().embed(pixel_values_videos)
        return tokens - tokens.mean(dim=0, keepdim=True)


class FixedFrames(ToyForVideoClassification):
    def embed(self, pixel_values_videos):
        return super().embed(pixel_values_videos).view(-1, 12, 8)


class AnyLayout(ToyForVideoClassification):
    def embed(self, pixel_values_videos):
        return super().embed(pixel_values_videos.reshape(-1, 2, 3, 16, 24))


class BranchesOnNumbers(ToyForVideoClassification):
    def embed(self, pixel_values_videos):
        tokens = super().embed(pixel_values_videos)
        return tokens if pixel_values_videos.mean() > 0 else tokens + 1


class SummedLoss(ToyForVideoClassification):
    accepts_loss_kwargs = True


class OwnKernel(ToyForVideoClassification):
    def __init__(self, config):
        super().__init__(config)
        self.layers[0].self_attn.forward = lambda tokens, **_: (tokens.softmax(1), None)


class Head(nn.Linear):
    def __call__(self, tokens):
        return tokens @ self.weight.T + self.bias


class ReadsAWeight(ToyForVideoClassification):
    def __init__(self, config):
        super().__init__(config)
        self.classifier = Head(config.hidden_size, config.num_labels)


FAULTS = [
    (ForgottenParameter, "test_fresh_parameters_are_all_drawn_and_repeat_under_a_seed"),
    (ForgottenParameter, "test_parameters_missing_from_a_checkpoint_are_drawn_and_the_others_kept"),
    (ForgottenParameter, "test_buffers_that_are_not_saved_are_rebuilt_on_loading"),
    (ForgottenParameter, "test_saved_model_loads_bit_for_bit"),
    (ForgottenParameter, "test_auto_class_finds_the_model_in_a_saved_folder"),
    (AddsWhereItIs, "test_a_device_map_may_put_any_half_on_another_device"),
    (BlindGate, "test_gradients_reach_every_parameter"),
    (BlindGate, "test_input_embeddings_are_the_layer_behind_patches_or_tokens"),
    (SeesItsNeighbours, "test_samples_of_a_batch_do_not_see_each_other"),
    (FixedFrames, "test_other_frame_counts_and_sizes_are_taken"),
    (AnyLayout, "test_wrong_layouts_and_sizes_are_refused_with_what_would_fit"),
    (BranchesOnNumbers, "test_whole_graph_compiles_for_any_number_of_frames"),
    (BranchesOnNumbers, "test_exported_program_takes_other_batches_and_frame_counts"),
    (SummedLoss, "test_loss_of_a_trainer_step_does_not_depend_on_accumulation"),
    (ReadsAWeight, "test_every_module_with_weights_is_called"),
    (ReadsAWeight, "test_offloaded_weights_come_back_when_they_are_needed"),
    (OwnKernel, "test_every_attention_asks_transformers_for_its_kernel"),
    (OwnKernel, "test_attentions_of_the_eager_kernel_are_probabilities"),
]


@pytest.mark.parametrize(("faulty", "check"), FAULTS, ids=[f"{c.__name__}-{name[5:30]}" for c, name in FAULTS])
def test_check_finds_the_fault(faulty: type[PreTrainedModel], check: str, tmp_path) -> None:
    checks = TestToy()
    checks.model_class = faulty
    takes = getattr(checks, check).__annotations__
    arguments = {
        name: value for name, value in {"tmp_path": tmp_path, "together": True, "first": 1}.items() if name in takes
    }
    with pytest.raises((Exception, pytest.fail.Exception)):  # noqa: B017 (or what the faulty model itself raises)
        getattr(checks, check)(**arguments)


def test_field_that_no_module_reads_is_found() -> None:
    @strict
    class WithIdleField(ToyConfig):
        drop_path_rate: float | int = 0.0

    checks = TestToy()
    checks.config = lambda: WithIdleField(num_labels=5)
    with pytest.raises(AssertionError, match="no module reads.*drop_path_rate"):
        checks.test_every_field_of_the_configuration_is_read()
    checks.fields_read_elsewhere = {"hidden_size": "by nobody", "drop_path_rate": "by the converter"}
    with pytest.raises(AssertionError, match="excused, but read"):
        checks.test_every_field_of_the_configuration_is_read()
