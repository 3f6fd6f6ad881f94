"""Takes val and test out of train, and makes the folds of a cross-validation.

Samples that must not be on two sides form a group: those of one subject, and those whose images are equal or near
(:mod:`shards.leakage.near`), directly or through others. Each side gets its share of every class, to within one sample
where the groups allow.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from shards.errors import DataError
from shards.leakage.find import Leakage
from shards.sources.scan import SourceScan
from shards.splits import SPLITS
from shards.text import plural

MAX_FOLDS = 100
"""More would only fill the disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Division:
    """What becomes of a source's train."""

    val_fraction: Fraction = Fraction(0)
    test_fraction: Fraction = Fraction(0)
    """Of train's samples; 0: no such split is made. Where all become test, the data set is one to evaluate on."""
    folds: int = 0
    """Number of data sets to make, each with another part of train as its val; 0: one data set, and no folds."""

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.val_fraction or self.test_fraction or self.folds)

    def check(self) -> None:
        """Raises :class:`DataError` (exit status 2) for numbers that make no sense."""
        if self.test_fraction == 1 and not self.val_fraction and not self.folds:
            return
        for name, fraction in (("--val-fraction", self.val_fraction), ("--test-fraction", self.test_fraction)):
            if not 0 <= fraction < 1:
                raise DataError(
                    f"{name} is {float(fraction):g}; it should be between 0 and 1, such as 0.1", exit_status=2
                )
        if self.val_fraction + self.test_fraction >= 1:
            raise DataError("--val-fraction and --test-fraction leave nothing for train", exit_status=2)
        if self.folds and not 2 <= self.folds <= MAX_FOLDS:
            raise DataError(f"--folds is {self.folds}; it should be 2 to {MAX_FOLDS}, such as 5", exit_status=2)
        if self.folds and self.val_fraction:
            raise DataError("--folds makes the val of each fold; leave out --val-fraction", exit_status=2)


def with_test_alone(scan: SourceScan) -> SourceScan:
    """``scan`` with all of train as test. Raises :class:`DataError` (exit status 2) if it has a test already."""
    _refuse_existing(scan, ["test"])
    splits = scan.table.split.to_numpy(str)
    return _with_splits(scan, np.where(splits == "train", "test", splits), {"test_fraction": "1"}, [])


def divide(scan: SourceScan, division: Division, leakage: Leakage, seed: int) -> list[SourceScan]:
    """The data sets that ``division`` makes of ``scan``: one, or one for each fold. ``leakage`` compares its samples.

    Raises :class:`DataError` (exit status 2) if a split that is to be made is there already, or a side gets no sample.
    """
    division.check()
    splits, labels = scan.table.split.to_numpy(str), scan.table.label.to_numpy()
    taken = {"val": division.val_fraction, "test": division.test_fraction}
    taken = {split: fraction for split, fraction in taken.items() if fraction}
    _refuse_existing(scan, taken)
    groups = _groups(scan, leakage)
    groups_of_train, sizes = np.unique(groups[splits == "train"], return_counts=True)
    several = sizes[sizes > 1]
    notes = []
    if len(several):
        notes.append(
            f"kept on one side: {several.sum():,} samples of train in {plural(len(several), 'group')} of equal or near "
            f"images or of one subject, the largest of {several.max():,}"
        )
    if division.folds and (splits == "val").any():
        notes.append(f"the source's val, {(splits == 'val').sum():,} samples, is in no fold")
        splits[splits == "val"] = ""
    if taken:
        train = np.flatnonzero(splits == "train")
        sides = assign(groups[train], labels[train], [1 - sum(taken.values(), Fraction()), *taken.values()], seed)
        splits[train] = np.array(["train", *taken])[sides]
    options: dict[str, int | str] = {f"{split}_fraction": f"{float(share):g}" for split, share in taken.items()}
    data_sets = [(splits, options)]
    if division.folds:
        train = np.flatnonzero(splits == "train")
        sides = assign(groups[train], labels[train], [Fraction(1, division.folds)] * division.folds, seed)
        data_sets = []
        for fold in range(division.folds):
            of_fold = splits.copy()
            of_fold[train[sides == fold]] = "val"
            data_sets.append((of_fold, {**options, "folds": division.folds, "fold": fold}))
    made = {"train", *taken, *(["val"] if division.folds else [])}
    for one, _ in data_sets:
        empty = made - set(one)
        if empty:
            split = min(empty)
            why = _too_few(len(groups_of_train), bool(len(several)))
            advice = "take fewer folds" if division.folds and split not in taken else "take another fraction"
            raise DataError(f"{split} would get no sample: {why}; {advice}", exit_status=2)
    return [_with_splits(scan, one, options, notes) for one, options in data_sets]


def _too_few(groups: int, are_several: bool) -> str:
    """Why a side of train gets no sample; ``are_several``: whether any of its ``groups`` has more than one sample."""
    if not are_several:
        return f"train has only {groups:,} samples, of which each side gets its share of every class"
    some = "1 group" if groups == 1 else f"{groups:,} groups"
    return f"train has {some} of samples that are kept together (equal or near images, one subject)"


def _refuse_existing(scan: SourceScan, taken: Iterable[str]) -> None:
    for split in taken:
        count = int((scan.table.split == split).sum())
        if count:
            raise DataError(
                f"--{split}-fraction: the source has a {split} already, of {count:,} samples; leave out "
                f"--{split}-fraction, or remove that split from the source",
                exit_status=2,
            )


def _with_splits(
    scan: SourceScan, splits: np.ndarray, options: dict[str, int | str], notes: Sequence[str]
) -> SourceScan:
    """``scan`` with other splits, (samples,); a sample whose split is empty is left out."""
    divided = replace(
        scan,
        table=scan.table.assign(split=splits.astype(object)),
        options={**scan.options, **options},
        notes=(*scan.notes, *notes),
    )
    return divided.selected(splits != "") if (splits == "").any() else divided


def _groups(scan: SourceScan, leakage: Leakage) -> np.ndarray:
    """For each sample the index of the first of its group: int64, (samples,). Only training samples are joined."""
    table = scan.table
    row_of = {key: row for row, key in enumerate(table.key)}
    rows = np.array([row_of.get(key, -1) for key in leakage.keys], np.int64)  # some may have been left out since
    in_train = (table.split == "train").to_numpy()
    parent = list(range(len(table)))

    def find(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def join(one: int, other: int) -> None:
        if in_train[one] and in_train[other]:
            one, other = find(one), find(other)
            parent[max(one, other)] = min(one, other)

    # All samples with equal pixels are near whatever the first of them is near.
    members: dict[int, list[int]] = {}
    for first, row in zip(leakage.first.tolist(), rows.tolist(), strict=True):
        if row >= 0 and in_train[row]:
            members.setdefault(first, []).append(row)
    for equal in members.values():
        for row in equal[1:]:
            join(equal[0], row)
    for first, second in zip(leakage.near.first.tolist(), leakage.near.second.tolist(), strict=True):
        if first in members and second in members:
            join(members[first][0], members[second][0])
    if "subject" in table:
        first_of: dict[str, int] = {}
        for row, subject in enumerate(table.subject):
            if subject and in_train[row]:
                join(first_of.setdefault(subject, row), row)
    return np.array([find(row) for row in range(len(table))], np.int64)


class _Group(NamedTuple):
    """Samples that stay together."""

    rows: np.ndarray
    """int64, (samples,)."""
    counts: list[tuple[int, int]]
    """(label, samples) of each class in it."""


def assign(groups: np.ndarray, labels: np.ndarray, shares: Sequence[Fraction], seed: int) -> np.ndarray:
    """The side of each sample, an index into ``shares``, which sum to 1: int64, (samples,).

    ``groups`` and ``labels`` are int64, (samples,). Groups of several samples are placed first, the largest first, each
    where it is needed most; then single samples fill each side up to its quota of each class. Exact arithmetic and
    PCG64's raw bits: the result depends on ``seed`` alone.
    """
    random_bits = np.random.PCG64(np.random.SeedSequence([seed, len(SPLITS)])).random_raw(len(groups))
    quotas = _quotas(np.bincount(labels), shares)
    placed = [[0] * len(quotas) for _ in shares]
    sides = np.full(len(groups), -1, np.int64)
    order = np.lexsort((random_bits, groups))
    starts = np.flatnonzero(np.r_[True, np.diff(groups[order]) != 0]) if len(order) else np.zeros(0, np.int64)
    parts = [part for part in np.split(order, starts[1:]) if len(part) > 1]
    several = [_Group(part, sorted(Counter(labels[part].tolist()).items())) for part in parts]
    for group in sorted(several, key=lambda group: (-len(group.rows), int(random_bits[group.rows[0]]))):
        side = min(range(len(shares)), key=lambda side: (_cost(group, placed[side], quotas, side), side))
        sides[group.rows] = side
        for label, count in group.counts:
            placed[side][label] += count
    for label in range(len(quotas)):
        singles = np.flatnonzero((sides < 0) & (labels == label))
        needed = [max(0, quota - counts[label]) for quota, counts in zip(quotas[label], placed, strict=True)]
        while sum(needed) > len(singles):  # a group took more than its side's quota: the others share the loss
            needed[needed.index(max(needed))] -= 1
        sides[singles[np.argsort(random_bits[singles], kind="stable")]] = np.repeat(np.arange(len(shares)), needed)
    return sides


def _quotas(totals: np.ndarray, shares: Sequence[Fraction]) -> list[list[int]]:
    """For each class, how many of its samples each side is to get: within one of its share, and they sum to the total.

    What is left after rounding down goes to the largest remainders; sides of equal remainders take turns, so that their
    sizes are equal too.
    """
    quotas, turn = [], 0
    for total in totals.tolist():
        exact = [share * total for share in shares]
        quota = [int(each) for each in exact]
        left = total - sum(quota)

        ranks = [(quota[side] - exact[side], (side - turn) % len(shares)) for side in range(len(shares))]
        for side in sorted(range(len(shares)), key=ranks.__getitem__)[:left]:
            quota[side] += 1
        turn += left
        quotas.append(quota)
    return quotas


def _cost(group: _Group, placed: list[int], quotas: list[list[int]], side: int) -> Fraction:
    """By how much ``group`` raises the squared distance of the side's counts from its quotas, relative to them."""
    cost = Fraction(0)
    for label, count in group.counts:
        quota = quotas[label][side]
        cost += Fraction(count * (2 * (placed[label] - quota) + count), quota or 1)
    return cost
