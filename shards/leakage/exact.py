"""Exact duplicates: images whose pixels are equal, within a split and across splits.

Here ``first``, ``splits`` and ``labels`` are int64, (samples,): of each sample the index of the first sample with the
same pixels (its own, if there is none before it), the index of its split in :data:`shards.splits.SPLITS`, its label.
"""

from collections.abc import Iterable

import numpy as np

from shards.manifest import Duplicates
from shards.splits import SPLITS


def first_occurrences(digests: Iterable[str]) -> np.ndarray:
    """``first`` of samples in the order of ``digests``, those of their pixels."""
    indices: dict[str, int] = {}
    return np.array([indices.setdefault(digest, index) for index, digest in enumerate(digests)], np.int64)


def pairs_of_splits(splits: np.ndarray) -> dict[str, tuple[int, int]]:
    """What is compared with what: ``train`` is (0, 0), ``train/val`` is (0, 1), for the splits that have samples."""
    present = np.unique(splits).tolist()
    pairs = [*((one, one) for one in present), *((a, b) for a in present for b in present if a < b)]
    return {SPLITS[a] if a == b else f"{SPLITS[a]}/{SPLITS[b]}": (a, b) for a, b in pairs}


def earliest_by_split(first: np.ndarray, splits: np.ndarray) -> np.ndarray:
    """Index of the earliest sample of each split with the same pixels: int64, (samples, 3); ``samples`` for none."""
    earliest = np.full((len(first), len(SPLITS)), len(first))
    np.minimum.at(earliest, (first, splits), np.arange(len(first)))
    rows: np.ndarray = earliest[first]
    return rows


def count_duplicates(first: np.ndarray, splits: np.ndarray, labels: np.ndarray) -> Duplicates:
    """The duplicates within and across splits, and the groups whose labels differ."""
    earliest, indices = earliest_by_split(first, splits), np.arange(len(first))
    counts = {
        name: int(((splits == b) & (earliest[:, a] < (indices if a == b else len(first)))).sum())
        for name, (a, b) in pairs_of_splits(splits).items()
    }
    members = {name: splits == a for name, (a, b) in pairs_of_splits(splits).items() if a == b}
    return Duplicates(
        within={name: count for name, count in counts.items() if name in members},
        across={name: count for name, count in counts.items() if name not in members},
        conflicting_groups={
            "all": _groups_with_several_labels(first, labels),
            **{name: _groups_with_several_labels(first[mask], labels[mask]) for name, mask in members.items()},
        },
    )


def _groups_with_several_labels(first: np.ndarray, labels: np.ndarray) -> int:
    classes = labels.max(initial=0) + 1
    pairs = np.unique(first * classes + labels)
    return int((np.unique(pairs // classes, return_counts=True)[1] > 1).sum())
