"""`time_limit_s`: as many epochs as fit into a time, by steps that are timed before the first one."""

import dataclasses
import time
from collections.abc import Callable, Iterator

import torch

from fer_ddp import distributed
from fer_ddp.augment.image_size import ImageSizeConfig
from fer_ddp.config.job import Job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.data.stream import StreamedSplit
from fer_ddp.errors import JobError
from fer_ddp.text import plural
from fer_ddp.training.loop import Trainer
from fer_ddp.training.setup import build_trainer
from fer_ddp.training.state import TrainingState

_WARM_UP_STEPS, _SECONDS, _MOST_STEPS = 5, 2.0, 200


def with_epochs_that_fit(
    job: Job,
    dataset: FERDataset | StreamedSplit,
    device: torch.device,
    validate: Callable[[TrainingState], object],
) -> Job:
    """``job`` with the epochs that take ``job.time_limit_s``, at least one; called on all ranks.

    Steps of a trainer that is then thrown away are timed for each size of the training images, and one evaluation of
    val by ``validate``; rank zero's times count. Raises JobError if fewer epochs fit than the schedule warms up for.
    """
    assert job.time_limit_s is not None
    epoch_seconds = 0.0
    for side, share in _shares(job.image_size):
        sides = () if side is None else (side,)
        of_one_size = dataclasses.replace(job, image_size=ImageSizeConfig(sides=sides, until=1.0))
        trainer = build_trainer(of_one_size, dataset, distributed.world_size(), device, pretrained=False)
        epoch_seconds += share * trainer.loader.steps.end_of_epoch(1) * _step_seconds(trainer, device)
    started = time.perf_counter()
    validate(trainer.state)
    epoch_seconds += (time.perf_counter() - started) / job.evaluate.every_epochs
    epoch_seconds = distributed.broadcast_object(epoch_seconds)
    epochs = max(1, int(job.time_limit_s / epoch_seconds))
    fit = f"time_limit_s={job.time_limit_s:g}: {plural(epochs, 'epoch')} of {epoch_seconds:.3g} s"
    if job.schedule.warmup_epochs > epochs:
        raise JobError(f"{fit}, and schedule.warmup_epochs is {job.schedule.warmup_epochs}; lower it, or allow more")
    if distributed.is_main():
        print(fit, flush=True)
    return dataclasses.replace(job, epochs=epochs)


def _shares(config: ImageSizeConfig) -> Iterator[tuple[int | None, float]]:
    """Each size of the training images, None for their own, with its share of the steps."""
    for side in config.sides:
        yield side, config.until / len(config.sides)
    own = 1 - config.until if config.sides else 1.0
    if own:
        yield None, own


def _step_seconds(trainer: Trainer, device: torch.device) -> float:
    """The mean duration of a step after the first ones, which allocate memory and choose kernels."""

    def timed(steps: range) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        for step in steps:
            trainer.step(trainer.loader.raw_batch(step))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - started) / len(steps)

    timed(range(_WARM_UP_STEPS))
    estimate = distributed.broadcast_object(timed(range(_WARM_UP_STEPS, 2 * _WARM_UP_STEPS)))
    # The same number on all ranks, which wait for each other in each step.
    number = min(max(int(_SECONDS / estimate), _WARM_UP_STEPS), _MOST_STEPS)
    return timed(range(2 * _WARM_UP_STEPS, 2 * _WARM_UP_STEPS + number))
