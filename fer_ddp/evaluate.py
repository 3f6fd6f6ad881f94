"""Evaluation on rank zero, of the bare network, every sample once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fer_ddp.augment import normalize, to_unit_range
from fer_ddp.config import Job
from fer_ddp.data import FERDataset, normalization
from fer_ddp.metrics import classification_metrics
from fer_ddp.precision import autocast, compute_dtype, to_memory_format
from fer_ddp.stream import StreamedImages, StreamedSplit

BATCH_SIZE = 512
"""Images at once; evaluation keeps no activations, so it can be large."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluator:
    """Evaluates a network as the job computes: precision, memory format, normalization."""

    device: torch.device
    precision: str
    memory_format: str
    mean: Tensor
    """(channels, 1, 1)."""
    std: Tensor
    """(channels, 1, 1)."""

    @staticmethod
    def of(job: Job, device: torch.device) -> "Evaluator":
        """The evaluator of ``job``, whose ``auto`` is decided and whose mean and std are there."""
        mean, std = normalization(job.data, device, compute_dtype(job.precision))
        return Evaluator(device=device, precision=job.precision, memory_format=job.memory_format, mean=mean, std=std)

    def probabilities(
        self, network: nn.Module, images: Tensor | StreamedImages, between_batches: Callable[[], None] = lambda: None
    ) -> NDArray[np.floating[Any]]:
        """Class probabilities of images uint8 (n, channels, height, width): (n, classes), float32 or float64.

        ``between_batches`` may raise to end the evaluation early.
        """
        was_training = network.training
        network.eval()
        parts = []
        with torch.inference_mode():
            for batch in images.split(BATCH_SIZE):
                between_batches()
                pixels = to_unit_range(batch.to(self.device), self.mean.dtype)
                pixels = to_memory_format(normalize(pixels, self.mean, self.std), self.memory_format)
                with autocast(self.device, self.precision):
                    logits = network(pixels)
                parts.append(logits.to(self.mean.dtype).softmax(dim=1).cpu())
        network.train(was_training)
        return torch.cat(parts).numpy()

    def metrics(
        self,
        network: nn.Module,
        dataset: FERDataset | StreamedSplit,
        between_batches: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """`fer_ddp.metrics.classification_metrics` of ``network`` on a split."""
        probabilities = self.probabilities(network, dataset.images, between_batches)
        return classification_metrics(dataset.labels.numpy(), probabilities, dataset.class_names)
