"""Where the files of a tar stand, read from the tar's own headers."""

import io
import tarfile
from typing import NamedTuple

from shards.errors import DataError

_BLOCK = 512


class Member(NamedTuple):
    """One file of a tar."""

    name: str
    offset: int
    """Of the file's first byte, counted from the tar's."""
    size: int


def index_tar(content: bytes, name: str) -> list[Member]:
    """The regular files of the tar ``content``, in order; ``name`` is what an error calls it.

    Plain ustar headers are read here, about ten times as fast as by ``tarfile``; a tar with any other header
    (pax, GNU long names, sparse files) goes to ``tarfile``. Raises :class:`DataError` if the tar is cut short or
    is none.
    """
    members: list[Member] = []
    place, end = 0, len(content)
    while True:
        if place + _BLOCK > end:
            raise DataError(f"{name}: is cut short after {end} bytes; copy or pack it again")
        kind = content[place + 156]
        if kind == 0 and content[place] == 0 and not any(content[place : place + _BLOCK]):
            return members
        if kind not in (0, 48, 53) or content[place + 257 : place + 262] != b"ustar" or content[place + 345]:
            return _index_by_tarfile(content, name)
        try:
            size = int(content[place + 124 : place + 136].rstrip(b"\0 "), 8)
            member = content[place : place + 100].split(b"\0", 1)[0].decode()
        except ValueError:
            return _index_by_tarfile(content, name)
        offset = place + _BLOCK
        if kind != 53:
            members.append(Member(member, offset, size))
        place = offset + (size + _BLOCK - 1) // _BLOCK * _BLOCK


def _index_by_tarfile(content: bytes, name: str) -> list[Member]:
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            found = archive.getmembers()
    except tarfile.TarError as error:
        raise DataError(f"{name}: is not a tar that can be read ({error})") from error
    members = [Member(one.name, one.offset_data, one.size) for one in found if one.isfile()]
    for member in members:
        if member.offset + member.size > len(content):
            raise DataError(f"{name}: is cut short inside {member.name}")
    return members
