"""Names of classes and splits: what each source calls them, and what a data set calls them."""

from collections.abc import Iterable
from dataclasses import dataclass

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
    "test": "test",
}
"""Folder names (in lower case) that hold a split."""

SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}
"""Other names of classes, in lower case, and the name that every scheme here uses."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelScheme:
    """The classes of a data set in the order of their published labels."""

    name: str
    class_names: tuple[str, ...]
    """Ours, so that one expression has one name in every scheme. A name's index is its label here."""
    first_label: int = 0
    """The number that the data set itself gives its first class."""

    def class_of(self, name: str) -> str | None:
        """The class that a name such as ``Happiness`` or ``surprised`` means; None if it means none of these."""
        lowered = name.lower()
        known = SYNONYMS.get(lowered, lowered)
        return known if known in self.class_names else None


FER2013 = LabelScheme(name="fer2013", class_names=("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"))
"""The column ``emotion`` of its CSV."""
FERPLUS = LabelScheme(
    name="ferplus", class_names=("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
)
"""The columns of ``fer2013new.csv``, without ``unknown`` and ``NF`` (not a face)."""
RAFDB = LabelScheme(
    name="rafdb", class_names=("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"), first_label=1
)
"""Its list of basic expressions, 1 to 7."""
AFFECTNET = LabelScheme(
    name="affectnet", class_names=("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")
)
"""Its eight expressions; 8 to 10 (none, uncertain, no face) are not classes."""

LABEL_SCHEMES = {scheme.name: scheme for scheme in (FER2013, FERPLUS, RAFDB, AFFECTNET)}

FER2013_CLASSES = FER2013.class_names


def class_order(folder_names: Iterable[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Class names in label order, and each folder name's label.

    If every folder is one of FER2013's classes by some spelling, the order is that of its CSV, so that labels from
    folders and from the CSV agree. Otherwise the names stay as they are, sorted.
    """
    names = sorted(set(folder_names))
    meanings = {name: FER2013.class_of(name) for name in names}
    if names and all(meaning is not None for meaning in meanings.values()):
        return FER2013_CLASSES, {
            name: FER2013_CLASSES.index(meaning) for name, meaning in meanings.items() if meaning is not None
        }
    return tuple(names), {name: label for label, name in enumerate(names)}
