"""Several runs answering together. The members are given: nothing here chooses among them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ddp.metrics.classification import LEAST_PROBABILITY, check_predictions

FAMILY_WEIGHTS_TOLERANCE = 1e-5
"""By how much, in nats a sample, the likelihood of the fitted weights may fall short of the best."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyWeights:
    """How much each family of networks has to say."""

    families: dict[str, float]
    """A family's weight, in the order the families came; the sum is 1."""
    members: tuple[float, ...]
    """A member's weight, its family's in equal parts, for `mean_probabilities`; the sum is 1."""


def mean_probabilities(
    members: Sequence[NDArray[np.floating[Any]]], weights: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """The weighted mean of several models' probabilities for the same samples; equal weights unless told.

    members: a (n, classes) each, the same samples in the same order. weights: one a member, 0 or more, of which only
    the ratios matter. Returns (n, classes).

    Raises ValueError for no member, unequal shapes or weights that are none.
    """
    if not members or len({member.shape for member in members}) != 1:
        raise ValueError(f"members have the shapes {[member.shape for member in members]}; one shape for all is right")
    shares = np.ones(len(members)) if weights is None else np.asarray(weights, dtype=np.float64)
    if shares.shape != (len(members),) or not (shares >= 0).all() or not 0 < shares.sum() < np.inf:
        raise ValueError(f"weights {shares.tolist()} for {len(members)} members; one each, 0 or more, not all 0")
    shares = shares / shares.sum()
    total = np.zeros(members[0].shape)
    for share, member in zip(shares, members, strict=True):
        total += share * member  # float64 by the share; not stacked: a stack of many members is large
    return total


def fit_family_weights(
    labels: NDArray[np.integer[Any]], members: Sequence[NDArray[np.floating[Any]]], families: Sequence[str]
) -> FamilyWeights:
    """Weigh the families so that the mean's negative log likelihood is least; within a family members are equal.

    labels: (n,); members: a (n, classes) each; families: each member's. Fit on val, apply to test: the weights are as
    many as families, and a few thousand samples can bear a few.

    The likelihood is concave in the weights, so there is one best value and no search. Each step multiplies a weight
    by the mean of (family's probability of the label / the mixture's); the greatest of these means, less 1, bounds
    what is missing to the best, and the steps end when that is `FAMILY_WEIGHTS_TOLERANCE`.

    Source: T. M. Cover, "An algorithm for maximizing expected log investment return", IEEE Transactions on
    Information Theory 30 (1984), 369-373; for mixtures it is EM (A. P. Dempster, N. M. Laird and D. B. Rubin, "Maximum
    likelihood from incomplete data via the EM algorithm", Journal of the Royal Statistical Society B 39 (1977), 1-38).

    Raises ValueError as `mean_probabilities` and `classification_metrics` do, and unless there is a family a member.
    """
    if len(families) != len(members) or not members:
        raise ValueError(
            f"{len(families)} families for {len(members)} members; one each, of one member at least, is right"
        )
    names = list(dict.fromkeys(families))
    of_label = np.empty((len(labels), len(names)))
    for column, name in enumerate(names):
        mean = mean_probabilities([member for member, family in zip(members, families, strict=True) if family == name])
        check_predictions(labels, mean, [str(index) for index in range(mean.shape[-1])])
        of_label[:, column] = np.maximum(mean[np.arange(len(labels)), labels], LEAST_PROBABILITY)
    weights = np.full(len(names), 1 / len(names))
    while True:
        gains = (of_label / (of_label @ weights)[:, None]).mean(axis=0)
        if gains.max() - 1 <= FAMILY_WEIGHTS_TOLERANCE:
            break
        weights = weights * gains
        weights /= weights.sum()
    return FamilyWeights(
        families=dict(zip(names, weights.tolist(), strict=True)),
        members=tuple(float(weights[names.index(family)]) / families.count(family) for family in families),
    )
