"""Cross-entropy whose sum over all ranks and micro-batches is the global batch's mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from fer_ddp.constraints import BelowOne


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """The loss function."""

    label_smoothing: BelowOne = 0.0
    """The part of each target that is spread evenly over all classes (Szegedy et al. 2016)."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: a class's weight is inverse to its count in train, with mean 1 over the training samples."""


def balanced_class_weights(class_counts: Sequence[int]) -> Tensor:
    """float64 (classes,): total / (classes present * count), so that the mean over the samples is 1; 0 if absent."""
    counts = torch.tensor(class_counts, dtype=torch.float64)
    present = counts > 0
    return torch.where(present, counts.sum() / (present.sum() * counts.clamp(min=1)), 0.0)


def summed_loss(logits: Tensor, targets: Tensor, config: LossConfig, class_weights: Tensor | None) -> Tensor:
    """The sum over the samples of the weighted cross-entropy; divided by the global batch size it is the mean.

    A mean of the ranks' weighted means would differ from it, hence the sum. logits: (batch, classes), any float
    dtype; targets: class probabilities (batch, classes), float32 or float64; class_weights: (classes,) or None.
    """
    return functional.cross_entropy(
        logits.to(targets.dtype),
        targets,
        weight=class_weights,
        label_smoothing=config.label_smoothing,
        reduction="sum",
    )
