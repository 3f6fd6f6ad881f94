"""Names of classes: what each source calls them, and what a data set calls them."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from shards.errors import DataError
from shards.files import read_regular

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


def whole_number(text: str) -> int | None:
    """The number of a label such as ``3``, `` 3`` or ``3.0``; None if it is not a whole number."""
    return int(float(text)) if re.fullmatch(r"\s*[+-]?\d{1,9}(\.0*)?\s*", text) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelScheme:
    """The classes of a data set in the order of their published labels."""

    name: str
    class_names: tuple[str, ...]
    """Ours in the built-in schemes, so that one expression has one name in all of them. A name's index is its label
    here."""
    first_label: int = 0
    """The number that the data set itself gives its first class; the others follow it."""
    left_out: tuple[str, ...] = ()
    """What its next numbers are, which are not classes, such as ``unknown``: samples with them are left out."""
    synonyms: Mapping[str, str] = field(default_factory=dict)
    """Its other names of classes, as :func:`without_spelling` writes them, such as KDEF's ``ha``."""
    is_numbered: bool = True
    """Whether the data set uses numbers for its classes at all."""

    @property
    def numbers(self) -> dict[int, str]:
        """The class, or what is left out, that each number means."""
        return dict(enumerate((*self.class_names, *self.left_out), self.first_label)) if self.is_numbered else {}

    def class_of(self, name: str) -> str | None:
        """The class that a name such as ``Happiness`` or ``surprised`` means; None if it means none of these."""
        found = None if whole_number(name) is not None else self.meaning_of(name)
        return found if found in self.class_names else None

    def meaning_of(self, label: str) -> str | None:
        """The class, or what is left out, that a label means, by its number or its name; None if there is none."""
        number = whole_number(label)
        plain = without_spelling(label) if number is None else str(number)
        if plain in self.synonyms:
            return self.synonyms[plain]
        if number is not None:
            return self.numbers.get(number)
        names = {class_meaning(name): name for name in (*self.left_out, *self.class_names)}
        return names.get(class_meaning(label))

    def describe(self) -> str:
        """``1 surprise, 2 fear, ...``, or the names alone where it has no numbers."""
        return ", ".join([f"{number} {name}" for number, name in self.numbers.items()] or self.class_names)


FER2013_CLASSES: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

FER2013 = LabelScheme(name="fer2013", class_names=FER2013_CLASSES)
"""The column ``emotion`` of its CSV."""
FERPLUS = LabelScheme(
    name="ferplus",
    class_names=("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt"),
    left_out=("unknown", "NF"),
)
"""The columns of ``fer2013new.csv``; its ``NF`` is not a face."""
RAFDB = LabelScheme(
    name="rafdb", class_names=("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"), first_label=1
)
"""Its list of basic expressions, 1 to 7."""
_NO_EXPRESSION = {"non_face": "no face", "noface": "no face", "nonface": "no face"}
AFFECTNET8 = LabelScheme(
    name="affectnet8",
    class_names=("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt"),
    left_out=("none", "uncertain", "no face"),
    synonyms=_NO_EXPRESSION,
)
"""Its eight expressions."""
AFFECTNET7 = LabelScheme(
    name="affectnet7",
    class_names=AFFECTNET8.class_names[:7],
    left_out=("contempt", *AFFECTNET8.left_out),
    synonyms=_NO_EXPRESSION,
)
"""AffectNet without contempt."""
CKPLUS = LabelScheme(name="ckplus", class_names=(*FER2013_CLASSES, "contempt"))
"""The CSV in which CK+ is passed around: FER2013's order, then contempt."""
CKPLUS_FILES = LabelScheme(
    name="ckplus-files",
    class_names=("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise"),
)
"""The files ``_emotion.txt`` of CK+ as its authors deliver it."""
EXPW = LabelScheme(name="expw", class_names=FER2013_CLASSES)
"""``label.lst``, which has FER2013's order."""
_CODES = {"an": "angry", "di": "disgust", "ha": "happy", "sa": "sad", "su": "surprise", "ne": "neutral"}
KDEF = LabelScheme(name="kdef", class_names=FER2013_CLASSES, synonyms={**_CODES, "af": "fear"}, is_numbered=False)
"""The letters in its file names, ``AF01HAS.JPG``."""
JAFFE = LabelScheme(name="jaffe", class_names=FER2013_CLASSES, synonyms={**_CODES, "fe": "fear"}, is_numbered=False)
"""The letters in its file names, ``KA.HA1.29.tiff``."""

LABEL_SCHEMES = {
    scheme.name: scheme
    for scheme in (
        *(FER2013, FERPLUS, RAFDB, AFFECTNET7, AFFECTNET8),
        *(CKPLUS, CKPLUS_FILES, EXPW, KDEF, JAFFE),
    )
}
"""What ``--scheme`` takes, by name."""

DISPLAY_NAMES = {
    "ka": {
        "angry": "ბრაზი",
        "contempt": "აბუჩად აგდება",
        "disgust": "ზიზღი",
        "fear": "შიში",
        "happy": "სიხარული",
        "neutral": "ნეიტრალური",
        "sad": "სევდა",
        "surprise": "გაკვირვება",
    }
}
"""By language, as in ISO 639-1, the names of the expressions to show people; files keep those of the schemes."""

_EXPRESSIONS = {name for scheme in LABEL_SCHEMES.values() for name in scheme.class_names}


def read_scheme(name: str) -> LabelScheme:
    """The scheme of this name, or that of a YAML file. Raises :class:`DataError` (exit status 2).

    Keys of the file: ``classes``, a list of names in label order, and where needed ``first_label`` (0), ``synonyms``
    (a label, by name or number: its class) and ``left_out`` (what the numbers after the classes' are).
    """
    if name in LABEL_SCHEMES:
        return LABEL_SCHEMES[name]
    path = Path(name).expanduser()
    if path.suffix.lower() not in (".yaml", ".yml"):
        known = ", ".join(LABEL_SCHEMES)
        raise DataError(
            f"--scheme {name}: there is no such scheme{did_you_mean(name, LABEL_SCHEMES)}; "
            f"it should be {known}, or a YAML file of your own",
            exit_status=2,
        )
    import yaml

    if path.exists() and not path.is_file():
        raise DataError(f"--scheme {name}: is no file; it should be a YAML file of your own", exit_status=2)
    try:
        # BaseLoader: every name is text, `no` and `1` included
        values = yaml.load(read_regular(path, at_most=1 << 20).decode("utf-8"), yaml.BaseLoader)
    except OSError as error:
        raise DataError(f"--scheme {name}: cannot be read ({error.strerror})", exit_status=2) from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"--scheme {name}: is not YAML in UTF-8 ({reason})", exit_status=2) from error
    try:
        return _scheme_from(values, path.stem)
    except ValueError as error:
        example = "classes: [happy, sad, bored], first_label: 1, synonyms: {joy: happy}"
        raise DataError(f"--scheme {name}: {error}; it should have keys such as {example}", exit_status=2) from None


def _scheme_from(values: object, name: str) -> LabelScheme:
    """The scheme that a YAML file holds. Raises ``ValueError``."""
    if not isinstance(values, dict) or "classes" not in values:
        raise ValueError("has no key classes")
    unknown = [key for key in values if key not in ("classes", "first_label", "synonyms", "left_out")]
    if unknown:
        raise ValueError(f"{unknown[0]}: is not a key of a scheme")
    for key in ("classes", "left_out"):
        names = values.get(key, [])
        if not isinstance(names, list) or not all(isinstance(one, str) and one.strip() for one in names):
            raise ValueError(f"{key}: is not a list of names")
    classes, left_out = (tuple(one.strip() for one in values.get(key, [])) for key in ("classes", "left_out"))
    meanings: dict[str, str] = {}
    for one in (*classes, *left_out):
        if whole_number(one) is not None:
            raise ValueError(
                f"classes: {one} is a number; each class needs a name, and first_label is the first number"
            )
        if class_meaning(one) in meanings:
            raise ValueError(f"{one!r} and {meanings[class_meaning(one)]!r} mean one class")
        meanings[class_meaning(one)] = one
    synonyms = values.get("synonyms", {})
    if not isinstance(synonyms, dict):
        raise ValueError("synonyms: is not a list of names and their classes")
    for synonym, meant in synonyms.items():
        if not isinstance(meant, str) or class_meaning(meant) not in meanings:
            raise ValueError(f"synonyms: {synonym} is {meant!r}, which is not one of the classes")
    first_label = whole_number(str(values.get("first_label", "0")))
    if not classes or first_label is None:
        raise ValueError("classes: is empty" if not classes else "first_label: is not a whole number")
    return LabelScheme(
        name=name,
        class_names=classes,
        first_label=first_label,
        left_out=left_out,
        synonyms={
            str(whole_number(synonym) if whole_number(synonym) is not None else without_spelling(synonym)): meanings[
                class_meaning(meant)
            ]
            for synonym, meant in synonyms.items()
        },
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` (did you mean happy?)`` if one of ``known`` is similar to ``name``, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


class ClassLabels(NamedTuple):
    """What the labels that a source states mean."""

    class_names: tuple[str, ...]
    label_of: dict[str, int]
    """The index of its class, for each label as the source writes it; none for those left out."""
    left_out: dict[str, str]
    """For each of the other labels, what it means, such as ``unknown``."""


def class_labels(source: object, labels: Iterable[tuple[str, str]], scheme: LabelScheme | None = None) -> ClassLabels:
    """Classes of the (label as written, place where it is stated) in ``labels``, by ``scheme`` or by their names alone.

    A label is a name in any spelling or a number as text, ``3`` or ``3.0``. Without a scheme the order of the classes
    is that of :func:`class_order`. Raises :class:`DataError` (beginning with ``source``, naming label and place) for a
    number without a scheme, for what is not in the scheme, and for a label that is empty.
    """
    places: dict[str, str] = {}
    for label, place in labels:
        places.setdefault(label, place)
    for label, place in places.items():
        if not label.strip():
            raise DataError(f"{source}: {place} has no label; it should have the name or the number of a class")
        if not label.isprintable():  # a folder's name that is not UTF-8, a line break
            raise DataError(f"{source}: {place} has the label {label!r}; it should be text that can be printed")
    if scheme is None:
        numbers = {label: number for label in places if (number := whole_number(label)) is not None}
        if numbers:
            raise DataError(_number_message(source, numbers, places))
        for label, place in places.items():
            if _is_no_name(label):
                raise DataError(
                    f"{source}: {place} has the label {label!r}; it should be the name or the number of a class"
                )
        names, label_of = class_order(places)
        return ClassLabels(names, label_of, {})
    meanings: dict[str, str] = {}
    for label, place in places.items():
        meaning = scheme.meaning_of(label)
        if meaning is None:
            hint = did_you_mean(label.strip().lower(), scheme.class_names)
            raise DataError(
                f"{source}: {place} has the label {label!r}, which is not in the scheme {scheme.name}{hint}; "
                f"its labels are {scheme.describe()}"
            )
        meanings[label] = meaning
    return ClassLabels(
        scheme.class_names,
        {label: scheme.class_names.index(name) for label, name in meanings.items() if name in scheme.class_names},
        {label: name for label, name in meanings.items() if name not in scheme.class_names},
    )


def _is_no_name(label: str) -> bool:
    """Whether a label is what pandas and the like write for none or for an average: ``nan``, ``3.5``, ``?``."""
    try:
        float(label)
    except ValueError:
        return label.isascii() and not any(character.isalpha() for character in label)
    return True


def _number_message(source: object, numbers: Mapping[str, int], places: Mapping[str, str]) -> str:
    """Names the schemes that have these numbers, and what each would mean; those with few other numbers come first."""
    found = set(numbers.values())
    fitting = sorted(
        (scheme for scheme in LABEL_SCHEMES.values() if found <= scheme.numbers.keys()),
        key=lambda scheme: len(scheme.numbers),
    )
    by_meaning: dict[str, list[str]] = {}
    for scheme in fitting:
        by_meaning.setdefault(scheme.describe(), []).append(scheme.name)
    choices = [f"--scheme {' or '.join(names)} ({meaning})" for meaning, names in by_meaning.items()]
    label = next(iter(numbers))
    return (
        f"{source}: {places[label]} has the label {label!r}, and what a number means differs from data set to data "
        f"set; add {'; '.join([*choices, '--scheme FILE.yaml with classes of your own'])}"
    )


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
