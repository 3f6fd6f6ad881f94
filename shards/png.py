"""PNG without compression: an image's pixels are at a known offset in its file.

Faces of 48 x 48 compress badly (to about 80 %, and a tar rounds that up to the next 512 bytes, so a shard is 14 %
larger without). In return writing needs no deflate, reading is a copy, and the bytes do not depend on the installed
version of zlib. Every PNG reader reads the result.
"""

import struct
import zlib
from functools import lru_cache

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2}
_BLOCK = 65535
"""The most that one stored block of deflate holds (RFC 1951, 3.2.4)."""
_END = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))


def encode_pngs(images: np.ndarray) -> list[bytes]:
    """A PNG of each of ``images``: uint8, (n, 1 or 3, height, width)."""
    count, channels, height, width = images.shape
    rows = np.zeros((count, height, 1 + width * channels), np.uint8)  # each row begins with its filter: 0, none
    rows[:, :, 1:] = images.transpose(0, 2, 3, 1).reshape(count, height, width * channels)
    head, blocks = _layout(channels, height, width)
    files = []
    for image in rows:
        raw = image.tobytes()
        pieces = [mark + raw[start:end] for mark, start, end in blocks]
        data = b"".join([b"IDAT\x78\x01", *pieces, zlib.adler32(raw).to_bytes(4)])
        files.append(b"".join([head, data, zlib.crc32(data).to_bytes(4), _END]))
    return files


@lru_cache(maxsize=16)
def _layout(channels: int, height: int, width: int) -> tuple[bytes, tuple[tuple[bytes, int, int], ...]]:
    """Everything before the letters IDAT, and the stored blocks as (their five-byte header, start, end)."""
    length = height * (1 + width * channels)
    blocks = []
    for start in range(0, length, _BLOCK):
        end = min(start + _BLOCK, length)
        blocks.append((struct.pack("<BHH", end == length, end - start, (end - start) ^ 0xFFFF), start, end))
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    data_length = 2 + 5 * len(blocks) + length + 4
    head = b"".join(
        [
            _SIGNATURE,
            struct.pack(">I", len(header) - 4),
            header,
            struct.pack(">I", zlib.crc32(header)),
            struct.pack(">I", data_length),
        ]
    )
    return head, tuple(blocks)


def stored_prefix(channels: int, height: int, width: int) -> bytes | None:
    """What a file of :func:`encode_pngs` begins with, up to its first row; None if its rows are not contiguous."""
    head, blocks = _layout(channels, height, width)
    return head + b"IDAT\x78\x01" + blocks[0][0] if len(blocks) == 1 else None


def stored_size(channels: int, height: int, width: int) -> int:
    """Length in bytes of a file of :func:`encode_pngs`."""
    head, blocks = _layout(channels, height, width)
    return len(head) + 6 + 5 * len(blocks) + height * (1 + width * channels) + 8 + len(_END)


def stored_pixels(files: np.ndarray, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of files that :func:`encode_pngs` wrote, without decoding: a view of ``files``.

    ``files``: uint8, (n, :func:`stored_size`), of a shape that has a :func:`stored_prefix`. Returns (pixels, found),
    uint8 (n, channels, height, width) and bool (n,). Where ``found`` is False the file is another one of that length,
    and its pixels are meaningless. Checksums are not checked here (:func:`checksums_hold`).
    """
    channels, height, width = shape
    prefix = stored_prefix(*shape)
    assert prefix is not None
    row = 1 + width * channels
    rows = files[:, len(prefix) : len(prefix) + height * row].reshape(-1, height, row)
    found = (files[:, : len(prefix)] == np.frombuffer(prefix, np.uint8)).all(axis=1) & ~rows[:, :, 0].any(axis=1)
    return rows[:, :, 1:].reshape(-1, height, width, channels).transpose(0, 3, 1, 2), found


def checksums_hold(file: bytes) -> bool:
    """Whether each chunk of a PNG matches its checksum (CRC-32); True for a file that is not a PNG.

    Pillow does not check the checksums of pixels, so it would not notice a changed one.
    """
    if not file.startswith(_SIGNATURE):
        return True
    offset, view = len(_SIGNATURE), memoryview(file)
    while offset < len(file):
        end = offset + 8 + int.from_bytes(view[offset : offset + 4])
        if zlib.crc32(view[offset + 4 : end]) != int.from_bytes(view[end : end + 4]):
            return False
        if view[offset + 4 : offset + 8] == b"IEND":
            return True
        offset = end + 4
    return False
