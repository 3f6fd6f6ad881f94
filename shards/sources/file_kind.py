"""What a file is by its first bytes, whatever its name: for messages about files that cannot be read."""

import zipfile
from pathlib import Path

_UNPACK = "unpack it, and pack what is inside"
_FIRST_BYTES = (
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\0", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\x93NUMPY", "a NumPy array (.npy)", "write its images to files, and pack the folder or a list of them"),
    (b"PAR1", "a Parquet file", "pack it under a name that ends in .parquet"),
    (b"\x89HDF\r\n", "an HDF5 file", "write its images to files, and pack the folder or a list of them"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file (.xls)", "save it as CSV"),
    (b"%PDF", "a PDF", "download the data themselves"),
    (b"\x89PNG", "an image (PNG)", "pack a folder or a list of images"),
    (b"\xff\xd8\xff", "an image (JPEG)", "pack a folder or a list of images"),
    (b"GIF8", "an image (GIF)", "pack a folder or a list of images"),
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself with `git lfs pull`"),
)
_PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


def other_than_text(path: Path) -> str | None:
    """What the file ``path`` is and what to do with it, as ``is a Parquet file; ...``; None if it may be text."""
    with open(path, "rb") as file:
        start = file.read(512)
    for magic, kind, advice in _FIRST_BYTES:
        if start.startswith(magic):
            return f"is {kind}; {advice}"
    if start[257:262] == b"ustar":
        return f"is a tar; {_UNPACK}, or give its name the ending .tar if it holds WebDataset samples"
    if start.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if start.startswith(_PICKLES):
        return "is a Python pickle, which is not loaded since it could run code; write its images to files, or a CSV"
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page, perhaps where a login was needed; download the file again in a browser"
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
        return "is NumPy arrays (.npz); write their images to files, and pack the folder or a list of them"
    return f"is a zip archive; {_UNPACK}"
