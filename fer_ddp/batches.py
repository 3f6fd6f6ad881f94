"""The batch of any step, augmented: a function of the job, the data and the step, not of what came before."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fer_ddp import distributed
from fer_ddp.augment import augment, mix_pairs
from fer_ddp.config import Job
from fer_ddp.data import FERDataset, normalization, with_statistics
from fer_ddp.precision import compute_dtype, to_memory_format
from fer_ddp.sequence import Order, Steps, class_balanced_order, shuffled_order
from fer_ddp.stream import StreamedImages, StreamedSplit, StreamedSteps
from shards.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """One rank's part of a step, as it is stored."""

    pixels: Tensor
    """uint8 (batch, channels, height, width), on the device."""
    labels: Tensor
    """int64 (batch,)."""
    places: Tensor
    """int64 (batch,), where each sample stands in the training sequence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One rank's part of a step, as the network takes it."""

    images: Tensor
    """Augmented and normalized, (batch, channels, height, width), float32 or float64, in the job's memory format."""
    targets: Tensor
    """Class probabilities after mixing, (batch, classes)."""
    labels: Tensor
    """int64 (batch,), before mixing."""
    places: Tensor
    """int64 (batch,), where each sample stands in the training sequence."""


_Read = Callable[[int], tuple[Tensor, Tensor]]
"""A step's pixels and labels, as in `Samples`."""


class Batches:
    """``batches[step]`` is this rank's `Batch` of ``step``; the data stay on the device, or are read ahead of it."""

    def __init__(self, job: Job, dataset: FERDataset | StreamedSplit, steps: Steps, device: torch.device) -> None:
        self._job, self.steps, self._device = job, steps, device
        self._dtype = compute_dtype(job.precision)
        self._classes = len(dataset.class_names)
        self._mean, self._std = normalization(with_statistics(job.data, dataset.manifest), device, self._dtype)
        where = device if isinstance(dataset.images, Tensor) else torch.device("cpu")
        order: Order
        if job.data.order == "class_balanced":
            order = class_balanced_order(dataset.labels, job.seed, where)
        else:
            order = shuffled_order(len(dataset), job.seed, where)

        def numbers_of(step: int) -> Tensor:
            return order(steps.places(step, distributed.rank()))

        self._read: _Read
        if isinstance(dataset.images, Tensor):
            self._read = _resident(dataset.images.to(device), dataset.labels.to(device), numbers_of)
        else:
            self._read = _streamed(dataset.images, dataset.labels, numbers_of, steps.local_batch_size, device)

    def __getitem__(self, step: int) -> Batch:
        return self.augmented(self.samples(step))

    def samples(self, step: int) -> Samples:
        """This rank's part of ``step``, from which `augmented` makes its batch."""
        places = self.steps.places(step, distributed.rank())
        pixels, labels = self._read(step)
        return Samples(
            pixels=pixels, labels=labels, places=torch.arange(places.start, places.stop, device=self._device)
        )

    def augmented(self, samples: Samples) -> Batch:
        """The batch of ``samples``: a function of them alone, in operations of the device."""
        job, places = self._job, samples.places
        targets = functional.one_hot(samples.labels, self._classes).to(self._dtype)
        images = augment(samples.pixels, places, job.augment, job.seed, self._mean, self._std, self._dtype)
        if job.augment.mixes:
            images, targets = mix_pairs(images, targets, places, job.augment, job.seed)
        images = to_memory_format(images, job.memory_format)
        return Batch(images=images, targets=targets, labels=samples.labels, places=places)


def _resident(images: Tensor, labels: Tensor, numbers_of: Callable[[int], Tensor]) -> _Read:
    def read(step: int) -> tuple[Tensor, Tensor]:
        numbers = numbers_of(step)
        return images[numbers], labels[numbers]

    return read


def _streamed(
    images: StreamedImages, labels: Tensor, numbers_of: Callable[[int], Tensor], size: int, device: torch.device
) -> _Read:
    steps = StreamedSteps(images, numbers_of, size, pin_memory=device.type == "cuda")

    def read(step: int) -> tuple[Tensor, Tensor]:
        try:
            numbers, pixels = steps[step]
        except DataError as error:
            distributed.say_alone(f"rank {distributed.rank()}: {error}")
            raise
        answers = labels[numbers].pin_memory() if device.type == "cuda" else labels[numbers]
        return pixels.to(device, non_blocking=True), answers.to(device, non_blocking=True)

    return read
