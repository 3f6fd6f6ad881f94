"""Optimizers: torch's Adam, AdamW and SGD, fused."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fer_ddp.constraints import BelowOne, NonNegativeFloat, PositiveFloat


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """Which optimizer, and its constants."""

    name: Literal["adam", "adamw", "sgd"]
    """adam adds the weight decay to the gradient (L2), adamw to the step (decoupled)."""
    lr: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
    """Learning rate, 1000 at most; the highest one of a onecycle or cosine schedule."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay of all parameters, as torch applies it."""
    momentum: BelowOne = 0.0
    """SGD's momentum."""
    nesterov: bool = False
    """SGD with Nesterov momentum."""
    gradient_clip_norm: PositiveFloat | None = None
    """The maximum norm of the gradient of all parameters together; null does not clip."""

    def __post_init__(self) -> None:
        if self.name != "sgd" and (self.momentum or self.nesterov):
            raise ValueError(f"momentum and nesterov belong to sgd; take them out or choose sgd instead of {self.name}")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0, such as 0.9")


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer of all parameters of ``model``."""
    parameters = list(model.parameters())
    if config.name == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
            fused=True,
        )
    adam = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return adam(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def skip_update_if(optimizer: torch.optim.Optimizer, condition: Tensor) -> None:
    """Make the next ``optimizer.step()`` change nothing where ``condition`` (a bool scalar on its device) is true.

    torch's GradScaler tells fused optimizers of an overflow in this way, without waiting for the device.
    """
    optimizer.found_inf = condition.float()  # type: ignore[attr-defined]
