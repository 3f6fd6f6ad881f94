"""An exponential moving average of the weights and buffers, on torch's AveragedModel."""

from dataclasses import dataclass

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fer_ddp.fields import OpenFraction


@dataclass(frozen=True, kw_only=True, slots=True)
class EmaConfig:
    """Where it is on, validation, ``best``, predictions and export use the averaged weights."""

    decay: OpenFraction | None = None
    """What is kept of the average at each step, such as 0.999; null is off."""


def build_ema(network: nn.Module, config: EmaConfig) -> AveragedModel | None:
    """The average of ``network`` (after its first update a copy of it), or None where it is off."""
    if config.decay is None:
        return None
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.decay), use_buffers=True)
