"""Optimizers of released recipes that torch does not have."""

from collections.abc import Callable, Iterable

import torch


class BertAdam(torch.optim.Optimizer):
    """Adam as video-text retrieval was fine-tuned with it: no bias correction, each gradient cut by itself.

    Weight decay is added to the update, so that the learning rate scales it as well. Source: the BertAdam of the
    retrieval code (reference case `retr_optim`).

    Args:
        params: parameters or groups, as for torch's optimizers.
        lr: learning rate.
        betas: decay of the averages of the gradient and of its square, 0-1.
        eps: added to the root of the latter.
        weight_decay: share of a parameter in its update.
        max_grad_norm: to which the gradient of every parameter is cut; None for no cut.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        max_grad_norm: float | None = 1.0,
    ):
        if lr < 0 or not all(0 <= beta < 1 for beta in betas) or eps <= 0:
            raise ValueError(
                f"lr={lr}, betas={betas}, eps={eps}: expected lr from 0 on, betas in [0, 1), eps above 0."
            )
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "max_grad_norm": max_grad_norm}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], torch.Tensor] | None = None) -> torch.Tensor | None:
        """Do one step; see `torch.optim.Optimizer`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: torch.nn.Parameter, group: dict) -> None:
        state, (first, second), gradient = self.state[parameter], group["betas"], parameter.grad
        if group["max_grad_norm"] is not None:
            # A copy: the gradient belongs to the caller, who may accumulate into it.
            gradient = gradient * (group["max_grad_norm"] / (gradient.norm() + 1e-6)).clamp(max=1.0)
        if not state:
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        update = state["mean"] / (state["square"].sqrt() + group["eps"])
        parameter.sub_(group["lr"] * (update + group["weight_decay"] * parameter))
