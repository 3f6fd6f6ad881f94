"""Builds the network a job names: initialized from the seed, on its device, with all that DDP needs put in."""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from fer_ddp.dropout import CurrentPlaces, PlaceDropout, replace_dropout
from fer_ddp.errors import JobError
from fer_ddp.models import build_model
from fer_ddp.sync_batch_norm import convert_batch_norm


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Which network, and its constructor's arguments."""

    name: str
    """A name in `fer_ddp.models.MODELS`, or ``torchvision/NAME`` for a classification network of torchvision."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Passed to the network's constructor, such as ``dropout: 0.5``."""


def build_network(
    config: ModelConfig,
    *,
    seed: int,
    image_shape: tuple[int, int, int],
    num_classes: int,
    current: CurrentPlaces,
) -> nn.Module:
    """The network on the CPU in float32, initialized from the seed, its dropout following ``current``.

    ``image_shape``: of the images it is to take (channels, height, width). Drawn on the CPU, so the weights are the
    same on any device. Raises JobError.
    """
    channels, height, width = image_shape
    if height != width:
        raise JobError(f"data: the images are {width} x {height}; the networks take square ones; pack squares")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = build_model(
                config.name,
                config.arguments,
                in_channels=channels,
                image_size=height,
                num_classes=num_classes,
            )
        except ValueError as error:
            raise JobError(str(error)) from None
    network = replace_dropout(network, seed, current)
    _check_randomness(network, config.name, image_shape)
    return network


def _check_randomness(network: nn.Module, name: str, image_shape: tuple[int, int, int]) -> None:
    """Refuse a network whose training forward draws from torch's own generator, or gives more than logits."""
    trial = copy.deepcopy(network).train()
    for module in trial.modules():
        if isinstance(module, PlaceDropout):
            module.current.set(torch.arange(2))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        output = trial(torch.zeros(2, *image_shape))
        drawn = not torch.equal(before, torch.get_rng_state())
    if not isinstance(output, torch.Tensor):
        raise JobError(f"model: {name} gives {type(output).__name__} in training, not logits alone; turn that off")
    if drawn:
        raise JobError(
            f"model: {name} draws random numbers of its own in training, so its curve would depend on the number of "
            f"ranks; set its dropout to 0, or use nn.Dropout modules"
        )


def place_network(
    network: nn.Module, *, device: torch.device, precision: str, memory_format: str, world_size: int
) -> nn.Module:
    """Move to the device and memory format; with several ranks, synchronize the batch norms."""
    if world_size > 1:
        network = convert_batch_norm(network, device.type)
    dtype = torch.float64 if precision == "float64" else torch.float32
    layout = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    return network.to(device=device, dtype=dtype).to(memory_format=layout)
