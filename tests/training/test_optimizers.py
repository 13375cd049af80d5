"""BertAdam, compared with its formula."""

import pytest
import torch

from internvideo_hf.training.optimizers import BertAdam


def test_step_is_the_formula_with_the_gradient_cut_and_kept():
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    other = torch.nn.Parameter(torch.ones(2))
    optimizer = BertAdam([weight, other], lr=0.1, weight_decay=0.2)
    mean, square, expected = torch.zeros(3), torch.zeros(3), weight.detach().clone()
    for gradient in (torch.tensor([3.0, 0.0, -4.0]), torch.tensor([0.1, 0.2, 0.1])):
        weight.grad = gradient.clone()
        optimizer.step()
        assert torch.equal(weight.grad, gradient)
        cut = gradient / max(gradient.norm().item(), 1.0)
        mean, square = 0.9 * mean + 0.1 * cut, 0.98 * square + 0.02 * cut**2
        expected = expected - 0.1 * (mean / (square.sqrt() + 1e-6) + 0.2 * expected)
        torch.testing.assert_close(weight.detach(), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(other, torch.ones(2))


def test_state_is_saved_and_loaded():
    runs = []
    for stop in (False, True):
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = BertAdam([weight], lr=0.1)
        for step in range(4):
            if stop and step == 2:
                state, optimizer = optimizer.state_dict(), BertAdam([weight], lr=0.5)
                optimizer.load_state_dict(state)
            weight.grad = torch.full((3,), float(step + 1))
            optimizer.step()
        runs.append(weight.detach())
    assert torch.equal(*runs)


@pytest.mark.parametrize("options", [{"lr": -1.0}, {"lr": 0.1, "betas": (1.0, 0.9)}, {"lr": 0.1, "eps": 0.0}])
def test_numbers_without_a_meaning_are_refused(options):
    with pytest.raises(ValueError, match="expected lr at least 0"):
        BertAdam([torch.nn.Parameter(torch.ones(1))], **options)
