"""Several processes and gradient accumulation train like one large batch."""

import pytest
import torch
from forks import run_ranks
from training.processes import BATCH, CASES, build, gradients_in


def whole(case: str) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    model, batch = build(case)
    loss = model(**batch).loss
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, loss.detach()


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Return the results of two processes for their halves of every case."""
    folder = tmp_path_factory.mktemp("processes")
    run_ranks(gradients_in, (folder, 2), 2)
    return {case: [torch.load(folder / f"{case}-{rank}.pt") for rank in range(2)] for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_gradients_of_the_whole_batch(case, halves):
    expected, loss = whole(case)
    assert any(gradient.abs().max() > 1e-4 for gradient in expected.values())
    parts = halves[case]
    torch.testing.assert_close((parts[0]["loss"] + parts[1]["loss"]) / 2, loss, atol=1e-5, rtol=1e-5)
    for part in parts:
        for name, gradient in expected.items():
            torch.testing.assert_close(
                part["gradients"][name], gradient, atol=1e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
            )


@pytest.mark.parametrize("case", [case for case in CASES if "mae" in case or "uniformer" in case])
def test_four_accumulated_batches_have_the_gradients_of_the_whole_one(case):
    expected, _ = whole(case)
    model, batch = build(case)
    for start in range(0, BATCH, 2):
        part = {key: value[start : start + 2] for key, value in batch.items()}
        (model(**part).loss / 4).backward()
    for name, parameter in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-4)
