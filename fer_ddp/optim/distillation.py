"""Learning from a teacher's probabilities besides the labels (knowledge distillation, Hinton et al. 2015)."""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor
from torch.nn import functional

from fer_ddp.constraints import PositiveFloat, UserPath


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillationConfig:
    """The teacher, and how much of the loss is its."""

    teacher: Annotated[tuple[UserPath, ...], BeforeValidator(_as_tuple)] = ()
    """Whose probabilities of the training images are learned besides the labels (Hinton et al. 2015, arXiv 1503.02531):
    a run, an ensemble or a CSV of predictions, or a list of them; a sample gets the mean of those that have it. Empty
    is off."""
    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The teacher's part of the loss; the labels have the rest."""
    temperature: PositiveFloat = 2.0
    """Divides the logits of both in the teacher's part, whose gradients are scaled back by its square."""


def softened(probabilities: Tensor, temperature: float) -> Tensor:
    """The probabilities (samples, classes) at a temperature: as if their logits had been divided by it."""
    tiny = torch.finfo(probabilities.dtype).tiny
    return (probabilities.clamp(min=tiny).log() / temperature).softmax(dim=1)


def distilled_loss(label_loss: Tensor, logits: Tensor, teacher: Tensor, config: DistillationConfig) -> Tensor:
    """The labels' summed loss and the cross-entropy of the teacher's softened probabilities, by ``config.weight``.

    label_loss: a scalar; logits: (batch, classes), any float dtype; teacher: (batch, classes), float32 or float64.
    """
    softer = logits.to(teacher.dtype) / config.temperature
    imitation = functional.cross_entropy(softer, teacher, reduction="sum") * config.temperature**2
    return (1 - config.weight) * label_loss + config.weight * imitation
