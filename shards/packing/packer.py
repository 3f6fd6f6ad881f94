"""Packs a source into a data set: whole or absent, and the same bytes however many workers."""

import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.errors import DataError
from shards.labels import SPLITS
from shards.leakage.exact import find_duplicates
from shards.leakage.filter import leave_out_leaks
from shards.manifest import FILE_NAME, SCHEMA_VERSION, Manifest, Shard, Split, read_manifest
from shards.packing.rejects import rejects_path, write_rejects
from shards.packing.writer import ShardTask, write_shard
from shards.parallel import worker_pool
from shards.pixel_statistics import mean_and_std
from shards.sources.scan import Reject, Scanned

Source = Callable[[Path, Executor, int], Scanned]
"""Called with a folder for its own files, a pool of worker processes and their number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """What :func:`pack` did."""

    manifest: Manifest
    created: bool
    """False where OUT held the same bytes already."""
    rejects: list[Reject]


def pack(
    source: Source,
    out: Path,
    *,
    seed: int = 0,
    shard_samples: int = 2048,
    workers: int = 1,
    max_rejects: int = 0,
    without_leaks: bool = False,
) -> Packed:
    """Write the data set ``out`` from ``source``.

    The samples of each split are shuffled by ``seed`` and dealt to shards of ``shard_samples`` at most, whose sizes
    differ by one at most. Everything is written in a folder beside ``out`` and renamed into place at the end; whatever
    happens before that leaves ``out`` as it was. Rejects are listed in ``OUT.rejects.csv``, beside it. With
    ``without_leaks``, the val and test samples whose image stands in train, exactly or nearly, are left out; the
    manifest's options say how many. Train keeps all of its own, and the same bytes.

    Raises :class:`DataError` if the source cannot be used, more than ``max_rejects`` of it is rejected, or ``out``
    holds something else.
    """
    for name, value, least in (
        ("--shard-samples", shard_samples, 1),
        ("--workers", workers, 1),
        ("--max-rejects", max_rejects, 0),
        ("--seed", seed, 0),
    ):
        if value < least:
            raise DataError(f"{name} is {value}; it should be {least} or more", exit_status=2)
    out = Path(os.path.abspath(out))
    _refuse_foreign(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    except OSError as error:
        raise DataError(f"{out}: cannot be made ({error.strerror})", exit_status=2) from error
    try:
        folder = work / "set"
        folder.mkdir()
        with worker_pool(workers) as pool:
            scanned = source(work, pool, workers)
            _report_rejects(scanned, out, max_rejects)
            options: dict[str, int | str] = {"seed": seed, "shard_samples": shard_samples}
            if without_leaks:
                scanned, left_out = leave_out_leaks(scanned, pool)
                options |= left_out
            shards = _write_shards(scanned, folder, seed, shard_samples, pool)
        manifest = _manifest(scanned, shards, options)
        _write_durably(folder / FILE_NAME, manifest.to_bytes())
        created = _put_in_place(folder, out, manifest)
    except BrokenProcessPool as error:
        raise DataError(
            f"a worker process was killed, perhaps for want of memory or disk space, so {out} was not written"
        ) from error
    except OSError as error:
        raise DataError(f"{error.filename or out}: {error.strerror}, so {out} was not written") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Packed(manifest=manifest, created=created, rejects=scanned.rejects)


def mixed(count: int, seed: int, split: str) -> np.ndarray:
    """A permutation of ``count`` by ``seed``, another for each split: int64, (count,).

    From the raw 64-bit words of PCG64, which numpy promises to keep; its ``permutation`` may change with a version.
    """
    words = np.random.PCG64(np.random.SeedSequence([seed, SPLITS.index(split)])).random_raw(count)
    return np.argsort(words, kind="stable")


def shard_sizes(samples: int, at_most: int) -> list[int]:
    """Sizes of the fewest shards that hold ``samples``, ``at_most`` each; they differ by one at most."""
    count = -(-samples // at_most)
    return [samples // count + (place < samples % count) for place in range(count)]


def _write_shards(
    scanned: Scanned, folder: Path, seed: int, shard_samples: int, pool: Executor
) -> dict[str, list[Shard]]:
    table = scanned.table
    keys, labels, places = table.key.tolist(), table.label.tolist(), table.place.tolist()
    tasks: list[ShardTask] = []
    counts: dict[str, int] = {}
    for split in SPLITS:
        members = np.flatnonzero((table.split == split).to_numpy())
        if not len(members):
            continue
        order = members[mixed(len(members), seed, split)].tolist()
        start = 0
        sizes = shard_sizes(len(order), shard_samples)
        counts[split] = len(sizes)
        for number, size in enumerate(sizes):
            chosen = order[start : start + size]
            start += size
            tasks.append(
                ShardTask(
                    path=folder / f"{split}-{number:06d}.tar",
                    keys=[keys[one] for one in chosen],
                    labels=[labels[one] for one in chosen],
                    places=[places[one] for one in chosen],
                    images=scanned.images,
                    votes=[scanned.votes[one] for one in chosen] if scanned.votes is not None else None,
                )
            )
    written = list(pool.map(write_shard, tasks))
    shards: dict[str, list[Shard]] = {}
    for split, count in counts.items():
        shards[split], written = written[:count], written[count:]
    return shards


def _manifest(scanned: Scanned, shards: dict[str, list[Shard]], options: dict[str, int | str]) -> Manifest:
    table = scanned.table
    in_train = (table.split == "train").to_numpy()
    _, height, width = scanned.image_shape
    mean, std = mean_and_std(scanned.sums[in_train], scanned.square_sums[in_train], height * width)
    splits = {}
    for split, members in shards.items():
        labels = table.label[table.split == split].to_numpy()
        splits[split] = Split(
            shards=tuple(members),
            samples=len(labels),
            class_counts=tuple(np.bincount(labels, minlength=len(scanned.class_names)).tolist()),
        )
    votes = None
    if scanned.votes is not None:
        without = sum(one is None for one in scanned.votes)
        votes = {"with": len(scanned.votes) - without, "without": without}
    return Manifest(
        schema_version=SCHEMA_VERSION,
        class_names=scanned.class_names,
        image_shape=scanned.image_shape,
        mean=mean,
        std=std,
        splits=splits,
        duplicates=find_duplicates(table),
        source_format=scanned.source_format,
        source_sha256=scanned.source_sha256,
        rejects=len(scanned.rejects),
        votes=votes,
        options=options,
    )


def _report_rejects(scanned: Scanned, out: Path, max_rejects: int) -> None:
    """List the rejects beside ``out``; stop if there are too many, or nothing is left to train on."""
    write_rejects(scanned.rejects, out)
    count = len(scanned.rejects)
    if count > max_rejects:
        first = scanned.rejects[0]
        raise DataError(
            f"{count} of {count + len(scanned.table)} samples cannot be used, more than --max-rejects {max_rejects}, "
            f"so {out} was not written; the first is {first.place}: {first.reason} "
            f"(all are in {rejects_path(out)})"
        )
    if not (scanned.table.split == "train").any():
        raise DataError(f"the source has no usable training sample, so {out} was not written; train must not be empty")


def _refuse_foreign(out: Path) -> None:
    if not os.path.lexists(out):
        return
    if not (out / FILE_NAME).is_file():
        raise DataError(
            f"{out}: exists and is not a data set; choose another name for OUT, or remove it first", exit_status=2
        )


def _put_in_place(folder: Path, out: Path, manifest: Manifest) -> bool:
    """Rename ``folder`` to ``out``; False if ``out`` is there already and is the same, else :class:`DataError`."""
    _sync_folder(folder)
    if os.path.lexists(out):
        difference = _difference(out, manifest)
        if difference:
            raise DataError(f"{out}: exists and {difference}; remove it, or choose another name for OUT", exit_status=2)
        return False
    os.rename(folder, out)
    _sync_folder(out.parent)
    return True


def _difference(out: Path, manifest: Manifest) -> str | None:
    if read_manifest(out).to_bytes() != manifest.to_bytes():
        return "is another data set (another source, or other options)"
    for split in manifest.splits.values():
        for shard in split.shards:
            path = out / shard.name
            if not path.is_file() or path.stat().st_size != shard.bytes:
                return f"its {shard.name} is missing or damaged"
    return None


def _write_durably(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
