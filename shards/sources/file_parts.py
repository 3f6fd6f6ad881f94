"""Images that are parts of larger files: members of tars, or values copied out of tables."""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO, NamedTuple

import numpy as np

from shards.files import only_regular
from shards.png import encode_pngs

_NPY = b"\x93NUMPY"
_MAX_NPY_HEADER = 4096
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Part(NamedTuple):
    """Some bytes of a file."""

    file: int
    """Index into :attr:`FileParts.files`."""
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FileParts:
    """Images that are parts of ``files``; a location is a :class:`Part`. A NumPy array becomes a PNG."""

    files: tuple[Path, ...]

    def contents(self, locations: list[Part]) -> Iterator[bytes]:
        """The image files at ``locations``."""
        number, file = -1, None
        try:
            for location in locations:
                if location.file != number:
                    if file is not None:
                        file.close()
                    number, file = location.file, open(self.files[location.file], "rb", opener=only_regular)  # noqa: SIM115
                assert file is not None
                content = read_part(file, location.offset, location.size)
                yield _png_of_npy(content) if content.startswith(_NPY) else content
        finally:
            if file is not None:
                file.close()


def read_part(file: BinaryIO, offset: int, size: int) -> bytes:
    """``size`` bytes at ``offset``. Raises ``OSError`` if the file ends before."""
    content = os.pread(file.fileno(), size, offset)
    if len(content) < size:
        raise OSError(0, "it ends too early; was it changed while it was read?", file.name)
    return content


def npy_fault(file: BinaryIO, offset: int, size: int) -> str:
    """What is wrong with the ``.npy`` that these bytes of ``file`` are, as an image; empty if nothing."""
    start = io.BytesIO(os.pread(file.fileno(), min(size, _MAX_NPY_HEADER), offset))
    try:
        version = np.lib.format.read_magic(start)
        if version not in _NPY_HEADERS:
            raise ValueError(f"its version is {version[0]}.{version[1]}")
        shape, _, dtype = _NPY_HEADERS[version](start)
    except (ValueError, EOFError, SyntaxError, TokenError) as error:
        return f"is not a .npy that can be read ({error}); it should be one that numpy.save wrote"
    shown = f"is an array of {dtype} and shape {shape}"
    right = "it should be uint8, (height, width) or (height, width, 1 or 3)"
    if dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))):
        if len(shape) == 3 and shape[0] in (1, 3):
            return f"{shown}, channels first; {right}"
        return f"{shown}; {right}"
    if start.tell() + int(np.prod(shape, dtype=object)) != size:
        return f"{shown}, but has {size} bytes; copy or pack it again"
    return ""


def _png_of_npy(content: bytes) -> bytes:
    """The array of a ``.npy`` without a :func:`npy_fault` as a PNG."""
    array = np.load(io.BytesIO(content), allow_pickle=False)
    pixels = array.reshape(*array.shape[:2], -1).transpose(2, 0, 1)
    return encode_pngs(np.ascontiguousarray(pixels)[None])[0]
