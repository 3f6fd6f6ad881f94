"""What a recipe costs: parameters, multiplications, seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from fer_ddp.models.registry import create_model
from fer_ddp.runs.finished import FinishedRun
from fer_ddp.runs.model_source import check_model_source
from shards.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkCost:
    """The size of a model."""

    parameters: int
    multiply_accumulates: int
    """Of one image, forward: convolutions and matrix products."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeCost:
    """How long training took: medians over the recipe's runs."""

    seconds: float
    """Of all epochs, evaluation on val included; a repeated epoch counts once."""
    images_per_second: float
    """In training, without evaluation."""
    devices: tuple[str, ...]
    """The devices it was measured on, each once; if they differ, the figures are hardly comparable."""


def network_cost(run: FinishedRun, image_shape: tuple[int, int, int]) -> NetworkCost | None:
    """Build the run's model and count; None for an ensemble, and for a model that this version can't build.

    image_shape: (channels, height, width).
    """
    model = run.job.get("model", {})
    channels, height, _ = image_shape
    try:
        check_model_source(run.path, model["name"])
        # Initializing the weights must not advance the caller's random generator.
        with torch.random.fork_rng(devices=[]):
            model = create_model(
                model["name"],
                model.get("arguments", {}),
                in_channels=channels,
                image_size=height,
                num_classes=len(run.class_names),
            )
    except (KeyError, TypeError, ValueError, UserError):
        return None
    model.to("meta").eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.empty(1, *image_shape, device="meta"))
    return NetworkCost(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        multiply_accumulates=counter.get_total_flops() // 2,  # an addition and a multiplication each
    )


def time_cost(runs: Sequence[FinishedRun]) -> TimeCost | None:
    """The time cost of a recipe's runs; None if none of them recorded it."""
    seconds, speeds, devices = [], [], []
    for run in runs:
        epochs = {line["epoch"]: line for line in run.timing}.values()  # the later line of an epoch that has two
        training = [line.get("train_seconds", line["seconds"]) for line in epochs]
        if sum(training) > 0:
            seconds.append(sum(line["seconds"] for line in epochs))
            images = sum(line["images_per_second"] * spent for line, spent in zip(epochs, training, strict=True))
            speeds.append(images / sum(training))
            ranks = int(run.environment.get("world_size", 1))
            device = str(run.environment.get("device", "an unknown device"))
            devices.append(device if ranks == 1 else f"{ranks} x {device}")
    if not seconds:
        return None
    return TimeCost(seconds=median(seconds), images_per_second=median(speeds), devices=tuple(dict.fromkeys(devices)))
