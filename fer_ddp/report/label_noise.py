"""Label noise: how the people who voted on the images (FER+) agree with each other and with the labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_ddp.report.collect import Recipe
from shards.labels import FER2013_CLASSES, FERPLUS

_GROUPS = (("agree", 0.8, 1.01), ("mostly agree", 0.6, 0.8), ("are divided", 0.0, 0.6))
"""Name, and the share of votes that the category with the most has: from, to below."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseGroup:
    """Samples on which people agree to some degree."""

    name: str
    samples: int
    people: float
    """How often the category with the most votes is the label; several with equally many count in equal parts."""
    recipes: tuple[float, ...]
    """Each recipe's accuracy, mean over seeds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelNoise:
    """A split, seen by those who voted."""

    samples: int
    """Those with votes."""
    without: int
    """Those without."""
    one_person: float
    """How often a random voter agrees with the label."""
    two_people: float
    """How often two random voters of an image agree."""
    everyone: NoiseGroup
    groups: tuple[NoiseGroup, ...]
    """By how far people agree; a group without samples is not there."""
    majority_is_label: NoiseGroup | None
    """Where more than half of the votes are for the label."""
    majority_is_other: NoiseGroup | None
    """Where more than half are for something else."""


def label_noise(
    votes: NDArray[np.int64],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    recipes: Sequence[Recipe],
    split: str,
    mask: NDArray[np.bool_],
) -> LabelNoise | None:
    """Compare votes (samples, 10), as `read_votes` gives them, with labels (samples,) and the recipes' predictions.

    mask: (samples,), those that count. None if the classes are not FER2013's or fewer than two samples have votes.
    """
    if not set(class_names) <= set(FER2013_CLASSES):
        return None
    totals = votes.sum(axis=1)
    chosen = np.flatnonzero(mask & (totals > 1))
    if len(chosen) < 2:
        return None
    shares = votes[chosen] / totals[chosen, None]
    column_of = [FERPLUS.class_names.index(name) for name in class_names]
    of_label = shares[np.arange(len(chosen)), np.array(column_of)[labels[chosen]]]
    most = shares.max(axis=1)
    winners = (shares == most[:, None]).sum(axis=1)
    people = (of_label == most) / winners
    accuracies = [recipe.correct(split)[:, chosen].mean(axis=0) for recipe in recipes]

    def group(name: str, members: NDArray[np.bool_]) -> NoiseGroup | None:
        if not members.any():
            return None
        return NoiseGroup(
            name=name,
            samples=int(members.sum()),
            people=float(people[members].mean()),
            recipes=tuple(float(each[members].mean()) for each in accuracies),
        )

    everyone = group("all", np.ones(len(chosen), bool))
    assert everyone is not None
    grouped = [group(name, (most >= low) & (most < high)) for name, low, high in _GROUPS]
    pairs = (votes[chosen] * (votes[chosen] - 1)).sum(axis=1) / (totals[chosen] * (totals[chosen] - 1))
    return LabelNoise(
        samples=len(chosen),
        without=int(mask.sum()) - len(chosen),
        one_person=float(of_label.mean()),
        two_people=float(pairs.mean()),
        everyone=everyone,
        groups=tuple(each for each in grouped if each is not None),
        majority_is_label=group("mostly name the label", of_label > 0.5),
        majority_is_other=group("mostly name something else", (most > 0.5) & (of_label < most)),
    )
