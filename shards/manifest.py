"""``manifest.json``: what a data set holds, in a form that can be checked."""

import hashlib
import json
import math
import os
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from shards.errors import DataError
from shards.files import SMALL, parse_json, read_regular
from shards.splits import SPLITS
from shards.validation import InvalidValue, from_json

SCHEMA_VERSION = 1
FILE_NAME = "manifest.json"
MAX_CLASSES = 1000
_MAX_SIDE = 4096
"""Pixels of an image's height and width."""
_MAX_SHARD_BYTES = 1 << 32
"""A shard is read into memory as a whole; of 224 x 224 colour images ours have 0.3 GiB."""
_FEWEST_BYTES = 2048
"""Of a sample in a tar: an image and a label, each with its header."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One tar of a split."""

    name: str
    """File name inside the data set's folder, such as ``train-000000.tar``."""
    samples: int
    bytes: int
    sha256: str
    """Of the file, in hex; empty where the manifest comes from a scan."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """One of ``train``, ``val`` and ``test``."""

    shards: tuple[Shard, ...]
    samples: int
    class_counts: tuple[int, ...]
    """Samples of each class, in label order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Duplicates:
    """Samples whose pixels are equal, byte for byte."""

    within: dict[str, int]
    """For each split, how many of its samples repeat an earlier one of the same split."""
    across: dict[str, int]
    """For ``train/val`` and the like: how many samples of the second split also appear in the first."""
    conflicting_groups: dict[str, int]
    """For ``all`` and for each split: groups of identical images that carry more than one label."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A data set: its labels, its images' shape and statistics, its shards."""

    schema_version: int
    class_names: tuple[str, ...]
    """Label ``i`` means ``class_names[i]``."""
    image_shape: tuple[int, int, int]
    """(channels, height, width)."""
    mean: tuple[float, ...]
    """Over train, or all where there is no train; one for each channel, of pixels in [0, 1]."""
    std: tuple[float, ...]
    """As ``mean``; divided by n, not n - 1."""
    splits: dict[str, Split]
    """``train``, ``val``, ``test``, in this order; a split that is absent has no key."""
    duplicates: Duplicates
    source_format: str
    source_sha256: str
    rejects: int
    """Rows or files of the source that could not be used."""
    votes: dict[str, int] | None
    """Samples with and without FER+ votes (``with``, ``without``); None where no votes were given."""
    options: dict[str, int | str]
    """Whatever else the bytes of the shards depend on, such as ``seed`` and ``shard_samples``."""

    @property
    def digest(self) -> str:
        """sha256 in hex of ``manifest.json`` as :meth:`to_bytes` writes it: the data set's identity."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def samples(self) -> int:
        """Samples over all splits."""
        return sum(split.samples for split in self.splits.values())

    @property
    def untrained_classes(self) -> tuple[str, ...]:
        """Classes that have samples in val or test and none in train; none where there is no train."""
        counts = {name: split.class_counts for name, split in self.splits.items()}
        if "train" not in counts:
            return ()
        train = counts["train"]
        return tuple(
            name
            for label, name in enumerate(self.class_names)
            if not train[label] and any(split[label] for split in counts.values())
        )

    def to_bytes(self) -> bytes:
        """The text of ``manifest.json``; equal manifests give equal bytes."""
        return (json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode()

    def split(self, name: str, folder: Path) -> Split:
        """The split ``name``; raises :class:`DataError` if the data set, which is in ``folder``, has none."""
        if name not in self.splits:
            raise DataError(f"{folder}: has no {name} split; it has {', '.join(self.splits)}")
        return self.splits[name]


def data_sets_in(folder: Path) -> list[Path]:
    """The data sets of ours directly in ``folder``, such as the folds of a cross-validation."""
    return sorted(path.parent for path in folder.glob(f"*/{FILE_NAME}"))


def read_manifest(folder: Path) -> Manifest:
    """Read ``folder/manifest.json``.

    Raises :class:`DataError` (exit status 2) if the folder or the file is missing, and (1) if the file is damaged,
    contradicts itself, or has another schema version.
    """
    folder = Path(folder)
    path = folder / FILE_NAME
    if not folder.is_dir():
        raise DataError(f"{folder}: {_no_folder(folder)}", exit_status=2)
    inside = [] if os.path.lexists(path) else data_sets_in(folder)
    if inside:
        names = ", ".join(one.name for one in inside[:5])
        raise DataError(f"{folder}: holds several data sets ({names}); give one, such as {inside[0]}", exit_status=2)
    if not os.path.lexists(path):
        raise DataError(
            f"{folder}: has no {FILE_NAME}, so it is not a data set that `fer-ddp pack` wrote; "
            f"pack it first with `fer-ddp pack {shlex.quote(str(folder))} OUT`",
            exit_status=2,
        )
    try:
        fields = parse_json(read_regular(path, at_most=SMALL))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); pack the data set again") from error
    except ValueError as error:
        raise DataError(f"{path}: is not whole JSON ({error}); pack the data set again") from error
    version = fields.get("schema_version", SCHEMA_VERSION) if isinstance(fields, dict) else SCHEMA_VERSION
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{path}: has schema version {version}, this program reads {SCHEMA_VERSION}; pack the data set again"
        )
    try:
        manifest = from_json(fields, Manifest)
    except InvalidValue as error:
        raise DataError(f"{path}: {error}; correct it, or pack the data set again") from error
    problem = _contradiction(manifest)
    if problem is not None:
        raise DataError(f"{path}: {problem}; correct it, or pack the data set again")
    return manifest


def _no_folder(path: Path) -> str:
    """What ``path`` is instead of the folder of a data set, and what to do."""
    if path.is_file():
        if (path.parent / FILE_NAME).is_file():
            return f"is a file of a data set; give its folder, {path.parent}"
        kind = {".csv": "a CSV", ".tar": "one tar"}.get(path.suffix.lower(), "a file")
        return f"is {kind}; pack it first with `fer-ddp pack {shlex.quote(str(path))} OUT`, and give the folder OUT"
    if any(mark in path.name for mark in "{*"):
        return f"is a pattern of files; pack them first with `fer-ddp pack {shlex.quote(str(path))} OUT`, and give OUT"
    return "there is no such folder; it should be one that `fer-ddp pack` wrote"


def class_names_fault(names: Sequence[str]) -> str | None:
    """What makes ``names`` unfit to be a data set's classes; None if nothing."""
    if not 1 <= len(names) <= MAX_CLASSES:
        return f"has {len(names):,} classes; it should have 1 to {MAX_CLASSES:,}"
    for name, times in Counter(names).items():
        if not name.strip() or not name.isprintable():
            return f"has the class {name!r}; a name should be printable text"
        if times > 1:
            return f"has the class {name!r} twice; each class should have a name of its own"
    return None


def _contradiction(manifest: Manifest) -> str | None:
    """What in ``manifest`` has the right type and still cannot be true; None if nothing."""
    channels, *sides = manifest.image_shape
    if channels not in (1, 3) or min(sides) < 1:
        return f"image_shape: is {list(manifest.image_shape)}; it should be [1 or 3, height, width]"
    if max(sides) > _MAX_SIDE:
        return f"image_shape: is {list(manifest.image_shape)}; height and width should be at most {_MAX_SIDE}"
    for key, numbers, is_fit in (
        ("mean", manifest.mean, math.isfinite),
        ("std", manifest.std, lambda number: 0 < number < math.inf),
    ):
        if len(numbers) != channels:
            return f"{key}: has {len(numbers)} numbers; it should have {channels}, one for each channel"
        if not all(map(is_fit, numbers)):
            return f"{key}: is {list(numbers)}; each should be a number{' over 0' if key == 'std' else ''}"
    for name, split in manifest.splits.items():
        problem = _contradiction_in_split(name, split, len(manifest.class_names))
        if problem is not None:
            return f"splits.{name}{problem}"
    if not manifest.splits:
        return f"splits: is empty; it should have one of {', '.join(SPLITS)}"
    shards = Counter(shard.name for split in manifest.splits.values() for shard in split.shards)
    repeated = next((name for name, times in shards.items() if times > 1), None)
    if repeated is not None:
        return f"splits: name {repeated} twice; each shard should be named once"
    fault = class_names_fault(manifest.class_names)
    return None if fault is None else f"class_names: {fault}"


def _contradiction_in_split(name: str, split: Split, classes: int) -> str | None:
    """As :func:`_contradiction`, without the ``splits.NAME`` that it begins with."""
    if name not in SPLITS:
        return f": is not a split; the splits are {', '.join(SPLITS)}"
    if len(split.class_counts) != classes:
        return f".class_counts: has {len(split.class_counts)} numbers; it should have {classes}, one for each class"
    for shard in split.shards:
        if not re.fullmatch(r"[^/\\:]+\.tar", shard.name) or not shard.name.isprintable():
            return f".shards: names {shard.name!r}; it should be a tar in the manifest's own folder"
    if min(split.class_counts, default=0) < 0 or min((shard.samples for shard in split.shards), default=0) < 0:
        return ": counts less than 0 samples; counts should be 0 or more"
    if not split.shards:
        return ".shards: is empty; a split should have a shard"
    for shard in split.shards:
        if shard.bytes > _MAX_SHARD_BYTES:
            return (
                f".shards: {shard.name} has {shard.bytes:,} bytes; it should have at most {_MAX_SHARD_BYTES:,}; "
                f"pack with a smaller --shard-samples"
            )
        if shard.samples < 1 or shard.samples * _FEWEST_BYTES > shard.bytes:
            return (
                f".shards: {shard.name} has {shard.samples:,} samples in {shard.bytes:,} bytes; "
                f"it should have at least one, and {_FEWEST_BYTES} bytes for each"
            )
    inside, counted = sum(shard.samples for shard in split.shards), sum(split.class_counts)
    if not split.samples == inside == counted:
        return f".samples: is {split.samples:,}; its shards have {inside:,}, its classes {counted:,}"
    return None
