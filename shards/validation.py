"""JSON into dataclasses by the types of their fields, or a sentence that names the key that is wrong."""

import dataclasses
import json
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

_WORDS = {int: "a whole number", float: "a number", str: "text", dict: "keys and values", NoneType: "null"}


class WrongKey(Exception):
    """A key that is absent, or whose value has the wrong type; the message names it and says what would be right."""


def from_json(value: Any, kind: Any, key: str = "") -> Any:
    """``value``, as ``json.loads`` gives it, as a ``kind``: int, float, str, tuple, dict, dataclass or union.

    Keys that a dataclass does not have are left out. Raises :class:`WrongKey`; ``key`` is where ``value`` stands.
    """
    arguments = get_args(kind)
    if get_origin(kind) is UnionType:
        return _one_of(value, arguments, key)
    if get_origin(kind) is tuple:
        kinds = (arguments[0],) * len(value) if arguments[-1] is Ellipsis and isinstance(value, list) else arguments
        if not isinstance(value, list) or len(value) != len(kinds):
            raise _wrong(key, value, "a list" if arguments[-1] is Ellipsis else f"a list of {len(arguments)}")
        return tuple(from_json(one, kinds[place], f"{key}[{place}]") for place, one in enumerate(value))
    if get_origin(kind) is dict or dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise _wrong(key, value, _WORDS[dict])
        inside = f"{key}." if key else ""
        if dataclasses.is_dataclass(kind):
            return _dataclass_from(value, kind, inside)
        return {name: from_json(one, arguments[1], f"{inside}{name}") for name, one in value.items()}
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise _wrong(key, value, _WORDS[kind])
    return value


def _dataclass_from(value: dict[str, Any], kind: Any, inside: str) -> Any:
    hints, fields = get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            fields[field.name] = from_json(value[field.name], hints[field.name], f"{inside}{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise WrongKey(f"{inside}{field.name}: is missing")
    return kind(**fields)


def _one_of(value: Any, kinds: tuple[Any, ...], key: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    left = [kind for kind in kinds if kind is not NoneType]
    if len(left) == 1:
        return from_json(value, left[0], key)
    if type(value) in left:
        return value
    raise _wrong(key, value, " or ".join(_WORDS[kind] for kind in left))


def _wrong(key: str, value: Any, right: str) -> WrongKey:
    text = json.dumps(value)
    return WrongKey(f"{f'{key}: ' if key else ''}is {text[:60]}{'...' if len(text) > 60 else ''}; it should be {right}")
