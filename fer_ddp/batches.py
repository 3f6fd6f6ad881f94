"""The batch of any step, augmented: a function of the job, the data and the step, not of what came before."""

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


class Batches:
    """``batches[step]`` is this rank's `Batch` of ``step``; the data stay on the device."""

    def __init__(self, job: Job, dataset: FERDataset, steps: Steps, device: torch.device) -> None:
        self._job, self._steps = job, steps
        self._dtype = compute_dtype(job.precision)
        self._images = dataset.images.to(device)
        self._labels = dataset.labels.to(device)
        self._classes = len(dataset.class_names)
        self._mean, self._std = normalization(job.data, dataset.manifest, device, self._dtype)
        self._order: Order
        if job.data.order == "class_balanced":
            self._order = class_balanced_order(dataset.labels, job.seed, device)
        else:
            self._order = shuffled_order(len(dataset), job.seed, device)

    def __getitem__(self, step: int) -> Batch:
        job, place_range = self._job, self._steps.places(step, distributed.rank())
        places = torch.arange(place_range.start, place_range.stop, device=self._labels.device)
        index = self._order(place_range)
        labels = self._labels[index]
        targets = functional.one_hot(labels, self._classes).to(self._dtype)
        images = augment(self._images[index], places, job.augment, job.seed, self._mean, self._std, self._dtype)
        if job.augment.mixes:
            images, targets = mix_pairs(images, targets, places, job.augment, job.seed)
        images = to_memory_format(images, job.memory_format)
        return Batch(images=images, targets=targets, labels=labels, places=places)
