"""Batch norms in training: what they normalize by, and running statistics that move once a step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

MODES = ("batch", "frozen", "sync")


class BatchNorms:
    """The batch norms of a model in training.

    Args:
        model: the model; with "sync", its batch norms are replaced in place.
        mode: what a batch norm normalizes by:

            - "batch": the statistics of the clips that pass together, as in the released code. Parts of a batch
              (accumulated, cached, of several processes) have other statistics than the batch, so other gradients.
            - "sync": the statistics of the clips that pass together in all processes; needs a device that has it.
            - "frozen": the running statistics, which stay: the gradient of a batch is the mean of those of its parts.

            With the first two, the running statistics move once for each call of `step`, by those of all clips since
            the last, of all processes, even if activations were computed twice (gradient checkpointing, caching).
    """

    def __init__(self, model: nn.Module, mode: str):
        self.mode = mode
        if mode == "sync":
            nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.norms: list[Any] = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self._seen: dict[nn.Module, list[torch.Tensor]] = {norm: [] for norm in self.norms}

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Let the model train with these rules inside the `with` block."""
        handles = []
        for norm in self.norms:
            if self.mode == "frozen":
                handles.append(norm.register_forward_pre_hook(_freeze))
            else:
                handles.append(norm.register_forward_pre_hook(_lend_buffers))
                handles.append(norm.register_forward_hook(self._collect))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _collect(self, norm: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        """Take the statistics that a batch left, and give the layer its own buffers back."""
        if not norm.training:
            return
        mean, variance = norm.running_mean.float(), norm.running_var.float()
        norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum = norm.own
        del norm.own
        # Inside of a backward pass, the same clips pass a second time; torch's checkpoints ask in the same way.
        if torch._C._current_graph_task_id() == -1:
            count = torch.full_like(mean, inputs[0].numel() / len(mean))
            self._seen[norm].append(torch.stack([count, mean, variance * (count - 1)]))

    @torch.no_grad()
    def step(self) -> None:
        """Move the running statistics by those of all clips since the last call."""
        for norm in self.norms:
            if not self._seen[norm]:
                continue
            total = _pool(torch.stack(self._seen[norm]))
            self._seen[norm] = []
            if distributed.is_available() and distributed.is_initialized() and self.mode != "sync":
                parts = [torch.empty_like(total) for _ in range(distributed.get_world_size())]
                distributed.all_gather(parts, total)
                total = _pool(torch.stack(parts))
            count, mean, deviations = total
            norm.num_batches_tracked += 1
            weight = norm.momentum if norm.momentum is not None else 1 / norm.num_batches_tracked.item()
            norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), weight)
            norm.running_var.lerp_((deviations / (count - 1)).to(norm.running_var.dtype), weight)


def _freeze(norm: nn.Module, inputs: Any) -> None:
    norm.eval()  # before every pass, as `model.train()` undoes it


def _lend_buffers(norm: Any, inputs: Any) -> None:
    """Let the layer write the statistics of a batch, and nothing of earlier ones, into other buffers."""
    if norm.training:
        norm.own = norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum
        norm.running_mean, norm.running_var = torch.zeros_like(norm.running_mean), torch.zeros_like(norm.running_var)
        norm.num_batches_tracked, norm.momentum = None, 1.0


def _pool(parts: torch.Tensor) -> torch.Tensor:
    """Pool statistics: `(parts, 3, channels)` of counts, means, sums of squared deviations -> `(3, channels)`."""
    counts, means, deviations = parts.unbind(dim=1)
    count = counts.sum(dim=0)
    mean = (counts * means).sum(dim=0) / count
    return torch.stack([count, mean, deviations.sum(dim=0) + (counts * (means - mean) ** 2).sum(dim=0)])
