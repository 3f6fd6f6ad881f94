"""Evaluation of the bare model on rank zero, every sample once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fer_ddp.augment.pixels import normalize, to_unit_range
from fer_ddp.augment.views import ViewsConfig, mean_over_views
from fer_ddp.data.dataset import DataConfig, FERDataset, normalization
from fer_ddp.data.stream import StreamedSplit
from fer_ddp.evaluation.class_mapping import ImageBatches
from fer_ddp.metrics.classification import ValidationMetrics, check_predictions, validation_metrics
from fer_ddp.models.own_code import failure_of_own_code
from fer_ddp.precision import autocast, compute_dtype, to_memory_format

BATCH_SIZE = 512
"""Images in a batch; evaluation keeps no activations, so it can be large."""
CPU_BATCH_SIZE = 128
"""On a CPU, whose caches hold no more of a layer; 512 takes 10 to 50 % longer (docs/performance.md)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluator:
    """Evaluates a model in the job's precision, memory format and normalization."""

    device: torch.device
    precision: str
    memory_format: str
    mean: Tensor
    """(channels, 1, 1)."""
    std: Tensor
    """(channels, 1, 1)."""
    views: ViewsConfig = field(default_factory=ViewsConfig)
    """The views of each image whose probabilities are averaged; by default the image alone."""

    @staticmethod
    def of(
        data: DataConfig, precision: str, memory_format: str, device: torch.device, views: ViewsConfig | None = None
    ) -> "Evaluator":
        """The evaluator of a resolved job: mean and std are given; precision and memory format are not auto."""
        mean, std = normalization(data, device, compute_dtype(precision))
        return Evaluator(
            device=device,
            precision=precision,
            memory_format=memory_format,
            mean=mean,
            std=std,
            views=views or ViewsConfig(),
        )

    def probabilities(
        self, model: nn.Module, images: ImageBatches, between_batches: Callable[[], None] = lambda: None
    ) -> NDArray[np.floating[Any]]:
        """Class probabilities of images uint8 (n, channels, height, width): (n, classes), float32 or float64.

        ``between_batches`` may raise to end the evaluation early.
        """
        return torch.cat([part.cpu() for part in self._by_batch(model, images, between_batches)]).numpy()

    def _by_batch(
        self, model: nn.Module, images: ImageBatches, between_batches: Callable[[], None]
    ) -> Iterator[Tensor]:
        was_training = model.training
        model.eval()
        for batch in images.split(CPU_BATCH_SIZE if self.device.type == "cpu" else BATCH_SIZE):
            between_batches()
            with torch.inference_mode():
                one_view = partial(self._probabilities, model)
                probabilities = mean_over_views(one_view, batch.to(self.device), self.views)
            yield probabilities
        model.train(was_training)

    def _probabilities(self, model: nn.Module, images: Tensor) -> Tensor:
        pixels = normalize(to_unit_range(images, self.mean.dtype), self.mean, self.std)
        try:
            with autocast(self.device, self.precision):
                logits: Tensor = model(to_memory_format(pixels, self.memory_format))
        except Exception as error:
            failure = None if isinstance(error, torch.OutOfMemoryError) else failure_of_own_code(error)
            if failure is None:
                raise
            raise failure from None
        return logits.to(self.mean.dtype).softmax(dim=1)

    def metrics(
        self,
        model: nn.Module,
        dataset: FERDataset | StreamedSplit,
        between_batches: Callable[[], None] = lambda: None,
    ) -> ValidationMetrics:
        """`fer_ddp.metrics.classification.validation_metrics` of ``model`` on a split, counted on the device.

        Raises RunError if there is no sample or the model's output is not finite.
        """
        probabilities = torch.cat(list(self._by_batch(model, dataset.images, between_batches)))
        labels, classes = dataset.labels.to(self.device), len(dataset.class_names)
        if not len(labels) or not probabilities.isfinite().all():
            check_predictions(dataset.labels.numpy(), probabilities.cpu().numpy(), dataset.class_names)
        pairs = labels * classes + probabilities.argmax(dim=1)
        confusion = pairs.bincount(minlength=classes**2).view(classes, classes)
        likelihoods = probabilities.gather(1, labels[:, None])[:, 0]
        return validation_metrics(confusion.cpu().numpy(), likelihoods.cpu().numpy())
