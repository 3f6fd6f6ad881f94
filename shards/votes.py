"""The targets that FER+'s authors make of ten people's votes on an image, and what the votes of a data set amount to.

Barsoum et al., "Training deep networks for facial expression recognition with crowd-sourced label distribution", 2016,
and the reader that they published with it, github.com/microsoft/FERPlus. All votes here are int64 (samples, 10), in
the order of :data:`CATEGORIES`; a sample without votes has zeros.
"""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from shards.files import parse_json
from shards.labels import FERPLUS, class_meaning

CATEGORIES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
"""The columns of votes, in their order."""
_EMOTIONS = len(FERPLUS.class_names)
"""The first categories; the others are unknown and NF, not a face."""
_MOST_VOTES = 1_000_000
"""On one image for one emotion."""
_MOST = 3
"""More emotions than these are no clear expression."""


def votes_text(votes: Mapping[str, int]) -> bytes:
    """Counts by category as a sample's ``votes.json``."""
    return json.dumps(votes, separators=(",", ":")).encode()


def parse_votes(text: bytes | None) -> list[int]:
    """The counts in one ``votes.json``, zeros for None. Raises ValueError, KeyError or TypeError for anything else."""
    if text is None:
        return [0] * len(CATEGORIES)
    votes = parse_json(text)
    counts = [votes[category] for category in CATEGORIES]
    if not all(0 <= count <= _MOST_VOTES for count in counts):
        raise ValueError(f"counts votes less than 0 or more than {_MOST_VOTES:,}")
    return [int(count) for count in counts]


def majority_targets(votes: np.ndarray) -> np.ndarray:
    """1 for the emotion with more than half of the votes: float64 (samples, 8), a row of zeros where there is none."""
    votes, total = _without_outliers(votes)
    chosen, peak = np.zeros((len(votes), _EMOTIONS)), votes.argmax(axis=1)
    rows = np.flatnonzero((2 * votes.max(axis=1) > total) & (peak < _EMOTIONS))
    chosen[rows, peak[rows]] = 1.0
    return chosen


def probability_targets(votes: np.ndarray) -> np.ndarray:
    """The votes as probabilities of the emotions: float64 (samples, 8), a row of zeros for a sample without a target.

    Emotions are taken by their number of votes, those with equally many at once, until they have three quarters of all
    votes, or are three, or unknown or not-a-face has as many votes as the next. They are the target if they have more
    than half of the votes and are three at most.
    """
    votes, total = _without_outliers(votes)
    chosen, unclear = np.zeros((len(votes), _EMOTIONS), np.int64), np.zeros(len(votes), bool)
    for _ in range(_MOST):
        taken = chosen.sum(axis=1)
        going_on = (4 * taken < 3 * total) & ((chosen > 0).sum(axis=1) < _MOST) & ~unclear
        next_ones = (votes == votes.max(axis=1, keepdims=True)) & going_on[:, None]
        unclear |= next_ones[:, _EMOTIONS:].any(axis=1)
        chosen += np.where(next_ones, votes, 0)[:, :_EMOTIONS]
        votes = np.where(next_ones, 0, votes)
    taken = chosen.sum(axis=1)
    usable = (2 * taken > total) & ((chosen > 0).sum(axis=1) <= _MOST)
    return np.asarray(np.where(usable[:, None], chosen, 0) / np.maximum(taken, 1)[:, None])


def multi_targets(votes: np.ndarray) -> np.ndarray:
    """1 for each emotion with 30 % of the votes or more: float64 (samples, 8).

    A row of zeros where the categories with so many do not have more than half of the votes together, or unknown or
    not-a-face has the most.
    """
    votes, total = _without_outliers(votes)
    chosen = np.where(10 * votes >= 3 * total[:, None], votes, 0)
    usable = (2 * chosen.sum(axis=1) > total) & (chosen.argmax(axis=1) < _EMOTIONS)
    return np.where(usable[:, None], chosen[:, :_EMOTIONS] > 0, 0).astype(np.float64)


def clearest_emotion(votes: np.ndarray) -> np.ndarray:
    """The index of the emotion with the most votes, the first of those with equally many: int64 (samples,)."""
    return np.asarray(votes[:, :_EMOTIONS].argmax(axis=1))


def is_usable(votes: np.ndarray) -> np.ndarray:
    """Whether at least one of the rules gives a sample a target: bool (samples,)."""
    return np.asarray((majority_targets(votes) + probability_targets(votes) + multi_targets(votes)).any(axis=1))


def in_classes(targets: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Probabilities of FER+'s emotions (samples, 8) as those of a data set's classes: float64 (samples, classes).

    Each of ``class_names`` means an emotion. Where not all emotions are among them, those that are have sum 1 again,
    and a row whose most probable emotion is not one of them becomes zeros.
    """
    emotions = [FERPLUS.class_names.index(class_meaning(name)) for name in class_names]
    kept = targets[:, emotions]
    kept = np.where(kept.max(axis=1, keepdims=True, initial=0) == targets.max(axis=1, keepdims=True), kept, 0)
    sums = kept.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(kept, sums, out=np.zeros_like(kept), where=sums > 0))


def describe_votes(votes: np.ndarray) -> str:
    """What votes amount to: ``majority 9, no majority 2 (1 of them tied), unknown 1, not a face 0, without votes 3``.

    A category with more than half of the votes has the majority, without the votes that are alone in theirs.
    """
    without = int((votes.sum(axis=1) == 0).sum())
    votes, total = _without_outliers(votes[votes.sum(axis=1) > 0])
    most, peak = votes.max(axis=1, initial=0), votes.argmax(axis=1) if len(votes) else np.zeros(0, np.int64)
    clear = 2 * most > total
    tied = ~clear & ((votes == most[:, None]).sum(axis=1) > 1)
    emotion, unknown, no_face = (clear & mask for mask in (peak < _EMOTIONS, peak == _EMOTIONS, peak > _EMOTIONS))
    return (
        f"majority {emotion.sum():,}, no majority {(~clear).sum():,} ({tied.sum():,} of them tied), "
        f"unknown {unknown.sum():,}, not a face {no_face.sum():,}, without votes {without:,}"
    )


def vote_lines(by_split: Mapping[str, str]) -> list[str]:
    """Lines to print, of :func:`describe_votes` of each split."""
    return [f"FER+ votes of {split}: {text}" for split, text in by_split.items()]


def _without_outliers(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(votes without those that are alone in their category, how many are left of each sample's)."""
    votes = np.where(votes > 1, votes, 0)
    return votes, votes.sum(axis=1)
