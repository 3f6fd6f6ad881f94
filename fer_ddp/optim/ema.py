"""An exponential moving average of the weights and buffers, kept in torch's AveragedModel."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from fer_ddp.constraints import OpenFraction


@dataclass(frozen=True, kw_only=True, slots=True)
class EmaConfig:
    """Where it is on, validation, ``best``, predictions and export use the averaged weights."""

    decay: OpenFraction | None = None
    """Weight of the old average at each step, such as 0.999; null is off."""


def build_ema(model: nn.Module, config: EmaConfig) -> AveragedModel | None:
    """The average of ``model`` (its first update copies the model), or None where it is off."""
    return None if config.decay is None else AveragedModel(model)


@torch.no_grad()
def update_ema(ema: AveragedModel, model: nn.Module, config: EmaConfig) -> None:
    """Update the average from ``model``; integer buffers are copied.

    AveragedModel's own update waits for the GPU at each step, to copy the number of updates to it.
    """
    assert config.decay is not None
    averaged = [*ema.module.parameters(), *ema.module.buffers()]
    current = [*model.parameters(), *model.buffers()]
    is_first = bool(ema.n_averaged == 0)
    moving, towards = [], []
    for average, tensor in zip(averaged, current, strict=True):
        if is_first or not average.is_floating_point():
            average.copy_(tensor)
        else:
            moving.append(average)
            towards.append(tensor)
    if moving:
        torch._foreach_lerp_(moving, towards, 1 - config.decay)
    ema.n_averaged += 1
