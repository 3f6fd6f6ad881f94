"""Keys of samples that are safe in a tar and in WebDataset, where a file name's first dot ends the key."""

import hashlib
import re
from collections import Counter

_MAX_LENGTH = 80
"""A ustar name has at most 100 bytes, ``.votes.json`` included."""


def row_key(row: int) -> str:
    """The key of a CSV's data row ``row``, counted from 1."""
    return f"row-{row:07d}"


def path_keys(paths: list[str]) -> list[str]:
    """Keys of files, from their paths inside the source (with ``/``), without their extension.

    Whatever is not an ASCII letter, a digit, ``-`` or ``_`` becomes ``-``. A key that is too long, or that two paths
    would share, ends in eight digits of the hash of its path. Two equal paths, such as of two faces in one image, get
    two keys as well.
    """
    plain = [re.sub(r"[^A-Za-z0-9_-]", "-", path.rpartition(".")[0]) for path in paths]
    seen: dict[str, int] = {}
    for key in plain:
        seen[key] = seen.get(key, 0) + 1
    keys = []
    times: Counter[str] = Counter()
    for path, key in zip(paths, plain, strict=True):
        times[path] += 1
        if times[path] > 1:
            path = f"{path} {times[path]}"
        if seen[key] > 1 or len(key) > _MAX_LENGTH:
            key = f"{key[-_MAX_LENGTH:]}-{hashlib.sha256(path.encode(errors='surrogateescape')).hexdigest()[:8]}"
        keys.append(key)
    return keys
