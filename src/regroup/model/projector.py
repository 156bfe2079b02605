"""The projector into the joint space, and the batch norm inside it."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regroup.model.collectives import all_reduce_sum, world_size


class Projector(nn.Module):
    """Linear, batch norm, ReLU, linear (eq. 21, 22 and 29)."""

    def __init__(self, width: int, hidden: int, output: int) -> None:
        """Make the layers; weights are drawn by the model."""
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.norm = SyncedBatchNorm(hidden)
        self.out = nn.Linear(hidden, output)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., width] to [..., output]; in training all leading axes are one batch."""
        flat = self.norm(self.hidden(x.flatten(0, -2)))
        out: Tensor = self.out(F.relu(flat))
        return out.view(*x.shape[:-1], self.out.out_features)

    @property
    def frozen(self) -> bool:
        """Whether nothing in it learns."""
        return not any(parameter.requires_grad for parameter in self.parameters())


def projectors(model: nn.Module) -> dict[str, Projector]:
    """The projectors of a model that have a batch norm, by name."""
    return {name: part for name, part in model.named_children() if isinstance(part, Projector)}


class SyncedBatchNorm(nn.BatchNorm1d):
    """Batch norm in float32 whose training statistics span all ranks, on any device and backend.

    With one process it is `torch.nn.BatchNorm1d` and has its parameters and buffers. Ranks may hold different
    numbers of rows.

    Attributes:
        always_eval: stay in evaluation mode when the model is set to training.
    """

    always_eval: bool = False

    def train(self, mode: bool = True) -> Self:
        """Switch to training unless the layer is held in evaluation mode."""
        return super().train(mode and not self.always_eval)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [N, C]."""
        with torch.autocast(x.device.type, enabled=False):
            upcast = x.to(torch.promote_types(x.dtype, torch.float32))
            if self.training and world_size() > 1:
                return self._forward_all_ranks(upcast)
            return super().forward(upcast)

    def _forward_all_ranks(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        rows = torch.full((1,), float(len(x)), dtype=x.dtype, device=x.device)
        total = all_reduce_sum(torch.cat([x.sum(0), rows]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = x - mean
        variance = all_reduce_sum(centred.square().sum(0)) / count
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            unbiased = variance * (count / (count - 1).clamp_min(1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
        return centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias
