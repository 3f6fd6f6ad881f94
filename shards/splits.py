"""Names of splits: what each source calls them, and what a data set calls them."""

import re

from shards.errors import DataError

SPLITS = ("train", "val", "test")
"""The splits of a data set, in the order in which everything here names them."""

USAGES = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
"""The column ``Usage`` of FER2013's CSV."""

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "publictest": "val",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "privatetest": "test",
}
"""What folders, rows and file names call the splits, in lower case and without separators."""


def split_of_word(text: str) -> str | None:
    """The split that a word such as ``Training``, ``Public Test`` or ``val`` means; None if it is no split."""
    return SPLIT_FOLDERS.get(re.sub(r"[\s_-]", "", text).lower())


def split_in_name(path: str) -> str | None:
    """The split that a path (with ``/``) names: ``fer-train-000.tar`` and ``train/000.tar`` are train; None if none.

    The file's name counts first, then the nearest folder. Raises :class:`DataError` where one names several splits.
    """
    for name in reversed(path.split("/")):
        words = [word for word in re.split(r"[^a-z]+", name.lower()) if word in SPLIT_FOLDERS]
        splits = {SPLIT_FOLDERS[word] for word in words}
        if len(splits) > 1:
            raise DataError(f"{path}: names {' and '.join(words)}; it should name the one split that it belongs to")
        if splits:
            return splits.pop()
    return None
