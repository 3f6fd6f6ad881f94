"""Writes one shard, in a worker process."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from shards.errors import DataError
from shards.manifest import Shard
from shards.packing.tar import sample_members, tar_end
from shards.sources.scan import Images


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardTask:
    """A shard to write; ``keys``, ``labels``, ``locations`` and ``votes`` have an element for each sample."""

    path: Path
    keys: list[str]
    labels: list[int]
    locations: list[Any]
    """Where ``images`` finds each sample's."""
    images: Images
    votes: list[bytes | None] | None


class HashingFile:
    """A file that counts and hashes what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> int:
        """Write ``data``; returns its length."""
        self._hash.update(data)
        self.bytes += len(data)
        return self._file.write(data)

    @property
    def sha256(self) -> str:
        """Of everything written so far, in hex."""
        return self._hash.hexdigest()


def write_shard(task: ShardTask) -> Shard:
    """Write the tar, make sure that it is on the disk, and describe it.

    Members are KEY.cls, KEY.png (or .jpg), KEY.votes.json, in this order. With mtime 0, owner 0 and plain ustar headers
    the bytes depend on nothing but the samples. Raises :class:`DataError` if the tar cannot be written.
    """
    try:
        with open(task.path, "wb") as file:
            hashing = HashingFile(file)
            for index, image in enumerate(task.images.files(task.locations)):
                files = [("cls", b"%d" % task.labels[index]), image]
                votes = task.votes[index] if task.votes is not None else None
                if votes is not None:
                    files.append(("votes.json", votes))
                hashing.write(sample_members(task.keys[index], files))
            hashing.write(tar_end(hashing.bytes))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DataError(f"{task.path}: cannot be written ({error.strerror})") from error
    return Shard(name=task.path.name, samples=len(task.keys), bytes=hashing.bytes, sha256=hashing.sha256)
