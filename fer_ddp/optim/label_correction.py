"""Targets that move from the labels to the model's own predictions, for data whose labels are partly wrong.

SELC (Lu and He, IJCAI 2022, arXiv 2205.01156): a model learns what most labels have in common before it memorizes the
wrong ones, so from some epoch on each sample's target is a running average of its label and of what the model predicted
for it, once an epoch. It costs no further computation.
"""

from dataclasses import dataclass

import torch
from pydantic import NonNegativeInt
from torch import Tensor
from torch.nn import functional

from fer_ddp.constraints import OpenFraction


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelCorrectionConfig:
    """From when and how fast targets move from the labels to the predictions."""

    momentum: OpenFraction | None = None
    """Weight of a sample's old target at each epoch, such as 0.95, the rest being the model's prediction for it (SELC,
    Lu and He 2022, arXiv 2205.01156); null is off. One rank, without mixup and cutmix."""
    start_epoch: NonNegativeInt = 10
    """Epochs that are trained on the labels alone."""


class LabelCorrection:
    """The target of each training sample."""

    def __init__(self, labels: Tensor, classes: int, config: LabelCorrectionConfig, dtype: torch.dtype) -> None:
        """labels: int64 (samples,), on the device where the targets are to be."""
        assert config.momentum is not None
        self._momentum = config.momentum
        self.start_epoch = config.start_epoch
        self.targets = functional.one_hot(labels, classes).to(dtype)
        """(samples, classes), each row a probability distribution."""

    def corrected(self, indices: Tensor, logits: Tensor) -> Tensor:
        """Move the targets of the samples at ``indices``, int64 (batch,), to the predictions; returns (batch, classes).

        logits: (batch, classes), any float dtype.
        """
        predictions = logits.detach().to(self.targets.dtype).softmax(dim=1)
        moved = self.targets[indices].lerp(predictions, 1 - self._momentum)
        self.targets[indices] = moved
        return moved
