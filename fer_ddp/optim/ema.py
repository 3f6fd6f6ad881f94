"""An exponential moving average of the weights and buffers, kept in torch's AveragedModel."""

import dataclasses
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
    warmup: bool | None = None
    """After n updates the old average's weight is at most (1 + n) / (10 + n), as in TensorFlow's
    ExponentialMovingAverage with num_updates, so that the first epochs' averages hold no initial weights; null is on,
    but off in a run that was begun before this was the default."""

    def resolved(self) -> "EmaConfig":
        """What a new run does: with warm-up unless that is off, or there is no average."""
        return dataclasses.replace(self, warmup=self.decay is not None and self.warmup is not False)


def build_ema(model: nn.Module, config: EmaConfig) -> AveragedModel | None:
    """The average of ``model`` (its first update copies the model), or None where it is off."""
    return None if config.decay is None else AveragedModel(model)


@torch.no_grad()
def update_ema(ema: AveragedModel, model: nn.Module, config: EmaConfig) -> None:
    """Update the average from ``model``; integer buffers are copied.

    AveragedModel's own update waits for the GPU at each step, to copy the number of updates to it.
    """
    assert config.decay is not None
    updates = int(ema.n_averaged)  # it stays on the CPU
    decay = config.decay if config.warmup is False else min(config.decay, (1 + updates) / (10 + updates))
    averaged = [*ema.module.parameters(), *ema.module.buffers()]
    current = [*model.parameters(), *model.buffers()]
    moving, towards = [], []
    for average, tensor in zip(averaged, current, strict=True):
        if updates == 0 or not average.is_floating_point():
            average.copy_(tensor)
        else:
            moving.append(average)
            towards.append(tensor)
    if moving:
        torch._foreach_lerp_(moving, towards, 1 - decay)
    ema.n_averaged += 1
