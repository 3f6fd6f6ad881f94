"""The one label of a sample that states it in several ways: by number, by name, in a caption."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from shards.errors import DataError
from shards.files import parse_json
from shards.labels import LabelScheme, class_labels, class_meaning, whole_number
from shards.sources.class_folders import check_stated_classes
from shards.sources.listing import ListedImage, SourceOptions

FIELDS = ("label", "emotion", "expression", "class")
"""Names of fields and columns that hold a label, in any case."""
CAPTION = "caption"
"""A field that may hold the name of a class, or a sentence."""
_MAX_NAME = 100


class BadLabel(Exception):
    """A sample that cannot be used; the message follows the place and gives what would be right."""


class StatedLabel(NamedTuple):
    """What one file or field of a sample states."""

    text: str
    """A number or a name, without blanks around it."""
    where: str
    """``.cls`` or ``label of .json``."""


class StatedLabels:
    """Decides which label the samples of one source have."""

    def __init__(self, *, class_names: Sequence[str], options: SourceOptions) -> None:
        """``class_names``: what the source itself says its numbers mean, from 0; empty where it does not say."""
        self._class_names = class_names
        self._scheme = options.scheme
        self._names_seen: dict[int, tuple[str, str]] = {}

    def resolve(self, place: str, stated: list[StatedLabel], captions: list[StatedLabel]) -> str:
        """The label: the name where there is one, else the name of the number, else the number.

        ``captions`` count where nothing else gives a name. Raises :class:`BadLabel` where two statements disagree,
        within the sample or, on what a number means, with an earlier sample.
        """
        names = [each for each in stated if whole_number(each.text) is None]
        numbers = [each for each in stated if whole_number(each.text) is not None]
        if not names and not (numbers and (self._class_names or self._scheme)):
            numbers += [each for each in captions if whole_number(each.text) is not None]
            names = [each for each in captions if whole_number(each.text) is None]
        for each in names:
            if not each.text or len(each.text) > _MAX_NAME or not each.text.isprintable() or "\ufffd" in each.text:
                what = f"{each.text[:40]!r} in {each.where}" if each.text else f"an empty {each.where}"
                raise BadLabel(f"has {what}; it should be the name or the number of one class")
        for first, other in pairwise(names):
            if self._meaning(first.text) != self._meaning(other.text):
                raise BadLabel(f"has {first.text!r} in {first.where} and {other.text!r} in {other.where}")
        for first, other in pairwise(numbers):
            if whole_number(first.text) != whole_number(other.text):
                raise BadLabel(f"has {first.text} in {first.where} and {other.text} in {other.where}")
        if not numbers:
            if not names:
                raise BadLabel("has no label; it should have a .cls, a .json with the label in a field, or a .txt")
            return names[0].text
        number = whole_number(numbers[0].text)
        assert number is not None
        if self._class_names and not 0 <= number < len(self._class_names):
            raise BadLabel(
                f"has {number} in {numbers[0].where}; it should be from 0 to {len(self._class_names) - 1}, "
                f"the classes that classes.txt or manifest.json beside it names"
            )
        if not names:
            return self._class_names[number] if self._class_names else numbers[0].text
        self._check(number, names[0], place)
        return names[0].text

    def _check(self, number: int, name: StatedLabel, place: str) -> None:
        """Compare a sample's name with what its number means, in classes.txt, the scheme or an earlier sample."""
        if self._class_names:
            expected, source = self._class_names[number], "in classes.txt or manifest.json"
        elif self._scheme is not None:
            expected, source = self._scheme.meaning_of(str(number)) or "nothing", f"in the scheme {self._scheme.name}"
        else:
            expected, source = self._names_seen.setdefault(number, (name.text, f"in {place}"))
        if self._meaning(expected) != self._meaning(name.text):
            raise BadLabel(
                f"has the label {number} and {name.text!r} in {name.where}, but {source} {number} is {expected!r}"
            )

    def _meaning(self, name: str) -> str:
        return (self._scheme and self._scheme.meaning_of(name)) or class_meaning(name)


def check_stated(source: object, images: Sequence[ListedImage], options: SourceOptions, advice: str) -> None:
    """Raise :class:`DataError` for captions, for numbers that nothing names, and for classes that are mistakes.

    ``advice``: what helps where numbers have no names, beside a scheme.
    """
    _refuse_captions(source, images)
    _refuse_numbers(source, images, options.scheme, advice)
    check_stated_classes(source, images, options)


def _refuse_captions(source: object, images: Sequence[ListedImage]) -> None:
    found = list(dict.fromkeys(image.label for image in images))
    if len(found) > max(20, len(images) // 4):
        raise DataError(
            f"{source}: {len(images):,} samples have {len(found):,} different labels, such as {found[0]!r} and "
            f"{found[1]!r}; these are captions, not classes: name the field of the class with --label-field"
        )


def _refuse_numbers(source: object, images: Sequence[ListedImage], scheme: LabelScheme | None, advice: str) -> None:
    numbers = [(image.label, image.place) for image in images if whole_number(image.label) is not None]
    if numbers and scheme is None:
        try:
            class_labels(source, numbers)
        except DataError as error:
            raise DataError(f"{error}; or {advice}") from None


def label_in_text(content: bytes, where: str) -> StatedLabel:
    """The label that a small text file holds; what is not UTF-8 in it cannot be a name."""
    return StatedLabel(content.decode("utf-8-sig", errors="replace").strip(), where)


def label_in_json(content: bytes, field: str | None) -> tuple[list[StatedLabel], list[StatedLabel]]:
    """The labels that a JSON object states, and those in its caption; with ``field``, that field alone.

    Raises :class:`BadLabel` for what is not an object or has no such field, and for a field that is no label.
    """
    try:
        values = parse_json(content)
    except ValueError as error:
        raise BadLabel(f"has a .json that is not whole JSON ({error})") from error
    if not isinstance(values, dict):
        raise BadLabel('has a .json that is not an object; it should be one such as {"label": 3}')
    if field is not None:
        if values.get(field) is None:
            found = ", ".join(map(str, values)) or "none"
            raise BadLabel(f"has no field {field} in its .json; its fields are {found[:200]}")
        return [_label(values[field], f"{field} of .json")], []
    known = {str(key).lower(): (key, value) for key, value in values.items() if value is not None}
    stated = [_label(known[name][1], f"{known[name][0]} of .json") for name in FIELDS if name in known]
    captions = [_label(known[CAPTION][1], f"{CAPTION} of .json")] if CAPTION in known else []
    return stated, captions


def _label(value: Any, where: str) -> StatedLabel:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise BadLabel(f"has {json.dumps(value)[:60]} in {where}; it should be the name or the number of one class")
    return StatedLabel(str(value).strip(), where)
