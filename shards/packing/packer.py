"""Packs a source into a data set: whole or absent, and the same bytes for any number of workers."""

import os
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shards.errors import DataError
from shards.files import atomic_write_bytes, partial_folder, remove_partial_folders, sync_folder
from shards.leakage.exact import count_duplicates, first_occurrences
from shards.leakage.filter import compare_samples, remove_leaks
from shards.manifest import FILE_NAME, SCHEMA_VERSION, Manifest, Shard, Split, read_manifest
from shards.packing.classes import ClassChoice, choose_classes
from shards.packing.division import Division, divide, with_test_alone
from shards.packing.rejects import rejects_path, write_rejects
from shards.packing.vote_labels import describe_by_split, label_by_votes, without_unclear
from shards.packing.writer import ShardTask, write_shard
from shards.parallel import worker_pool
from shards.pixel_statistics import mean_and_std
from shards.progress import with_progress
from shards.sources.scan import Reject, Source, SourceScan
from shards.splits import SPLITS
from shards.votes import vote_lines


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """What :func:`pack` did."""

    manifest: Manifest
    """Of fold 0, where there are folds."""
    folds: tuple[Manifest, ...]
    """Of ``OUT/fold0``, ``OUT/fold1`` and so on; empty without folds."""
    created: bool
    """False where OUT held the same bytes already."""
    listed: int
    """Samples of the source, rejects included."""
    rejects: list[Reject]
    notes: tuple[str, ...]
    """Sentences about the source, to be printed."""


def pack(
    source: Source,
    out: Path,
    *,
    seed: int = 0,
    shard_samples: int = 2048,
    workers: int = 1,
    max_rejects: int = 0,
    without_leaks: bool = False,
    classes: ClassChoice | None = None,
    division: Division | None = None,
) -> Packed:
    """Write the data set ``out`` from ``source``, or with folds a folder ``out`` of data sets ``fold0``, ``fold1``, ...

    The samples of each split are shuffled by ``seed`` and divided into shards of ``shard_samples`` at most, whose sizes
    differ by one at most. Everything is written in a folder beside ``out`` and renamed into place at the end; whatever
    happens before that leaves ``out`` as it was. Rejects are listed in ``OUT.rejects.csv``, beside it. With
    ``without_leaks``, the val and test samples whose image also appears in train, exactly or nearly, are left out; the
    manifest's options give their number. Train keeps all of its samples, and the same bytes. ``classes`` and then
    ``division`` are applied to what remains.

    Raises :class:`DataError` if the source cannot be used, more than ``max_rejects`` of it is rejected, or ``out``
    holds something else.
    """
    for name, value, minimum in (
        ("--shard-samples", shard_samples, 1),
        ("--workers", workers, 1),
        ("--max-rejects", max_rejects, 0),
        ("--seed", seed, 0),
    ):
        if value < minimum:
            raise DataError(f"{name} is {value}; it should be {minimum} or more", exit_status=2)
    division = division or Division()
    division.check()
    out = Path(os.path.abspath(out))
    names = [f"fold{fold}" for fold in range(division.folds)] or [""]
    _refuse_foreign(out, names[0])
    with ExitStack() as stack:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            removed = remove_partial_folders(out)
            work = stack.enter_context(partial_folder(out))
        except OSError as error:
            raise DataError(f"{out}: cannot be made ({error.strerror})", exit_status=2) from error
        try:
            manifests: dict[str, Manifest] = {}
            with worker_pool(workers) as pool:
                scan = source(work, pool, workers)
                listed = len(scan.table) + len(scan.rejects)
                votes = {} if scan.votes is None else describe_by_split(scan)
                if scan.is_labelled_by_votes:
                    scan = without_unclear(label_by_votes(scan))
                    kept = scan.table.split.value_counts()
                    votes = {split: f"{text}; {kept.get(split, 0):,} kept" for split, text in votes.items()}
                    texts = {f"votes_{split}": text for split, text in votes.items()}
                    scan = replace(scan, options={**scan.options, "labels": "votes", **texts})
                _report_rejects(scan, out, max_rejects)
                for name, part in zip(
                    names, _prepared(scan, classes, division, without_leaks, seed, pool), strict=True
                ):
                    if part.is_labelled_by_votes:
                        part = without_unclear(part)  # val may have been taken out of train
                    folder = work / "set" / name
                    folder.mkdir(parents=True)
                    shards = _write_shards(part, folder, seed, shard_samples, pool)
                    options = {"seed": seed, "shard_samples": shard_samples, **part.options}
                    manifests[name] = _manifest(part, shards, options)
                    atomic_write_bytes(folder / FILE_NAME, manifests[name].to_bytes())
            created = _move_into_place(work / "set", out, manifests)
            write_rejects(scan.rejects, out)  # only now: a data set that is not replaced keeps its own list
        except BrokenProcessPool as error:
            raise DataError(
                f"a worker process was killed, perhaps for lack of memory or disk space, so {out} was not written"
            ) from error
        except OSError as error:
            raise DataError(f"{error.filename or out}: {error.strerror}, so {out} was not written") from error
    return Packed(
        manifest=manifests[names[0]],
        folds=tuple(manifests.values()) if division.folds else (),
        created=created,
        listed=listed,
        rejects=scan.rejects,
        notes=(*part.notes, *vote_lines(votes), *(f"{path}: a killed pack had left it; removed" for path in removed)),
    )


def _prepared(
    scan: SourceScan,
    classes: ClassChoice | None,
    division: Division,
    without_leaks: bool,
    seed: int,
    pool: Executor,
) -> list[SourceScan]:
    """The data sets to write: ``scan`` with the chosen classes and splits."""
    if classes is not None:
        scan = choose_classes(scan, classes)
    if not len(scan.table):
        raise DataError(f"no sample is left: --classes keeps {', '.join(scan.class_names)}", exit_status=2)
    if division.test_fraction == 1:
        scan, division = with_test_alone(scan), Division()
    if not without_leaks and not division.is_needed:
        return [scan]
    compared = scan if without_leaks else scan.selected((scan.table.split == "train").to_numpy())
    leakage = compare_samples(compared, pool)
    if without_leaks:
        scan = remove_leaks(scan, leakage)
    return divide(scan, division, leakage, seed) if division.is_needed else [scan]


def permutation(count: int, seed: int, split: str) -> np.ndarray:
    """A permutation of ``count`` by ``seed``, a different one for each split: int64, (count,).

    From the raw 64-bit words of PCG64, which numpy promises to keep; its ``permutation`` may change with a version.
    """
    random_bits = np.random.PCG64(np.random.SeedSequence([seed, SPLITS.index(split)])).random_raw(count)
    return np.argsort(random_bits, kind="stable")


def shard_sizes(samples: int, maximum: int) -> list[int]:
    """Sizes of the fewest shards that hold ``samples``, ``maximum`` each at most; they differ by one at most."""
    count = -(-samples // maximum)
    return [samples // count + (number < samples % count) for number in range(count)]


def _write_shards(
    scan: SourceScan, folder: Path, seed: int, shard_samples: int, pool: Executor
) -> dict[str, list[Shard]]:
    table = scan.table
    keys, labels, locations = table.key.tolist(), table.label.tolist(), table.location.tolist()
    tasks: list[ShardTask] = []
    counts: dict[str, int] = {}
    for split in SPLITS:
        members = np.flatnonzero((table.split == split).to_numpy())
        if not len(members):
            continue
        order = members[permutation(len(members), seed, split)].tolist()
        start = 0
        sizes = shard_sizes(len(order), shard_samples)
        counts[split] = len(sizes)
        for number, size in enumerate(sizes):
            chosen = order[start : start + size]
            start += size
            tasks.append(
                ShardTask(
                    path=folder / f"{split}-{number:06d}.tar",
                    keys=[keys[index] for index in chosen],
                    labels=[labels[index] for index in chosen],
                    locations=[locations[index] for index in chosen],
                    images=scan.images,
                    votes=[scan.votes[index] for index in chosen] if scan.votes is not None else None,
                )
            )
    written = list(with_progress(pool.map(write_shard, tasks), "writing", len(tasks), unit="shard"))
    shards: dict[str, list[Shard]] = {}
    for split, count in counts.items():
        shards[split], written = written[:count], written[count:]
    return shards


def _manifest(scan: SourceScan, shards: dict[str, list[Shard]], options: dict[str, int | str]) -> Manifest:
    table = scan.table
    all_labels, split_numbers = table.label.to_numpy(), table.split.map(SPLITS.index).to_numpy(np.int64)
    in_train = split_numbers == SPLITS.index("train")
    if not in_train.any():  # only to be evaluated on: then with the model's mean, and this one describes what is there
        in_train = np.ones(len(table), bool)
    _, height, width = scan.image_shape
    mean, std = mean_and_std(scan.sums[in_train], scan.square_sums[in_train], height * width)
    splits = {}
    for split, members in shards.items():
        labels = all_labels[split_numbers == SPLITS.index(split)]
        splits[split] = Split(
            shards=tuple(members),
            samples=len(labels),
            class_counts=tuple(np.bincount(labels, minlength=len(scan.class_names)).tolist()),
        )
    votes = None
    if scan.votes is not None:
        without = sum(one is None for one in scan.votes)
        votes = {"with": len(scan.votes) - without, "without": without}
    return Manifest(
        schema_version=SCHEMA_VERSION,
        class_names=scan.class_names,
        image_shape=scan.image_shape,
        mean=mean,
        std=std,
        splits=splits,
        duplicates=count_duplicates(first_occurrences(table.digest.tolist()), split_numbers, all_labels),
        source_format=scan.source_format,
        source_sha256=scan.source_sha256,
        rejects=len(scan.rejects),
        votes=votes,
        options=options,
    )


def _report_rejects(scan: SourceScan, out: Path, max_rejects: int) -> None:
    """Refuse too many rejects, which are listed beside ``out``, and a source without a usable sample."""
    count = len(scan.rejects)
    if count > max_rejects:
        write_rejects(scan.rejects, out)
        first = scan.rejects[0]
        raise DataError(
            f"{count} of {count + len(scan.table)} samples cannot be used, more than --max-rejects {max_rejects}, "
            f"so {out} was not written; the first is {first.place}: {first.reason} "
            f"(all are in {rejects_path(out)}); repair them, or leave them out with --max-rejects {count}"
        )
    if not len(scan.table):
        raise DataError(f"the source has no usable sample, so {out} was not written")


def _refuse_foreign(out: Path, name: str) -> None:
    if not os.path.lexists(out):
        return
    if not (out / name / FILE_NAME).is_file():
        raise DataError(
            f"{out}: exists and is not a data set; choose another name for OUT, or remove it first", exit_status=2
        )


def _move_into_place(folder: Path, out: Path, manifests: dict[str, Manifest]) -> bool:
    """Rename ``folder`` to ``out``; False if ``out`` holds the same already, :class:`DataError` if something else."""
    if os.path.lexists(out):
        for name, manifest in manifests.items():
            difference = _difference(out / name, manifest)
            if difference:
                raise DataError(
                    f"{out / name}: exists and {difference}; remove it, or choose another name for OUT", exit_status=2
                )
        return False
    os.rename(folder, out)
    sync_folder(out.parent)
    return True


def _difference(folder: Path, manifest: Manifest) -> str | None:
    if read_manifest(folder).to_bytes() != manifest.to_bytes():
        return "is another data set (another source, or other options)"
    for split in manifest.splits.values():
        for shard in split.shards:
            path = folder / shard.name
            if not path.is_file() or path.stat().st_size != shard.bytes:
                return f"its {shard.name} is missing or damaged"
    return None
