"""Leakage: images that stand in a data set more than once, exactly or nearly, above all in two of its splits.

What is compared with what, and what "nearly" means, is in :mod:`shards.leakage.near`.
"""

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shards.errors import DataError
from shards.labels import SPLITS
from shards.leakage.near import NearPairs, find_near, thumbnails
from shards.pixel_statistics import pixel_digests
from shards.reading.reader import DecodedSplit, map_shards, refuse_url
from shards.reading.scan import load_or_scan_manifest

COLUMNS = (
    *("split_a", "key_a", "label_a", "split_b", "key_b", "label_b"),
    *("kind", "distance", "flipped", "conflict"),
)
"""Of the ledger."""
COMPARED_AT_ONCE = 100_000
"""Up to so many samples, whoever inspects a data set also sees how much of it leaks; more take minutes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leakage:
    """The samples of a data set, sorted by split (train, val, test), then by key, and which are the same picture."""

    splits: np.ndarray
    """int64, (samples,): places in :data:`shards.labels.SPLITS`."""
    keys: list[str]
    labels: np.ndarray
    """int64, (samples,)."""
    class_names: tuple[str, ...]
    first: np.ndarray
    """int64, (samples,): the place of the first sample with the same pixels; its own, if there is none before it."""
    near: NearPairs
    """Between places of such first samples."""


class Repeats(NamedTuple):
    """How many samples of a split repeat another sample."""

    exact: int
    """Pixel for pixel."""
    near: int
    """Nearly, and no sample pixel for pixel."""


def find_leakage(folder: Path, workers: int = 1) -> Leakage:
    """Compare all samples of the data set in ``folder`` with each other; the result is the same for any ``workers``.

    Reads every shard once and keeps 48 x 48 bytes of each sample. The time grows with the square of the samples.
    Raises :class:`DataError` for a folder that cannot be read.
    """
    refuse_url(str(folder))
    folder = Path(folder)
    manifest = load_or_scan_manifest(folder)
    keys, digests = list[str](), list[str]()
    splits, labels, pictures = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    for split in manifest.splits:
        for part in map_shards(_look_at, folder, split, manifest, workers):
            keys += part.keys
            digests += part.digests
            splits.append(np.full(len(part.keys), SPLITS.index(split)))
            labels.append(part.labels)
            pictures.append(part.pictures)
    return compare(
        splits=np.concatenate(splits),
        keys=keys,
        labels=np.concatenate(labels),
        class_names=manifest.class_names,
        digests=digests,
        pictures=np.concatenate(pictures),
    )


class _Looks(NamedTuple):
    keys: list[str]
    labels: np.ndarray
    digests: list[str]
    pictures: np.ndarray


def _look_at(part: DecodedSplit) -> _Looks:
    return _Looks(part.keys, part.labels, pixel_digests(part.images), thumbnails(part.images))


def compare(
    *,
    splits: np.ndarray,
    keys: list[str],
    labels: np.ndarray,
    class_names: tuple[str, ...],
    digests: list[str],
    pictures: np.ndarray,
) -> Leakage:
    """Compare samples in any order: ``splits`` and ``labels`` as in :class:`Leakage`, ``digests`` of their pixels,
    ``pictures`` their :func:`shards.leakage.near.thumbnails`."""
    order = np.array(sorted(range(len(keys)), key=lambda one: (splits[one], keys[one])), np.int64)
    places: dict[str, int] = {}
    first = np.array([places.setdefault(digests[one], place) for place, one in enumerate(order)], np.int64)
    distinct = np.flatnonzero(first == np.arange(len(first)))
    near = find_near(pictures[order[distinct]])
    return Leakage(
        splits=splits[order],
        keys=[keys[one] for one in order],
        labels=labels[order],
        class_names=class_names,
        first=first,
        near=NearPairs(
            first=distinct[near.first], second=distinct[near.second], distance=near.distance, flipped=near.flipped
        ),
    )


def leaking_keys(folder: Path, *, near: bool = True, workers: int = 1) -> dict[str, frozenset[str]]:
    """For val and test, where ``folder`` has them: the keys of the samples whose image stands in train.

    With ``near`` false, only those that stand there pixel for pixel. Raises :class:`DataError` as
    :func:`find_leakage` does.
    """
    leakage = find_leakage(folder, workers)
    leaks = leaking(leakage, near=near)
    return {
        SPLITS[split]: frozenset(leakage.keys[place] for place in np.flatnonzero(leaks & (leakage.splits == split)))
        for split in np.unique(leakage.splits).tolist()
        if split
    }


def leaking(leakage: Leakage, *, near: bool = True) -> np.ndarray:
    """Which samples of val and test stand in train, exactly or (with ``near``) nearly: bool, (samples,)."""
    exact, nearly = _earliest(leakage)
    in_train = exact[:, 0] < len(exact)
    if near:
        in_train |= nearly[:, 0] < len(exact)
    return in_train & (leakage.splits > 0)


def count_repeats(leakage: Leakage) -> dict[str, Repeats]:
    """For ``train`` and the like: its samples that repeat an earlier one of the same split; for ``train/val`` and the
    like: the samples of the second split that stand in the first as well."""
    exact, nearly = _earliest(leakage)
    places = np.arange(len(exact))
    present = np.unique(leakage.splits).tolist()
    counts = {}
    for name, mine, other in [
        *((SPLITS[split], split, split) for split in present),
        *((f"{SPLITS[a]}/{SPLITS[b]}", b, a) for a in present for b in present if a < b),
    ]:
        members = leakage.splits == mine
        limit = places if mine == other else len(exact)
        same = exact[:, other] < limit
        counts[name] = Repeats(int((members & same).sum()), int((members & ~same & (nearly[:, other] < limit)).sum()))
    return counts


def _earliest(leakage: Leakage) -> tuple[np.ndarray, np.ndarray]:
    """For each sample and each split, the place of the earliest sample there that is the same, and that is nearly the
    same: int64, (samples, 3) both, ``samples`` where there is none."""
    count, near = len(leakage.keys), leakage.near
    exact = np.full((count, len(SPLITS)), count)
    np.minimum.at(exact, (leakage.first, leakage.splits), np.arange(count))
    nearly = np.full_like(exact, count)
    np.minimum.at(nearly, near.first, exact[near.second])
    np.minimum.at(nearly, near.second, exact[near.first])
    return exact[leakage.first], nearly[leakage.first]


def describe_leakage(leakage: Leakage) -> str:
    """The counts within and across splits, labels that contradict each other, and how much of val and test leaks."""
    lines = [f"{'':<40}{'identical':>10}{'near':>10}"]
    for name, repeats in count_repeats(leakage).items():
        first, _, second = name.partition("/")
        what = f"{second}: images that stand in {first}" if second else f"{first}: images that repeat an earlier one"
        lines.append(f"{what:<40}{repeats.exact:>10,}{repeats.near:>10,}")
    near = leakage.near
    conflicts = int((leakage.labels[near.first] != leakage.labels[near.second]).sum())
    groups = ", ".join(f"{name} {count:,}" for name, count in _conflicting_groups(leakage).items())
    lines.append(f"groups of identical images with different labels: {groups}")
    lines.append(f"near pairs of images: {len(near.first):,}, with different labels {conflicts:,}")
    leaks = leaking(leakage)
    for split in np.unique(leakage.splits[leakage.splits > 0]).tolist():
        members = leakage.splits == split
        count, of = int((leaks & members).sum()), int(members.sum())
        lines.append(f"{SPLITS[split]} leaks: {count:,} of {of:,} images ({100 * count / of:.1f} %) stand in train")
    return "\n".join(lines)


def _conflicting_groups(leakage: Leakage) -> dict[str, int]:
    """As ``conflicting_groups`` of :class:`shards.manifest.Duplicates`."""
    counts = {"all": _several_labels(leakage.first, leakage.labels)}
    for split in np.unique(leakage.splits).tolist():
        members = leakage.splits == split
        counts[SPLITS[split]] = _several_labels(leakage.first[members], leakage.labels[members])
    return counts


def _several_labels(groups: np.ndarray, labels: np.ndarray) -> int:
    pairs = np.unique(np.stack([groups, labels]), axis=1)
    return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())


def ledger_path(folder: Path) -> Path:
    """Where the ledger of the data set ``folder`` is, unless told otherwise: beside it."""
    folder = Path(os.path.abspath(folder))
    return folder.with_name(f"{folder.name}.leakage.csv")


def write_ledger(leakage: Leakage, path: Path) -> int:
    """Write the ledger, columns :data:`COLUMNS`; returns its rows. Raises :class:`DataError` if it cannot be written.

    ``exact``: a row for each sample that repeats an earlier one (b), with the first of its like (a). ``near``: a row
    for each pair of pictures, each by the first sample that has it. Sorted by a, then b, in the order of
    :class:`Leakage`.
    """
    near = leakage.near
    repeats = np.flatnonzero(leakage.first != np.arange(len(leakage.first)))
    rows = [(int(leakage.first[place]), int(place), "exact", 0.0, False) for place in repeats]
    pairs = zip(near.first.tolist(), near.second.tolist(), near.distance.tolist(), near.flipped.tolist(), strict=True)
    rows += [(a, b, "near", distance, flipped) for a, b, distance, flipped in pairs]
    beside = path.with_name(f".{path.name}.partial")
    try:
        with open(beside, "w", newline="", encoding="utf-8") as file:
            ledger = csv.writer(file, lineterminator="\n")
            ledger.writerow(COLUMNS)
            for a, b, kind, distance, flipped in sorted(rows):
                conflict = _yes(leakage.labels[a] != leakage.labels[b])
                ledger.writerow(
                    [*_sample(leakage, a), *_sample(leakage, b), kind, f"{distance:.4f}", _yes(flipped), conflict]
                )
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise DataError(f"{path}: the ledger cannot be written ({error.strerror})", exit_status=2) from error
    return len(rows)


def _sample(leakage: Leakage, place: int) -> tuple[str, str, str]:
    return SPLITS[leakage.splits[place]], leakage.keys[place], leakage.class_names[leakage.labels[place]]


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
