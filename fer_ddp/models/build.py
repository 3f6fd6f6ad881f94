"""Builds the model a job names: initialized from the seed, on its device, ready for several ranks."""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import PositiveInt
from torch import nn

from fer_ddp.constraints import UserPath
from fer_ddp.errors import JobError
from fer_ddp.layers.batch_norm_groups import group_batch_norm
from fer_ddp.layers.dropout import SamplePositions, replace_dropout
from fer_ddp.layers.sync_batch_norm import convert_batch_norm
from fer_ddp.models.freezing import Freeze
from fer_ddp.models.own_code import describe_error
from fer_ddp.models.own_source import is_own_model, split_name
from fer_ddp.models.registry import create_model
from fer_ddp.precision import compute_dtype, torch_memory_format


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Which model, and its constructor's arguments."""

    name: str
    """A name in `registry.MODELS`; ``torchvision/NAME`` for a classification model of torchvision; ``timm/NAME`` for
    a model of timm; a model of your own is ``path/to/file.py:Class`` or ``package.module:Class``."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Passed to the model's constructor, such as ``dropout: 0.5``."""
    weights: UserPath | None = None
    """Start from these: a file of weights (safetensors, or a state dict of torch.save), a run folder, an exported
    folder, or ``default``, the pretrained ones of torchvision or timm. The head is left out where the classes are
    others; data.mean and data.std are those of the weights unless set. ``from=RUN`` is short for it."""
    batch_norm_groups: PositiveInt = 1
    """Batch norm takes its statistics over each of so many equal parts of the global batch (ghost batch normalization,
    Hoffer et al. 2017, arXiv 1705.08741); 1 is the whole batch. A multiple of the ranks, which then need not wait for
    each other in it."""
    freeze: Freeze = ()
    """Parameters that stay as they are, with their batch norm's statistics: a list of layers by name, such as
    [conv1, layer1], or backbone, all but the head."""


def build_model(
    config: ModelConfig,
    *,
    seed: int,
    image_shape: tuple[int, int, int],
    num_classes: int,
) -> nn.Module:
    """The model on the CPU in float32, initialized from the seed, with `PositionDropout` for its dropout layers.

    ``image_shape``: (channels, height, width) of its input images. It is initialized on the CPU, so the weights are the
    same on any device. Raises JobError.
    """
    channels, height, width = image_shape
    if height != width:
        raise JobError(f"data: the images are {width} x {height}, and the models need square ones; pack square images")
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
    SamplePositions.of(model).units = _check_training(model, config.name, image_shape, num_classes)
    return model


def _check_training(
    model: nn.Module, name: str, image_shape: tuple[int, int, int], num_classes: int
) -> dict[str, tuple[int, float]]:
    """The units that its dropout layers mask, from a trial with three images; `create_model` has tried two.

    Raises JobError for a model that uses torch's generator in a training forward, or returns something else than
    logits; for one of the user's own also if it can't be differentiated.
    """
    trial = copy.deepcopy(model).train()
    positions = SamplePositions.of(trial)
    positions.set(torch.arange(3))
    is_own = is_own_model(name)
    with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(is_own):
        before = torch.get_rng_state()
        try:
            output = trial(torch.zeros(3, *image_shape))
            if is_own and isinstance(output, torch.Tensor):
                output.sum().backward()
        except Exception as error:
            if not is_own:
                raise
            raise JobError(f"model: {name} fails in training: {describe_error(error, split_name(name)[0])}") from None
        drawn = not torch.equal(before, torch.get_rng_state())
    if not isinstance(output, torch.Tensor):
        raise JobError(f"model: {name} returns {type(output).__name__} in training, not logits alone; turn that off")
    if output.shape != (3, num_classes):
        raise JobError(
            f"model: {name} returns {tuple(output.shape)} for 3 images of {num_classes} classes in training, not "
            f"logits (3, {num_classes})"
        )
    if drawn:
        raise JobError(
            f"model: {name} uses torch's random generator in training, so its curve would depend on the number of "
            f"ranks; set its dropout to 0, or use nn.Dropout modules"
        )
    return positions.units


def prepare_model(
    model: nn.Module,
    *,
    device: torch.device,
    precision: str,
    memory_format: str,
    world_size: int,
    batch_norm_groups: int = 1,
) -> nn.Module:
    """Move it to its device, dtype and memory format; with several ranks or groups, convert its batch norms."""
    if batch_norm_groups > 1:
        model = group_batch_norm(model, batch_norm_groups // world_size)
    elif world_size > 1:
        model = convert_batch_norm(model)
    return model.to(device=device, dtype=compute_dtype(precision)).to(memory_format=torch_memory_format(memory_format))
