"""The batch of any step, augmented: a function of the job, the data and the step, not of what came before."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fer_ddp import distributed
from fer_ddp.augment import augment, mix_pairs
from fer_ddp.config import Job
from fer_ddp.data import FERDataset, normalization
from fer_ddp.precision import compute_dtype, to_memory_format
from fer_ddp.sequence import Order, Steps, class_balanced_order, shuffled_order
from fer_ddp.stream import StreamedImages, StreamedSplit, StreamedSteps
from shards.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One rank's part of a step."""

    images: Tensor
    """Augmented and normalized, (batch, channels, height, width), float32 or float64, in the job's memory format."""
    targets: Tensor
    """Class probabilities after mixing, (batch, classes)."""
    labels: Tensor
    """int64 (batch,), before mixing."""
    places: Tensor
    """int64 (batch,), where each sample stands in the training sequence."""


_Samples = Callable[[int], tuple[Tensor, Tensor]]
"""A step's pixels, uint8 (batch, channels, height, width), and labels, int64 (batch,), on the device."""


class Batches:
    """``batches[step]`` is this rank's `Batch` of ``step``; the data stay on the device, or are read ahead of it."""

    def __init__(self, job: Job, dataset: FERDataset | StreamedSplit, steps: Steps, device: torch.device) -> None:
        self._job, self._steps, self._device = job, steps, device
        self._dtype = compute_dtype(job.precision)
        self._classes = len(dataset.class_names)
        self._mean, self._std = normalization(job.data, dataset.manifest, device, self._dtype)
        where = device if isinstance(dataset.images, Tensor) else torch.device("cpu")
        order: Order
        if job.data.order == "class_balanced":
            order = class_balanced_order(dataset.labels, job.seed, where)
        else:
            order = shuffled_order(len(dataset), job.seed, where)

        def numbers_of(step: int) -> Tensor:
            return order(steps.places(step, distributed.rank()))

        self._samples: _Samples
        if isinstance(dataset.images, Tensor):
            self._samples = _resident(dataset.images.to(device), dataset.labels.to(device), numbers_of)
        else:
            self._samples = _streamed(dataset.images, dataset.labels, numbers_of, steps.local_batch_size, device)

    def __getitem__(self, step: int) -> Batch:
        job, place_range = self._job, self._steps.places(step, distributed.rank())
        places = torch.arange(place_range.start, place_range.stop, device=self._device)
        pixels, labels = self._samples(step)
        targets = functional.one_hot(labels, self._classes).to(self._dtype)
        images = augment(pixels, places, job.augment, job.seed, self._mean, self._std, self._dtype)
        if job.augment.mixes:
            images, targets = mix_pairs(images, targets, places, job.augment, job.seed)
        images = to_memory_format(images, job.memory_format)
        return Batch(images=images, targets=targets, labels=labels, places=places)


def _resident(images: Tensor, labels: Tensor, numbers_of: Callable[[int], Tensor]) -> _Samples:
    def samples(step: int) -> tuple[Tensor, Tensor]:
        numbers = numbers_of(step)
        return images[numbers], labels[numbers]

    return samples


def _streamed(
    images: StreamedImages, labels: Tensor, numbers_of: Callable[[int], Tensor], size: int, device: torch.device
) -> _Samples:
    steps = StreamedSteps(images, numbers_of, size, pin_memory=device.type == "cuda")

    def samples(step: int) -> tuple[Tensor, Tensor]:
        try:
            numbers, pixels = steps[step]
        except DataError as error:
            distributed.say_alone(f"rank {distributed.rank()}: {error}")
            raise
        return pixels.to(device, non_blocking=True), labels[numbers].to(device, non_blocking=True)

    return samples
