"""Gradient caching: a contrastive batch processed in parts has the gradients of the full batch."""

import copy

import pytest
import torch
from training.processes import dual_encoder, viclip_with_doubled_captions


@pytest.mark.parametrize("size", [1, 3, 8, 100])
@pytest.mark.parametrize("case", [dual_encoder, viclip_with_doubled_captions], ids=lambda case: case.__name__)
def test_parts_give_the_gradients_of_the_whole(case, size):
    torch.manual_seed(0)
    model, batch = case()
    whole, parts = model.train(), copy.deepcopy(model).train()
    parts.grad_cache = size
    losses = []
    for one in (whole, parts):
        loss = one(**batch).loss
        loss.backward()
        losses.append(loss)
    torch.testing.assert_close(losses[1], losses[0])
    gradients = {name: parameter.grad for name, parameter in whole.named_parameters()}
    assert sum(gradient is not None for gradient in gradients.values()) > 20
    for name, parameter in parts.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("case", [dual_encoder, viclip_with_doubled_captions], ids=lambda case: case.__name__)
def test_parts_keep_no_activations_of_the_towers(case):
    model, batch = case()
    model.train()
    saved = []
    for size in (None, 2):
        model.grad_cache, count = size, 0

        def pack(tensor):
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(**batch)
        saved.append(count)
    assert saved[1] < saved[0] / 3


def test_evaluation_does_not_know_of_parts():
    model, batch = dual_encoder()
    model.eval()
    model.grad_cache = 2
    assert model(**batch).video_model_output is not None


def test_the_factor_of_the_cosines_stays_within_its_bounds():
    model, batch = dual_encoder()
    for start, kept in ((9.0, 4.6051702), (-3.0, 0.0), (2.5, 2.5)):
        torch.nn.init.constant_(model.logit_scale, start)
        model.eval()(**batch)
        assert model.logit_scale.item() == start
        model.train()(**batch)
        assert model.logit_scale.item() == pytest.approx(kept)
