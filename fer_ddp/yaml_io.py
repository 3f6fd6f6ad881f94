"""YAML as people mean it: 1e-3 is a number, `off` and a date are text, and a key that appears twice is a mistake."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from fer_ddp.errors import JobError
from fer_ddp.text import closest
from shards.files import read_regular

_LARGEST = 1 << 20
"""Bytes of a YAML file."""


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds keys and values. Raises JobError naming file and line."""
    try:
        text = read_regular(path, at_most=_LARGEST).decode()
    except FileNotFoundError:
        raise JobError(f"{path}: there is no such file{close_file(path)}") from None
    except UnicodeDecodeError as error:
        raise JobError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise JobError(f"{path}: can't be read ({error.strerror}); give a YAML file") from None
    try:
        values = parse_yaml(text)
    except ValueError as error:
        raise JobError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise JobError(f"{path}: must hold keys and values, such as 'epochs: 30'")
    return values


def close_file(path: Path) -> str:
    """``; did you mean ...?`` if there is a YAML file with a similar name beside ``path``, else nothing."""
    names = [p.name for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
    close = closest(path.name, names)
    return f"; did you mean {path.parent / close}?" if close else ""


def parse_yaml(text: str) -> Any:
    """Text, numbers, flags, null, lists and keys. Raises ValueError with one line: the place and the problem."""
    try:
        values = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}is not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"is not valid YAML: {str(error).splitlines()[0]}") from None
    try:
        json.dumps(values)
    except (TypeError, ValueError, RecursionError):
        # Tags and anchors can make dates, bytes, sets and lists that hold themselves.
        raise ValueError("may hold only text, numbers, true, false, null, lists and keys; remove tags") from None
    return values


def to_yaml(values: dict[str, Any]) -> str:
    """The text from which `parse_yaml`, or any other YAML reader, makes ``values``."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  none of YAML 1.1's: `off` a flag, 1:30 a 90, dates

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                problem = f"the key {json.dumps(key, default=str)} must be text"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if key in seen:
                problem = f"{key} appears twice; keep one"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 reads as something else than text, and what we do."""


_DIGITS, _EXPONENT = r"[0-9][0-9_]*", r"[eE][-+]?[0-9]+"
_FLOAT = rf"(?:{_DIGITS}\.[0-9_]*|\.[0-9]+)(?:{_EXPONENT})?|{_DIGITS}{_EXPONENT}|\.(?:inf|Inf|INF)"
for _name, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", rf"[-+]?(?:{_FLOAT})|\.(?:nan|NaN|NAN)", "-+.0123456789"),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), list(_first))
