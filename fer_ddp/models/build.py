"""Builds the model a job names: initialized from the seed, on its device, with all that DDP needs put in."""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from fer_ddp.errors import JobError
from fer_ddp.layers.dropout import SamplePositions, replace_dropout
from fer_ddp.layers.sync_batch_norm import convert_batch_norm
from fer_ddp.models.registry import create_model


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Which model, and its constructor's arguments."""

    name: str
    """A name in `registry.MODELS`, or ``torchvision/NAME`` for a classification model of torchvision."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Passed to the model's constructor, such as ``dropout: 0.5``."""


def build_model(
    config: ModelConfig,
    *,
    seed: int,
    image_shape: tuple[int, int, int],
    num_classes: int,
) -> nn.Module:
    """The model on the CPU in float32, initialized from the seed, its dropout following the samples' positions.

    ``image_shape``: of the images it is to take (channels, height, width). Drawn on the CPU, so the weights are the
    same on any device. Raises JobError.
    """
    channels, height, width = image_shape
    if height != width:
        raise JobError(f"data: the images are {width} x {height}; the models take square ones; pack squares")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = create_model(
                config.name,
                config.arguments,
                in_channels=channels,
                image_size=height,
                num_classes=num_classes,
            )
        except ValueError as error:
            raise JobError(str(error)) from None
    model = replace_dropout(model, seed)
    _check_randomness(model, config.name, image_shape)
    return model


def _check_randomness(model: nn.Module, name: str, image_shape: tuple[int, int, int]) -> None:
    """Refuse a model whose training forward draws from torch's own generator, or gives more than logits."""
    trial = copy.deepcopy(model).train()
    SamplePositions.of(trial).set(torch.arange(2))
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


def prepare_model(
    model: nn.Module, *, device: torch.device, precision: str, memory_format: str, world_size: int
) -> nn.Module:
    """Move to the device and memory format; with several ranks, synchronize the batch norms."""
    if world_size > 1:
        model = convert_batch_norm(model, device.type)
    dtype = torch.float64 if precision == "float64" else torch.float32
    layout = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    return model.to(device=device, dtype=dtype).to(memory_format=layout)
