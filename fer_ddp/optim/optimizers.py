"""Optimizers: torch's Adam, AdamW and SGD, fused; Muon."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

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
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Learning rate of each layer, relative to the one after it, such as 0.75; the head has the whole one (Clark et al.
    2020, arXiv 2003.10555; docs/models.md shows which layers there are). null: all layers learn equally fast."""
    decay_norm_and_bias: bool = True
    """Whether the weight decay includes norms' parameters and biases; false is timm's default."""
    gradient_clip_norm: PositiveFloat | None = None
    """The maximum norm of the gradient of all parameters together; null does not clip."""

    def __post_init__(self) -> None:
        if self.name != "sgd" and (self.nesterov or (self.momentum and self.name != "muon")):
            raise ValueError(f"momentum and nesterov belong to sgd; take them out or choose sgd instead of {self.name}")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0, such as 0.9")
        if self.layer_decay is not None and self.name == "muon":
            raise ValueError("layer_decay belongs to adam, adamw and sgd; take it out or choose one of them")


def build_optimizer(
    model: nn.Module, config: OptimizerConfig, layers: Sequence[Sequence[str]] | None = None
) -> torch.optim.Optimizer:
    """The optimizer of all parameters of ``model`` that are not frozen.

    ``layers``: the names of all parameters, by layer from the input to the head; needed for ``layer_decay``.
    """
    parameters: list[Any] = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.name != "muon" and (layers is not None or not config.decay_norm_and_bias):
        parameters = _groups(model, config, layers or [[name for name, _ in model.named_parameters()]])
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


def _groups(model: nn.Module, config: OptimizerConfig, layers: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """One group of parameters for each learning rate and weight decay; the head's first, whose rate is logged."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    spared: Collection[str] = getattr(model, "no_weight_decay", set)()  # timm's models name position embeddings
    groups = []
    for depth, layer in enumerate(reversed(layers)):
        own = [(name, trained[name]) for name in layer if name in trained]
        decayed = [
            config.decay_norm_and_bias or (each.dim() > 1 and not name.endswith(".bias") and name not in spared)
            for name, each in own
        ]
        for decay in (True, False):
            parameters = [
                parameter for (_, parameter), is_decayed in zip(own, decayed, strict=True) if is_decayed == decay
            ]
            if parameters:
                rates = {"lr": config.lr * (config.layer_decay or 1.0) ** depth}
                groups.append({"params": parameters} | rates | ({} if decay else {"weight_decay": 0.0}))
    return groups


def skip_update_if(optimizer: torch.optim.Optimizer, condition: Tensor) -> None:
    """Make the next ``optimizer.step()`` change nothing where ``condition`` (a bool scalar on its device) is true.

    torch's GradScaler tells fused optimizers of an overflow in this way, without waiting for the device.
    """
    optimizer.found_inf = condition.float()  # type: ignore[attr-defined]
