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
    """What is kept of the average at each step, such as 0.999; null is off."""


def build_ema(model: nn.Module, config: EmaConfig) -> AveragedModel | None:
    """The average of ``model`` (after its first update a copy of it), or None where it is off."""
    return None if config.decay is None else AveragedModel(model)


@torch.no_grad()
def update_ema(ema: AveragedModel, model: nn.Module, config: EmaConfig) -> None:
    """Move the average on to ``model``; counters in it become the model's.

    AveragedModel's own update waits for a GPU at each step, to which it brings the number of updates.
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
