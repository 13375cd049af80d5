"""Training memory: the formula against full-size models on the meta device."""

import pytest
import torch

from benchmarks.model_memory import (
    STRATEGIES,
    activation_memory,
    device_memory,
    local_bytes,
    model_memory,
)
from internvideo_hf import (
    InternVideoMAEConfig,
    InternVideoMAEForVideoClassification,
    UniFormerV2Config,
    UniFormerV2ForVideoClassification,
)
from internvideo_hf.training.ema import EMA
from internvideo_hf.training.parameter_groups import parameter_groups

MODELS = {
    "VideoMAE-H": lambda: InternVideoMAEForVideoClassification(InternVideoMAEConfig.from_size("huge", num_labels=400)),
    "VideoMAE-L": lambda: InternVideoMAEForVideoClassification(
        InternVideoMAEConfig.from_size("large", num_labels=400)
    ),
    "UniFormerV2-L": lambda: UniFormerV2ForVideoClassification(UniFormerV2Config.from_size("large", num_labels=400)),
}


def on_meta(name: str):
    with torch.device("meta"):
        return MODELS[name]().to("meta").train()  # the sine table is made on the CPU


def batch(frames: int) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return {
            "pixel_values_videos": torch.empty(1, frames, 3, 224, 224),
            "labels": torch.zeros(1, dtype=torch.long),
        }


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_formula_is_what_a_step_on_the_meta_device_allocates(name, frozen):
    model = on_meta(name)
    if frozen:
        model.freeze_backbone()
    average = EMA(model, 0.999)
    optimizer = torch.optim.AdamW(parameter_groups(model, 1e-3, 0.05))
    model(**batch(16 if "MAE" in name else 8)).loss.backward()
    optimizer.step()
    expected = model_memory(model, average=True)
    assert local_bytes(model.parameters()) == expected.weights
    assert local_bytes(parameter.grad for parameter in model.parameters()) == expected.gradients
    # Counters of steps, one number for each parameter, are left out.
    moments = [tensor for state in optimizer.state.values() for tensor in state.values() if tensor.ndim]
    assert local_bytes(moments) == expected.optimizer
    assert local_bytes(average.tensors.values()) == expected.average
    assert expected.total == 4 * sum((1 + 4 * p.requires_grad) * p.numel() for p in model.parameters())


@pytest.mark.parametrize("checkpointed", [False, True])
def test_activations_are_those_that_the_meta_device_saves(checkpointed):
    model, saved = on_meta("VideoMAE-L"), {}
    if checkpointed:
        model.activation_checkpointing_enable()
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            saved[storage._cdata] = tensor  # kept, so that no later storage takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(**batch(16))
    found, config = sum(tensor.untyped_storage().nbytes() for tensor in saved.values()), model.config
    layers, tokens = config.num_hidden_layers, 1568
    sizes = (tokens, config.hidden_size, config.intermediate_size)
    expected = activation_memory(*sizes, layers, 1, precision="float32", checkpointed=checkpointed)
    if checkpointed:  # the layer that is computed again comes in the backward pass
        expected -= activation_memory(*sizes, 1, 1, precision="float32", checkpointed=False)
    else:  # the meta device has no fused attention
        found -= 4 * tokens**2 * config.num_attention_heads * layers
    assert found == pytest.approx(expected, rel=0.1)


def test_strategies_divide_what_they_are_named_for():
    def gigabytes(**options) -> list[float]:
        memory = device_memory(1_000_000_000, devices=8, **options)
        return [part / 1e9 for part in (memory.weights, memory.gradients, memory.optimizer, memory.average)]

    assert gigabytes(average=True) == [4, 4, 8, 4]
    assert gigabytes(strategy="fsdp2", average=True) == [0.5, 0.5, 1, 0.5]
    assert gigabytes(strategy="zero1", precision="bfloat16") == [2, 2, 1.5, 0]
    assert gigabytes(strategy="zero2", precision="bfloat16", average=True) == [2, 0.25, 1.5, 4]
    assert gigabytes(strategy="zero3", precision="bfloat16") == [0.25, 0.25, 1.5, 0]
    assert gigabytes(strategy="zero3") == [0.5, 0.5, 1.5, 0]
    assert device_memory(10, 0, optimizer="sgd").total == 40
    assert device_memory(10, optimizer="sgd_momentum").optimizer == 40


def test_questions_without_an_answer_are_refused():
    with pytest.raises(ValueError, match=f"'zero4', expected one of {', '.join(STRATEGIES)}"):
        device_memory(10, strategy="zero4")
    with pytest.raises(ValueError, match="'int8', expected one of float32"):
        device_memory(10, precision="int8")
    with pytest.raises(ValueError, match="11 trained of 10"):
        device_memory(10, 11)
    with pytest.raises(ValueError, match="Take fsdp2"):
        device_memory(10, strategy="zero3", average=True)
