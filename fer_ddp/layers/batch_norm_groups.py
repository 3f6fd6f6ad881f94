"""Batch normalization by the statistics of parts of the batch, so that no rank waits for another in its passes.

Each group of samples is normalized by its own mean and variance (ghost batch normalization, Hoffer et al. 2017, arXiv
1705.08741). A group lies on one rank, so the result is the same on any number of ranks that divides the groups. The
running statistics follow the mean over all groups, for which the ranks send one message a step.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fer_ddp.distributed import all_reduce_sum, world_size
from fer_ddp.layers.sync_batch_norm import SyncBatchNorm, SyncBatchNormAct, convert_batch_norm


class GroupedBatchNorm(SyncBatchNorm):
    """nn.BatchNorm1d, 2d and 3d in one, for each of ``groups`` equal, contiguous parts of this rank's batch.

    Input, output, parameters and buffers as in `SyncBatchNorm`. Training leaves the statistics of each pass in
    ``pending``: (means and unbiased variances (2, C), the share of the running statistics that they make up);
    `merge_statistics` takes them. Raises ValueError if the batch has no such parts.
    """

    groups: int
    pending: list[tuple[Tensor, float | Tensor]]

    def _normalized(self, input: Tensor) -> Tensor:
        if len(input) % self.groups:
            raise ValueError(f"GroupedBatchNorm: {len(input)} samples have no {self.groups} equal groups")
        dtype = torch.promote_types(input.dtype, torch.float32)
        found = torch.zeros(self.groups, 2, self.num_features, dtype=dtype, device=input.device)
        outputs = [
            F.batch_norm(part, mean, variance, self.weight, self.bias, training=True, momentum=1.0, eps=self.eps)
            for part, (mean, variance) in zip(input.chunk(self.groups), found, strict=True)
        ]
        self.pending.append((found.mean(0), self._share()))
        return outputs[0] if self.groups == 1 else torch.cat(outputs)


class GroupedBatchNormAct(SyncBatchNormAct, GroupedBatchNorm):
    """The grouped form of timm's BatchNormAct2d."""


def group_batch_norm(module: nn.Module, groups: int) -> nn.Module:
    """As `convert_batch_norm`, but into `GroupedBatchNorm`, of ``groups`` on this rank; see there."""
    for child in convert_batch_norm(module).modules():
        if isinstance(child, SyncBatchNorm):
            child.__class__ = GroupedBatchNormAct if isinstance(child, SyncBatchNormAct) else GroupedBatchNorm
            child.groups, child.pending = groups, []  # type: ignore[assignment]
    return module


def merge_statistics(layers: Iterable[GroupedBatchNorm]) -> None:
    """Update the running statistics of ``layers`` by the groups of all ranks, which must all call it."""
    waiting = [(layer, *each) for layer in layers for each in layer.pending]
    if not waiting:
        return
    sums = all_reduce_sum(torch.cat([statistics.flatten() for _, statistics, _ in waiting]))
    means = (sums / world_size()).split([statistics.numel() for _, statistics, _ in waiting])
    for (layer, statistics, share), mean in zip(waiting, means, strict=True):
        if layer.running_mean is not None and layer.running_var is not None:
            for running, merged in zip((layer.running_mean, layer.running_var), mean.view_as(statistics), strict=True):
                running.lerp_(merged.to(running.dtype), share)
        layer.pending.clear()
