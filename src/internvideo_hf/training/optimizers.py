"""Optimizers of the released recipes that torch lacks."""

from collections.abc import Callable, Iterable
from typing import Any

import torch


class BertAdam(torch.optim.Optimizer):
    """BertAdam, the optimizer of retrieval fine-tuning: Adam without bias correction, each gradient clipped by itself.

    Weight decay is added to the update, so the learning rate scales it too. Source: the BertAdam of the retrieval code
    (reference case `retr_optim`).

    Args:
        params: parameters or groups, as for torch's optimizers.
        lr: learning rate.
        betas: decay of the averages of the gradient and of its square, each in [0, 1).
        eps: added to the root of the average square.
        weight_decay: factor of the parameter in its update.
        max_grad_norm: each parameter's gradient is clipped to this norm; None for no clipping.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        max_grad_norm: float | None = 1.0,
    ):
        if lr < 0 or not all(0 <= beta < 1 for beta in betas) or eps <= 0:
            raise ValueError(
                f"lr={lr}, betas={betas}, eps={eps}: expected lr at least 0, betas in [0, 1), eps above 0."
            )
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "max_grad_norm": max_grad_norm}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; see `torch.optim.Optimizer`.

        Args:
            closure: recomputes the loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: torch.nn.Parameter, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state, (first, second) = self.state[parameter], group["betas"]
        if group["max_grad_norm"] is not None:
            # Not in place: the caller may accumulate into the gradient.
            gradient = gradient * (group["max_grad_norm"] / (gradient.norm() + 1e-6)).clamp(max=1.0)
        if not state:
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        update = state["mean"] / (state["square"].sqrt() + group["eps"])
        parameter.sub_(group["lr"] * (update + group["weight_decay"] * parameter))
