"""Optimizers: torch's Adam, AdamW and SGD, fused; Muon."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from fer_ddp.constraints import BelowOne, NonNegativeFloat, PositiveFloat
from fer_ddp.optim.muon import Muon


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """Which optimizer, and its constants."""

    name: Literal["adam", "adamw", "sgd", "muon"]
    """adam adds the weight decay to the gradient (L2), adamw to the step (decoupled).

    muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) updates the filters of convolutions, adamw all else.
    """
    lr: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
    """Learning rate, 1000 at most; the highest one of a onecycle or cosine schedule."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay of all parameters, as torch applies it; with muon, of the weights of linear layers alone."""
    momentum: BelowOne = 0.0
    """Momentum of sgd, or of muon, which uses it in Nesterov's form."""
    nesterov: bool = False
    """SGD with Nesterov momentum."""
    adamw_lr: PositiveFloat = 0.004
    """muon: the learning rate of all parameters but the filters of convolutions."""
    sam_radius: NonNegativeFloat = 0.0
    """Sharpness-aware minimization (Foret et al. 2021, arXiv 2010.01412): gradients are taken at the weights moved
    uphill by this, such as 0.05, in twice the time; 0 is off."""
    sam_every_steps: PositiveInt = 1
    """Only every so many steps are sharpness-aware; the others are plain (LookSAM, Liu et al. 2022, arXiv 2203.02714,
    without its reuse of gradients)."""
    gradient_clip_norm: PositiveFloat | None = None
    """The maximum norm of the gradient of all parameters together; null does not clip."""

    def __post_init__(self) -> None:
        if self.name != "sgd" and (self.nesterov or (self.momentum and self.name != "muon")):
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
    if config.name == "muon":
        return Muon(
            parameters,
            lr=config.lr,
            momentum=config.momentum,
            adamw_lr=config.adamw_lr,
            weight_decay=config.weight_decay,
        )
    adam = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return adam(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def skip_update_if(optimizer: torch.optim.Optimizer, condition: Tensor) -> None:
    """Make the next ``optimizer.step()`` change nothing where ``condition`` (a bool scalar on its device) is true.

    torch's GradScaler tells fused optimizers of an overflow in this way, without waiting for the device.
    """
    optimizer.found_inf = condition.float()  # type: ignore[attr-defined]
