"""pydantic's errors in plain words: the file, the key, the value, what would be right."""

import dataclasses
import json
import typing
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from fer_ddp.text import closest
from shards.validation import EXPECTED, expected

_EXPECTED = EXPECTED | {
    "tuple_type": "a list of numbers, such as [0.9, 1.1]",
    "list_type": "a list, such as [0, 1]",
    "too_long": "{max_length} numbers",
}

_EXAMPLES = {
    "data": "data: {path: data/fer2013}",
    "data.path": "data/fer2013",
    "model": "model: {name: face_cnn}",
    "model.name": "face_cnn",
    "optimizer": "optimizer: {name: adam, lr: 0.001}",
    "optimizer.name": "adam",
    "optimizer.lr": "0.001",
}
_ABSENT = ("missing", "missing_keyword_only_argument")
_OTHER_NAMES = {"learning_rate": "lr"} | dict.fromkeys(("pretrained", "finetune", "load_from", "init_from"), "weights")
"""What other tools call a key."""


def format_errors(error: ValidationError, job: type, origin_of: Callable[[list[str]], str]) -> str:
    """All that pydantic found, in one line; ``origin_of`` names the file that sets a key."""
    parts, last_origin = [], None
    for detail in error.errors(include_url=False):
        keys = [part for part in detail["loc"] if isinstance(part, str)]
        is_absent = detail["type"] in _ABSENT and keys == list(detail["loc"])
        origin, message = origin_of(keys[:-1] if is_absent else keys), _message(detail, keys, job)
        parts.append(message if origin == last_origin else f"{origin}: {message}")
        last_origin = origin
    return "; ".join(parts)


def _message(detail: Any, keys: list[str], job: type) -> str:
    key, kind, value = ".".join(keys), detail["type"], json.dumps(detail["input"])
    index = "".join(f"[{part}]" for part in detail["loc"] if isinstance(part, int))
    if kind == "unexpected_keyword_argument":
        close = _close_keys(keys, job)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(_keys_at(keys[:-1], job))}"
        return f"{key}: unknown key; {hint}"
    if kind in _ABSENT and index:
        return f"{key}: is {value}; it must be 2 numbers"
    if kind in _ABSENT:
        return f"{key}: must be given" + (f", such as {_EXAMPLES[key]}" if key in _EXAMPLES else "")
    if kind == "value_error":
        return f"{key}.{detail['ctx']['error']}"
    if kind == "dataclass_type":
        return f"{key}: is {value}; it must hold keys ({', '.join(_keys_at(keys, job))})"
    right = expected(detail, _EXPECTED)
    if kind == "string_type" and isinstance(detail["input"], (int, float)):
        right += f", in quotes: '{value}'"
    return f"{key}{index}: is {value}; it must be {right}"


def _keys_at(keys: list[str], job: type) -> list[str]:
    """The keys that a job has under ``keys``."""
    owner: Any = job
    for key in keys:
        owner = typing.get_type_hints(owner).get(key) if dataclasses.is_dataclass(owner) else None
    return [f.name for f in dataclasses.fields(owner)] if dataclasses.is_dataclass(owner) else []


def _close_keys(keys: list[str], job: type) -> list[str]:
    """What may have been meant by ``keys``, the last of which is unknown: whole keys such as ``optimizer.lr``."""
    *section, name = keys
    name = _OTHER_NAMES.get(name, name)
    top = _keys_at([], job)
    everywhere = {f"{first}.{key}": key for first in top for key in _keys_at([first], job)} | {key: key for key in top}
    here = {".".join([*section, key]): key for key in _keys_at(section, job)}
    return (
        [whole for whole, key in everywhere.items() if key == name]
        or [whole for whole in everywhere if _words(whole) == _words(".".join([*section, name]))]
        or _alike(name, here)
        or ([f"model.arguments.{name}"] if section == ["model"] else [])
        or _alike(name, everywhere)
    )


def _alike(name: str, known: dict[str, str]) -> list[str]:
    """Those of ``known`` (whole key: its last part) with all words of ``name`` or the reverse; else the closest."""
    words = _words(name)
    shared = [whole for whole, key in known.items() if words <= _words(key) or _words(key) <= words]
    by_key = {key: whole for whole, key in known.items()}
    close = closest(name, by_key)
    return shared or ([by_key[close]] if close else [])


def _words(key: str) -> set[str]:
    return set(key.lower().replace(".", "_").split("_"))
