"""Writes one shard, in a worker process."""

import gc
import hashlib
import os
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from shards.errors import DataError
from shards.manifest import Shard
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

    Members are KEY.cls, KEY.png (or .jpg), KEY.votes.json, sorted by webdataset's TarWriter. With mtime 0, owner 0 and
    plain ustar headers the bytes depend on nothing but the samples. Raises :class:`DataError` if the tar cannot be
    written.
    """
    tar_writer = _tar_writer()
    gc.disable()  # tarfile keeps an object for each member, and the collector would visit all of them over and over
    try:
        with open(task.path, "wb") as file:
            hashing = HashingFile(file)
            with tar_writer(hashing, user="", group="", mode=0o644, encoder=False, mtime=0) as tar:
                tar.tarstream.format = tarfile.USTAR_FORMAT  # TarWriter leaves tarfile's default, pax
                for index, (extension, content) in enumerate(task.images.files(task.locations)):
                    sample: dict[str, Any] = {"__key__": task.keys[index], "cls": b"%d" % task.labels[index]}
                    sample[extension] = content
                    votes = task.votes[index] if task.votes is not None else None
                    if votes is not None:
                        sample["votes.json"] = votes
                    tar.write(sample)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DataError(f"{task.path}: cannot be written ({error.strerror})") from error
    finally:
        gc.enable()
    return Shard(name=task.path.name, samples=len(task.keys), bytes=hashing.bytes, sha256=hashing.sha256)


def _tar_writer() -> Any:
    """webdataset's TarWriter, without torch, which takes seconds to import and which webdataset can do without.

    Only for a worker process of the packer, which reads nothing through webdataset.
    """
    hidden = "torch" not in sys.modules and "webdataset" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        from webdataset import TarWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return TarWriter
