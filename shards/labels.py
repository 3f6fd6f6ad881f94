"""Names of classes and splits: what each source calls them, and what a data set calls them."""

import re
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
    "afraid": "fear",
    "anger": "angry",
    "contemptuous": "contempt",
    "disgusted": "disgust",
    "fearful": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "scared": "fear",
    "suprise": "surprise",
    "suprised": "surprise",
    "surprised": "surprise",
}
"""Other names of classes, in lower case, and the name that every scheme here uses."""


def without_spelling(name: str) -> str:
    """``name`` without what may differ between two spellings of one class: case, blanks and separators.

    A name without a letter, such as ``-1``, only loses the blanks around it.
    """
    if not re.search(r"[^\W\d_]", name):
        return name.strip()
    return re.sub(r"[\s._-]+", "_", name.casefold()).strip("_") or name


def class_meaning(name: str) -> str:
    """What two names have in common if they mean one class.

    That is the name that every scheme uses for an expression, whatever its spelling, synonym or numbering
    (``0_Happiness``); for any other name, :func:`without_spelling`.
    """
    plain = without_spelling(name)
    unnumbered = re.sub(r"^\d+_?(?=\D)", "", plain)
    known = SYNONYMS.get(unnumbered, unnumbered)
    return known if known in _EXPRESSIONS else plain


def is_expression(name: str) -> bool:
    """Whether a name means a class of one of the schemes."""
    return class_meaning(name) in _EXPRESSIONS


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
        meaning = class_meaning(name)
        return meaning if meaning in self.class_names else None


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


_EXPRESSIONS = {name for scheme in LABEL_SCHEMES.values() for name in scheme.class_names}


def class_order(folder_names: Iterable[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Class names in label order, and each folder name's label; names that mean one class have one label.

    If every folder is one of FER2013's classes, the order is that of its CSV, so that labels from folders and from the
    CSV agree. If the folders are exactly the classes of another scheme, it is that scheme's; FER+ and AffectNet have
    the same eight, which get FER+'s order. Otherwise the names are sorted: an expression has the name that the schemes
    use, any other its first spelling.
    """
    meanings = {name: class_meaning(name) for name in sorted(set(folder_names))}
    found = set(meanings.values())
    if found and found <= set(FER2013_CLASSES):
        order = FER2013_CLASSES
    else:
        schemes = (scheme.class_names for scheme in LABEL_SCHEMES.values() if set(scheme.class_names) == found)
        order = next(schemes, ())
    if order:
        return order, {name: order.index(meaning) for name, meaning in meanings.items()}
    shown: dict[str, str] = {}
    for name, meaning in meanings.items():
        shown.setdefault(meaning, meaning if meaning in _EXPRESSIONS else name.strip())
    names = tuple(sorted(shown.values()))
    return names, {name: names.index(shown[meaning]) for name, meaning in meanings.items()}
