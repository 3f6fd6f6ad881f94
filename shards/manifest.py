"""``manifest.json``: what a data set holds, in a form that can be checked."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shards.errors import DataError

SCHEMA_VERSION = 1
FILE_NAME = "manifest.json"


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
    """For ``train/val`` and the like: how many samples of the second split stand in the first as well."""
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
    """Over train, one for each channel, of pixels in [0, 1]."""
    std: tuple[float, ...]
    """Over train, one for each channel, of pixels in [0, 1]; divided by n, not n - 1."""
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
    """Whatever else decides the bytes of the shards, such as ``seed`` and ``shard_samples``."""

    @property
    def digest(self) -> str:
        """sha256 in hex of ``manifest.json`` as :meth:`to_bytes` writes it: the data set's identity."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def samples(self) -> int:
        """Samples over all splits."""
        return sum(split.samples for split in self.splits.values())

    def to_bytes(self) -> bytes:
        """The text of ``manifest.json``; equal manifests give equal bytes."""
        return (json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode()

    def split(self, name: str) -> Split:
        """The split ``name``; raises :class:`DataError` if the data set has none."""
        if name not in self.splits:
            raise DataError(f"the data set has no split {name!r}; it has {', '.join(self.splits)}.")
        return self.splits[name]


def read_manifest(folder: Path) -> Manifest:
    """Read ``folder/manifest.json``.

    Raises :class:`DataError` (exit status 2) if the folder or the file is absent, and (1) if the file is damaged or
    of another schema version.
    """
    folder = Path(folder)
    path = folder / FILE_NAME
    if not folder.is_dir():
        raise DataError(
            f"{folder}: there is no such folder; it should be one that `python -m shards pack` wrote.", exit_status=2
        )
    if not path.is_file():
        raise DataError(
            f"{folder}: has no {FILE_NAME}, so it is not a data set that `python -m shards pack` wrote.", exit_status=2
        )
    try:
        return _from_json(json.loads(path.read_bytes()))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: is damaged ({type(error).__name__}: {error}); pack the data set again.") from error


def _from_json(fields: dict[str, Any]) -> Manifest:
    version = fields["schema_version"]
    if version != SCHEMA_VERSION:
        raise DataError(f"has schema version {version}, this program reads {SCHEMA_VERSION}; pack the data set again.")
    splits = {
        name: Split(
            shards=tuple(Shard(**shard) for shard in split["shards"]),
            samples=split["samples"],
            class_counts=tuple(split["class_counts"]),
        )
        for name, split in fields["splits"].items()
    }
    channels, height, width = fields["image_shape"]
    return Manifest(
        schema_version=version,
        class_names=tuple(fields["class_names"]),
        image_shape=(channels, height, width),
        mean=tuple(fields["mean"]),
        std=tuple(fields["std"]),
        splits=splits,
        duplicates=Duplicates(**fields["duplicates"]),
        source_format=fields["source_format"],
        source_sha256=fields["source_sha256"],
        rejects=fields["rejects"],
        votes=fields["votes"],
        options=dict(fields["options"]),
    )
