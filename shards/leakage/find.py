"""Leakage: images that appear more than once in a data set, exactly or nearly, above all in two of its splits.

What "nearly" means is in :mod:`shards.leakage.near`; exact duplicates are counted in :mod:`shards.leakage.exact`.
"""

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shards.errors import DataError
from shards.files import atomic_write_text
from shards.leakage.exact import count_duplicates, earliest_by_split, first_occurrences, pairs_of_splits
from shards.leakage.near import NearPairs, find_near, thumbnails
from shards.pixel_statistics import pixel_digests
from shards.progress import with_progress
from shards.reading.reader import DecodedSplit, map_shards, refuse_url
from shards.reading.scan import load_or_scan_manifest
from shards.splits import SPLITS

COLUMNS = (
    *("split_a", "key_a", "label_a", "split_b", "key_b", "label_b"),
    *("kind", "distance", "flipped", "conflict"),
)
"""Of the ledger."""
MAX_AUTOMATIC_SAMPLES = 100_000
"""Up to this many samples, ``inspect`` and ``report`` also look for leakage; more take minutes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leakage:
    """The samples of a data set, sorted by split (train, val, test), then by key, and which are the same picture."""

    splits: np.ndarray
    """int64, (samples,): indices in :data:`shards.splits.SPLITS`."""
    keys: list[str]
    labels: np.ndarray
    """int64, (samples,)."""
    class_names: tuple[str, ...]
    first: np.ndarray
    """int64, (samples,): index of the first sample with the same pixels; its own, if there is none before it."""
    near: NearPairs
    """Between indices of such first samples."""


class Repeats(NamedTuple):
    """How many samples of a split repeat another sample."""

    exact: int
    """With equal pixels."""
    near: int
    """Nearly, and no sample with equal pixels."""


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
    parts = (
        (split, part)
        for split in manifest.splits
        for part in map_shards(_fingerprints, folder, split, manifest, workers)
    )
    for split, part in with_progress(
        parts, "reading images", manifest.samples, unit=" images", size=lambda item: len(item[1].keys)
    ):
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


class _Fingerprints(NamedTuple):
    """What is compared of a shard's samples."""

    keys: list[str]
    labels: np.ndarray
    digests: list[str]
    pictures: np.ndarray


def _fingerprints(part: DecodedSplit) -> _Fingerprints:
    return _Fingerprints(part.keys, part.labels, pixel_digests(part.images), thumbnails(part.images))


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
    order = np.array(sorted(range(len(keys)), key=lambda index: (splits[index], keys[index])), np.int64)
    first = first_occurrences(digests[index] for index in order)
    distinct = np.flatnonzero(first == np.arange(len(first)))
    near = find_near(pictures[order[distinct]])
    return Leakage(
        splits=splits[order],
        keys=[keys[index] for index in order],
        labels=labels[order],
        class_names=class_names,
        first=first,
        near=NearPairs(
            first=distinct[near.first], second=distinct[near.second], distance=near.distance, flipped=near.flipped
        ),
    )


def leaking_keys(folder: Path, *, near: bool = True, workers: int = 1) -> dict[str, frozenset[str]]:
    """For val and test, where ``folder`` has them: the keys of the samples whose image also appears in train.

    With ``near`` False, only those with equal pixels. Raises :class:`DataError` as :func:`find_leakage` does.
    """
    leakage = find_leakage(folder, workers)
    leaks = leaking(leakage, near=near)
    return {
        SPLITS[split]: frozenset(leakage.keys[index] for index in np.flatnonzero(leaks & (leakage.splits == split)))
        for split in np.unique(leakage.splits).tolist()
        if split
    }


def leaking(leakage: Leakage, *, near: bool = True) -> np.ndarray:
    """Which samples of val and test also appear in train, exactly or (with ``near``) nearly: bool, (samples,)."""
    exact, nearly = _earliest_copies(leakage)
    in_train = exact[:, 0] < len(exact)
    if near:
        in_train |= nearly[:, 0] < len(exact)
    return in_train & (leakage.splits > 0)


def count_repeats(leakage: Leakage) -> dict[str, Repeats]:
    """For ``train`` and the like: its samples that repeat an earlier one of the same split; for ``train/val`` and the
    like: the samples of the second split that also appear in the first."""
    duplicates = count_duplicates(leakage.first, leakage.splits, leakage.labels)
    identical = duplicates.within | duplicates.across
    exact, nearly = _earliest_copies(leakage)
    counts = {}
    for name, (a, b) in pairs_of_splits(leakage.splits).items():
        limit = np.arange(len(exact)) if a == b else len(exact)
        near_only = (leakage.splits == b) & (exact[:, a] >= limit) & (nearly[:, a] < limit)
        counts[name] = Repeats(exact=identical[name], near=int(near_only.sum()))
    return counts


def _earliest_copies(leakage: Leakage) -> tuple[np.ndarray, np.ndarray]:
    """For each sample and each split, the index of the earliest sample there that is the same, and that is nearly the
    same: int64, (samples, 3) both, ``samples`` where there is none."""
    near = leakage.near
    exact = earliest_by_split(leakage.first, leakage.splits)
    nearly = np.full_like(exact, len(exact))
    np.minimum.at(nearly, near.first, exact[near.second])
    np.minimum.at(nearly, near.second, exact[near.first])
    return exact, nearly[leakage.first]


def describe_leakage(leakage: Leakage) -> str:
    """The counts within and across splits, labels that contradict each other, and how much of val and test leaks."""
    lines = [f"{'':<40}{'identical':>10}{'near':>10}"]
    for name, repeats in count_repeats(leakage).items():
        first, _, second = name.partition("/")
        what = f"{second}: images also in {first}" if second else f"{first}: images that repeat an earlier one"
        lines.append(f"{what:<40}{repeats.exact:>10,}{repeats.near:>10,}")
    near = leakage.near
    conflicts = int((leakage.labels[near.first] != leakage.labels[near.second]).sum())
    duplicates = count_duplicates(leakage.first, leakage.splits, leakage.labels)
    groups = ", ".join(f"{name} {count:,}" for name, count in duplicates.conflicting_groups.items())
    lines.append(f"groups of identical images with different labels: {groups}")
    lines.append(f"near pairs of images: {len(near.first):,}, with different labels {conflicts:,}")
    leaks = leaking(leakage)
    for split in np.unique(leakage.splits[leakage.splits > 0]).tolist():
        members = leakage.splits == split
        count, of = int((leaks & members).sum()), int(members.sum())
        share = 100 * count / of
        lines.append(f"{SPLITS[split]} leaks: {count:,} of {of:,} images ({share:.1f} %) also appear in train")
    return "\n".join(lines)


def ledger_path(folder: Path) -> Path:
    """Where the ledger of the data set ``folder`` is written by default: beside it."""
    folder = Path(os.path.abspath(folder))
    return folder.with_name(f"{folder.name}.leakage.csv")


def write_ledger(leakage: Leakage, path: Path) -> int:
    """Write the ledger, columns :data:`COLUMNS`; returns its rows. Raises :class:`DataError` if it cannot be written.

    ``exact``: a row for each sample (b) that repeats an earlier one, with the first of its group (a). ``near``: a row
    for each pair of pictures, each named by the first sample that has it. Sorted by a, then b, in the order of
    :class:`Leakage`.
    """
    near = leakage.near
    repeats = np.flatnonzero(leakage.first != np.arange(len(leakage.first)))
    rows = [(int(leakage.first[index]), int(index), "exact", 0.0, False) for index in repeats]
    pairs = zip(near.first.tolist(), near.second.tolist(), near.distance.tolist(), near.flipped.tolist(), strict=True)
    rows += [(a, b, "near", distance, flipped) for a, b, distance, flipped in pairs]
    text = io.StringIO()
    ledger = csv.writer(text, lineterminator="\n")
    ledger.writerow(COLUMNS)
    for a, b, kind, distance, flipped in sorted(rows):
        conflict = _yes_or_no(leakage.labels[a] != leakage.labels[b])
        ledger.writerow(
            [*_sample(leakage, a), *_sample(leakage, b), kind, f"{distance:.4f}", _yes_or_no(flipped), conflict]
        )
    try:
        atomic_write_text(path, text.getvalue())
    except OSError as error:
        raise DataError(
            f"{path}: the ledger cannot be written ({error.strerror}); choose another place with --out", exit_status=2
        ) from error
    return len(rows)


def _sample(leakage: Leakage, index: int) -> tuple[str, str, str]:
    return SPLITS[leakage.splits[index]], leakage.keys[index], leakage.class_names[leakage.labels[index]]


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"
