"""Names of classes and splits: what each source calls them, and what a shard set calls them."""

from collections.abc import Iterable

SPLITS = ("train", "val", "test")
"""The splits of a data set, in the order in which everything here names them."""

FER2013_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER2013's seven classes; a name's place is its label in the official CSV."""

USAGES = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
"""The column ``Usage`` of FER2013's CSV."""

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Folder names (in lower case) that hold a split."""

_SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}


def fer2013_class(name: str) -> str | None:
    """The FER2013 class that a folder name such as ``Happiness`` or ``surprised`` means; None if it means none."""
    lowered = name.lower()
    known = _SYNONYMS.get(lowered, lowered)
    return known if known in FER2013_CLASSES else None


def class_order(folder_names: Iterable[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Class names in label order, and each folder name's label.

    If every folder is one of FER2013's classes by some spelling, the order is that of its CSV, so that labels from
    folders and from the CSV agree. Otherwise the names stay as they are, sorted.
    """
    names = sorted(set(folder_names))
    meanings = {name: fer2013_class(name) for name in names}
    if names and all(meaning is not None for meaning in meanings.values()):
        return FER2013_CLASSES, {
            name: FER2013_CLASSES.index(meaning) for name, meaning in meanings.items() if meaning is not None
        }
    return tuple(names), {name: label for label, name in enumerate(names)}
