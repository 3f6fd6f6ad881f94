"""JSON into frozen dataclasses by pydantic, and its errors in words that name the key and what would be right."""

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

Kind = TypeVar("Kind")

EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_too_short": "a text that is not empty",
    "tuple_type": "a list",
    "list_type": "a list",
    "too_short": "a list that is not empty",
    "too_long": "a list of {max_length}",
    "dict_type": "keys and values",
    "dataclass_type": "keys and values",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "literal_error": "{expected}",
}
"""What would be right, by pydantic's type of an error."""
_UNION_MEMBERS = ("int", "float", "bool", "str")
_MAX_SHOWN = 60


class InvalidValue(Exception):
    """A key that is missing, or whose value has the wrong type; the message names it and says what would be right."""


def expected(error: "ErrorDetails", table: Mapping[str, str] = EXPECTED) -> str:
    """What would be right in place of ``error``, one of pydantic's ``errors()``, in the words of ``table``."""
    limits = {
        name: int(limit) if isinstance(limit, float) and limit.is_integer() else limit
        for name, limit in error.get("ctx", {}).items()
    }
    return table.get(error["type"], error["msg"]).format(**limits)


def from_json(value: Any, kind: type[Kind]) -> Kind:
    """``value``, as ``json.loads`` gives it, as a ``kind``, such as a dataclass.

    Types must match as they are, except that a list becomes a tuple and a whole number a float. Keys that a dataclass
    does not have are ignored. Raises :class:`InvalidValue` for the first key that is wrong.
    """
    from pydantic import ValidationError

    shape: Any = kind
    try:
        found: Kind = _adapter(shape).validate_json(json.dumps(value), strict=True)
        return found
    except ValidationError as error:
        raise InvalidValue(_message(error.errors(include_url=False))) from None


@cache
def _adapter(kind: Any) -> "TypeAdapter[Any]":
    """Made once: that takes longer than the check of a small file."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _message(errors: "list[ErrorDetails]") -> str:
    """The first of ``errors``, with those that belong to it: of each type of a union, of each item a list lacks."""
    first = errors[0]
    *parents, last = first["loc"] or ("",)
    siblings = [error for error in errors if list(error["loc"][:-1]) == parents]
    if first["type"] == "missing" and not isinstance(last, int):
        return f"{_key(first['loc'])}: is missing"
    if first["type"] == "missing":
        location, right = parents, f"a list of {siblings[-1]['loc'][-1] + 1}"  # type: ignore[operator]
    elif len(siblings) > 1 and all(error["loc"][-1] in _UNION_MEMBERS for error in siblings):
        location, right = parents, " or ".join(map(expected, siblings))
    else:
        location, right = list(first["loc"]), expected(first)
    text = json.dumps(first["input"])
    shown = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    return f"{f'{_key(location)}: ' if location else ''}is {shown}; it should be {right}"


def _key(location: "tuple[int | str, ...] | list[int | str]") -> str:
    """``splits.train.shards[0].name`` for ("splits", "train", "shards", 0, "name")."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")
