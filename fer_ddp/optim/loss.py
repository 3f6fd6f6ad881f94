"""Losses whose sum over all ranks and micro-batches is the global batch's mean."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, LiteralString

import torch
from pydantic import ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError, ValidationError
from torch import Tensor
from torch.nn import functional

from fer_ddp.constraints import BelowOne, NonNegativeFloat
from fer_ddp.errors import JobError
from fer_ddp.text import closest
from shards.labels import class_meaning

SET_FLOOR = 0.001
"""What a class outside a sample's set counts where several classes are right, so that the loss stays finite."""


def _in_one_message(message: LiteralString) -> WrapValidator:
    """One error for all the types that a value may have."""

    def validated(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError:
            raise PydanticCustomError("one_of_several_types", message) from None

    return WrapValidator(validated)


ClassWeights = Annotated[
    Literal["none", "balanced"] | list[NonNegativeFloat] | dict[str, NonNegativeFloat],
    _in_one_message(
        "none, balanced, a list of a number for each class, or numbers by the classes' names, all 0 or more"
    ),
]
SmoothingMatrix = Annotated[
    Literal["even", "votes"] | list[list[NonNegativeFloat]],
    _in_one_message("even, votes, or a list of a row for each class, of a number for each class, all 0 or more"),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """The loss function."""

    name: Literal["cross_entropy", "focal"] = "cross_entropy"
    """focal: what is classified well already counts less (Lin et al. 2017, arXiv 1708.02002, with softmax)."""
    focal_gamma: NonNegativeFloat = 2.0
    """The focal loss multiplies the cross-entropy of a class of probability p by (1 - p) to this power; 0 changes
    nothing."""
    label_smoothing: BelowOne = 0.0
    """The part of each target that is spread over all classes (Szegedy et al. 2016)."""
    smoothing_matrix: SmoothingMatrix = "even"
    """How it is spread: even; votes, as people voted on the training images of the target's class (FER+'s votes); or a
    row for each class in label order, of shares of each class that sum to 1."""
    class_weights: ClassWeights = "none"
    """balanced: a class's weight is inverse to its count in train, with mean 1 over the training samples; or one number
    a class, as [1, 3, 1, 1, 1, 1, 1] in label order or as {disgust: 3}, where the others have 1."""
    logit_adjustment: NonNegativeFloat = 0.0
    """tau: this times the logarithm of each class's share of train is added to the logits in training, for balanced
    accuracy (Menon et al. 2021, arXiv 2007.07314, with tau = 1); 0 is off."""


def balanced_class_weights(class_counts: Sequence[int]) -> Tensor:
    """float64 (classes,): total / (classes present * count), so that the mean over the samples is 1; 0 if absent."""
    counts = torch.tensor(class_counts, dtype=torch.float64)
    present = counts > 0
    return torch.where(present, counts.sum() / (present.sum() * counts.clamp(min=1)), 0.0)


def class_weights(config: LossConfig, class_names: Sequence[str], class_counts: Sequence[int]) -> Tensor | None:
    """float64 (classes,) for ``loss.class_weights``; None for none. Raises JobError if it has other classes."""
    chosen = config.class_weights
    if chosen == "none":
        return None
    if chosen == "balanced":
        return balanced_class_weights(class_counts)
    if isinstance(chosen, dict):
        labels = {class_meaning(name): label for label, name in enumerate(class_names)}
        weights = torch.ones(len(class_names), dtype=torch.float64)
        for name, weight in chosen.items():
            if class_meaning(name) not in labels:
                near = closest(name, class_names)
                hint = f"did you mean {near}?" if near else f"the classes are {', '.join(class_names)}"
                raise JobError(f"loss.class_weights.{name}: is not a class of the data; {hint}")
            weights[labels[class_meaning(name)]] = weight
    else:
        if len(chosen) != len(class_names):
            raise JobError(
                f"loss.class_weights: has {len(chosen)} numbers; the data have {len(class_names)} classes, so give one "
                f"number for each of {', '.join(class_names)}"
            )
        weights = torch.tensor(chosen, dtype=torch.float64)
    if not weights.any():
        raise JobError("loss.class_weights: all are 0, so nothing would be learned; give a weight above 0")
    return weights


def smoothing_matrix(config: LossConfig, class_names: Sequence[str], of_votes: Callable[[], Tensor]) -> Tensor | None:
    """float64 (classes, classes) for ``loss.smoothing_matrix``, rows by the target's class; None where it is even.

    of_votes: gives that of the votes. Raises JobError if it has other classes, or is not used.
    """
    chosen = config.smoothing_matrix
    if chosen == "even":
        return None
    if not config.label_smoothing:
        raise JobError("loss.smoothing_matrix: is of no effect without loss.label_smoothing; set that, such as to 0.1")
    if chosen == "votes":
        return of_votes()
    count = len(class_names)
    if len(chosen) != count or any(len(row) != count for row in chosen):
        raise JobError(
            f"loss.smoothing_matrix: has {len(chosen)} rows of {' or '.join(map(str, sorted(set(map(len, chosen)))))} "
            f"numbers; the data have {count} classes, so give {count} rows of {count}, for {', '.join(class_names)}"
        )
    for name, row in zip(class_names, chosen, strict=True):
        if abs(sum(row) - 1) > 1e-6:
            raise JobError(f"loss.smoothing_matrix: the row of {name} sums to {sum(row):g}; it must sum to 1")
    return torch.tensor(chosen, dtype=torch.float64)


def logit_offsets(config: LossConfig, class_counts: Sequence[int]) -> Tensor | None:
    """float64 (classes,) for ``loss.logit_adjustment``, a class without samples counted as if it had one; None if 0."""
    if not config.logit_adjustment:
        return None
    counts = torch.tensor(class_counts, dtype=torch.float64)
    return config.logit_adjustment * (counts.clamp(min=1) / counts.sum()).log()


def summed_loss(
    logits: Tensor,
    targets: Tensor,
    config: LossConfig,
    class_weights: Tensor | None,
    logit_offsets: Tensor | None = None,
    are_sets: bool = False,
    smoothing: Tensor | None = None,
) -> Tensor:
    """The sum over the samples of the weighted loss; divided by the global batch size it is the mean.

    A mean of the ranks' weighted means would differ from it, hence the sum. logits: (batch, classes), any float
    dtype; targets: class probabilities (batch, classes), float32 or float64, or, if ``are_sets``, 1 for each class
    that is right; class_weights, logit_offsets: (classes,) or None; smoothing: (classes, classes), see
    ``loss.smoothing_matrix``, or None.
    """
    logits = logits.to(targets.dtype)
    if logit_offsets is not None:
        logits = logits + logit_offsets
    if are_sets:
        return _summed_set_loss(logits, targets, class_weights)
    if smoothing is not None:
        targets = targets.lerp(targets @ smoothing, config.label_smoothing)
        config = dataclasses.replace(config, label_smoothing=0.0)
    if config.name == "focal":
        return _summed_focal_loss(logits, targets, config, class_weights)
    return functional.cross_entropy(
        logits,
        targets,
        weight=class_weights,
        label_smoothing=config.label_smoothing,
        reduction="sum",
    )


def _summed_focal_loss(logits: Tensor, targets: Tensor, config: LossConfig, class_weights: Tensor | None) -> Tensor:
    log_probabilities = logits.log_softmax(dim=1)
    smoothed = (1 - config.label_smoothing) * targets + config.label_smoothing / logits.shape[1]
    # 1 - p is not 0 where p rounds to 1: the gradient of 0 to a power below 1 is not finite.
    others = (-log_probabilities.expm1()).clamp(min=torch.finfo(logits.dtype).tiny)
    losses = -smoothed * others**config.focal_gamma * log_probabilities
    return (losses if class_weights is None else losses * class_weights).sum()


def _summed_set_loss(logits: Tensor, sets: Tensor, class_weights: Tensor | None) -> Tensor:
    """The cross-entropy of the most probable of a sample's right classes (Barsoum et al. 2016): any of them will do."""
    log_targets = ((1 - SET_FLOOR) * sets + SET_FLOOR).log()
    best, chosen = (logits.log_softmax(dim=1) + log_targets).max(dim=1)
    return -(best if class_weights is None else best * class_weights[chosen]).sum()
