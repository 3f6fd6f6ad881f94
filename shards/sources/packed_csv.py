"""The CSV in an archive or in a folder, as Kaggle delivers it."""

import bz2
import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from shards.errors import DataError
from shards.files import only_regular

_PREFERRED = ("fer2013.csv", "icml_face_data.csv")
_FEW_MEMBERS = 100
"""An archive of more is one of images."""
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)
_OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedCSV:
    """A CSV in an archive."""

    archive: Path
    member: str
    """Its name inside; empty where the archive is the compressed CSV itself."""


def find_csv(path: Path) -> Path | PackedCSV | None:
    """The CSV that ``path`` is or holds; None if there is none.

    ``path`` is a folder, a CSV compressed with gzip, bzip2 or xz, or a zip or tar. Raises :class:`DataError` if there
    are several and none has a name of FER2013's, or the archive is damaged.
    """
    if path.is_dir():
        names = [one.name for one in path.iterdir() if one.is_file() and _is_csv(one.name)]
        return path / _only(path, names) if names else None
    try:
        members = _members(path)
    except _DAMAGE as error:
        raise DataError(f"{path}: is a damaged archive ({error}); download it again") from error
    if members is None:
        return path
    names = [name for name in members if _is_csv(name)]
    if members == [""]:
        return PackedCSV(archive=path, member="")
    return PackedCSV(archive=path, member=_only(path, names)) if names else None


def extract(packed: PackedCSV, work: Path) -> Path:
    """The CSV as a file in the folder ``work``. Raises :class:`DataError` if the archive is damaged."""
    out = work / "source.csv"
    try:
        with _opened(packed) as file, open(out, "wb") as target:
            shutil.copyfileobj(file, target, 1 << 20)
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(f"{packed.archive}: is a damaged archive ({error}); download it again") from error
    return out


def first_bytes(found: Path | PackedCSV, count: int) -> bytes:
    """Up to ``count`` bytes from the beginning of a CSV; fewer where its archive is damaged."""
    try:
        if isinstance(found, Path):
            with open(found, "rb", opener=only_regular) as file:
                return file.read(count)
        with _opened(found) as packed:
            return packed.read(count)
    except _DAMAGE:
        return b""


def _members(path: Path) -> list[str] | None:
    """Names of files in an archive, at most a hundred; ``[""]`` for one compressed file, None for no archive."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            return [name for name in file.namelist()[:_FEW_MEMBERS] if not name.endswith("/")]
    with open(path, "rb", opener=only_regular) as raw:
        start = raw.read(262)
    opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
    if opener is None and start[257:262] != b"ustar":
        return None
    if opener is not None:
        with opener(path) as stream:
            if stream.read(262)[257:262] != b"ustar":
                return [""]
    names = []
    with tarfile.open(path) as tar:
        for member in tar:
            if member.isfile():
                names.append(member.name)
            if len(names) == _FEW_MEMBERS:
                break
    return names


@contextmanager
def _opened(packed: PackedCSV) -> Iterator[IO[bytes]]:
    if not packed.member:
        with open(packed.archive, "rb", opener=only_regular) as raw:
            start = raw.read(6)
        with next(opener for magic, opener in _OPENERS.items() if start.startswith(magic))(packed.archive) as file:
            yield file
    elif zipfile.is_zipfile(packed.archive):
        with zipfile.ZipFile(packed.archive) as archive, archive.open(packed.member) as file:
            yield file
    else:
        with tarfile.open(packed.archive) as tar:
            member = tar.extractfile(packed.member)
            assert member is not None  # only files were listed
            with member:
                yield member


def _is_csv(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() == ".csv" and not path.name.startswith(".") and "__MACOSX" not in path.parts


def _only(path: Path, names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    for wanted in _PREFERRED:
        found = [name for name in names if PurePosixPath(name).name.lower() == wanted]
        if len(found) == 1:
            return found[0]
    raise DataError(
        f"{path}: holds {len(names)} CSVs ({', '.join(sorted(names)[:5])}); pack one of them", exit_status=2
    )
