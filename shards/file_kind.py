"""What a file is by its first bytes, whatever its name: for messages about files that cannot be read."""

import zipfile
from pathlib import Path

from shards.files import only_regular

_FIRST_BYTES = (
    (b"\x1f\x8b", "a gzip archive", "unpack it"),
    (b"BZh", "a bzip2 archive", "unpack it"),
    (b"\xfd7zXZ\0", "an xz archive", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it"),
    (b"\x93NUMPY", "a NumPy array (.npy)", "write its images to PNG files"),
    (b"PAR1", "a Parquet file", "pack it under a name that ends in .parquet"),
    (b"\x89HDF\r\n", "an HDF5 file", "write its images to PNG files"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file (.xls)", "save it as CSV"),
    (b"%PDF", "a PDF document", "save its images as PNG or JPEG"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video", "save its frames as PNG or JPEG"),
    (b"version https://git-lfs", "a Git LFS pointer and not the file itself", "run `git lfs pull`"),
)
_IMAGES = ((b"\x89PNG", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"GIF8", "GIF"))
_WEB_PAGES = (b"<!doctype html", b"<html")
_PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


def other_than_data(head: bytes) -> str | None:
    """What a file is that begins with ``head`` and holds neither text nor an image, as ``is a PDF document; ...``.

    None if it may hold either.
    """
    for magic, kind, advice in _FIRST_BYTES:
        if head.startswith(magic):
            return f"is {kind}; {advice}"
    if head.lstrip().lower().startswith(_WEB_PAGES):
        return "is a web page, perhaps of a download that failed or needed a login; download the file again"
    return None


def other_than_text(path: Path) -> str | None:
    """What the file ``path`` is and what to do with it; None if it may be text."""
    with open(path, "rb", opener=only_regular) as file:
        start = file.read(512)
    other = other_than_data(start)
    if other is not None:
        return other
    for magic, kind in _IMAGES:
        if start.startswith(magic):
            return f"is an image ({kind}); pack a folder or a list of images"
    if start[257:262] == b"ustar":
        return "is a tar; unpack it, or give its name the ending .tar if it holds WebDataset samples"
    if start.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if start.startswith(_PICKLES):
        return "is a Python pickle, which is not loaded since it could run code; write its images to PNG files"
    return None


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except (zipfile.BadZipFile, OSError):
        return "is a zip archive that is not whole; download it again"
    if any(name.startswith("xl/") for name in names):
        return "is an Excel file (.xlsx); save it as CSV"
    if names and all(name.endswith(".npy") for name in names):
        return "is NumPy arrays (.npz); write their images to PNG files"
    return "is a zip archive; unpack it"
