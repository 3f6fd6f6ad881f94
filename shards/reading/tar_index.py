"""Where the files of a tar are, read from the tar's own headers."""

import io
import os
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from shards.errors import DataError

_BLOCK = 512
_MAX_PADDING = 2**20
"""How far behind its end a tar is looked at; tar pads to 10 KiB."""
_OCTAL = 8 ** np.arange(10, -1, -1)


class Member(NamedTuple):
    """One file of a tar."""

    name: str
    offset: int
    """Of the file's first byte, counted from the tar's."""
    size: int


def index_tar(content: bytes, name: str) -> list[Member]:
    """The regular files of the tar ``content``, in order; ``name`` is its name in errors.

    Plain ustar headers are read here, all at once; a tar with any other header (pax, GNU long names, sparse files) is
    read by ``tarfile``, which takes twenty times as long. Raises :class:`DataError` if it is cut short or is not a tar.
    """
    if len(content) < _BLOCK:
        raise _cut_short(content, name)
    blocks = np.frombuffer(content, np.uint8, len(content) // _BLOCK * _BLOCK).reshape(-1, _BLOCK)
    heads = np.flatnonzero((blocks[:, 257:262] == tuple(b"ustar")).all(axis=1))
    headers = blocks[heads]
    digits = headers[:, 124:135] - ord("0")
    kinds, ends = headers[:, 156], headers[:, 135]
    is_plain = np.isin(kinds, (0, ord("0"))) & (digits < 8).all(axis=1) & np.isin(ends, (0, ord(" ")))
    if not (is_plain & (headers[:, 345] == 0)).all():
        return _index_by_tarfile(content, name)
    sizes = digits.astype(np.int64) @ _OCTAL
    following = heads + 1 + (sizes + _BLOCK - 1) // _BLOCK
    # Each header must be where the one before ends, and an empty block after the last: else some are not headers.
    positions = np.append(heads, following[-1] if len(heads) else 0)
    if positions[0] != 0 or not np.array_equal(positions[1:], following):
        return _index_by_tarfile(content, name)
    if positions[-1] >= len(blocks):
        raise _cut_short(content, name)
    if blocks[positions[-1]].any():
        return _index_by_tarfile(content, name)
    try:
        names = [member.decode() for member in np.ascontiguousarray(headers[:, :100]).view("S100")[:, 0].tolist()]
    except UnicodeDecodeError:
        return _index_by_tarfile(content, name)
    if "\0" in "".join(names):
        return _index_by_tarfile(content, name)
    return list(map(Member, names, ((heads + 1) * _BLOCK).tolist(), sizes.tolist()))


def _cut_short(content: bytes, name: str) -> DataError:
    return DataError(f"{name}: is cut short after {len(content)} bytes; copy or pack it again")


def _index_by_tarfile(content: bytes, name: str) -> list[Member]:
    return list(read_members(io.BytesIO(content), name))


def read_members(file: BinaryIO, name: str) -> Iterator[Member]:
    """The regular files of the tar ``file``, in order, from its headers alone; ``name`` is its name in errors.

    Memory does not grow with their number, and the caller may move in ``file`` between two of them. Raises
    :class:`DataError` for a tar that is damaged, cut short or followed by another, and for links and sparse files.
    """
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (one := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every header
                if one.isdir():
                    continue
                if not one.isreg() or one.issparse():
                    kind = "a sparse file" if one.issparse() else "a link" if one.issym() or one.islnk() else "a device"
                    raise DataError(
                        f"{name}: {one.name} is {kind}, not a whole file; write the tar again with "
                        f"`tar --dereference --hard-dereference` and without --sparse"
                    )
                if one.size < 0 or one.offset_data + one.size > length:
                    raise DataError(f"{name}: is cut short inside {one.name}; copy or pack it again")
                yield Member(one.name, one.offset_data, one.size)
            end = archive.offset
    except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:
        raise DataError(f"{name}: is not a tar that can be read ({error})") from error
    file.seek(end)
    mark, rest = file.read(_BLOCK), file.read(_MAX_PADDING)
    if len(mark) < _BLOCK:
        raise DataError(f"{name}: is cut short after {length} bytes; copy or pack it again")
    if any(mark):
        raise DataError(
            f"{name}: is damaged at byte {end}, where the header of a file should be; copy or pack it again"
        )
    if any(rest):
        raise DataError(f"{name}: holds more after its end, at byte {end}; it should be one tar, not several joined")
