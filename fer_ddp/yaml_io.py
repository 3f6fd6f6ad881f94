"""YAML as people mean it: 1e-3 is a number, `off` and a date are text, and a key that appears twice is a mistake."""

import json
import re
import zlib
from pathlib import Path
from typing import Any

import yaml

from fer_ddp.errors import JobError
from fer_ddp.text import closest
from shards.files import read_regular

_LARGEST = 1 << 18
"""Bytes of a YAML file, of which this reads 50 KB a second."""
_DEEPEST = 50
"""Lists and keys inside each other; the reader's time grows with the square."""
_MOST_VALUES = 100_000
"""With each alias in full: a few lines of aliases of aliases are billions."""
_CHECKSUM = re.compile(r"# crc32 ([0-9a-f]{8}) .*\n\Z")


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
    checksum = _CHECKSUM.search(text)
    if checksum is not None and _checksum(text[: checksum.start()]) != checksum[1]:
        raise JobError(
            f"{path}: is not what was written, so it is damaged or was edited; put it back, or remove its last line, "
            f"the checksum, to use it as it is"
        )
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
        _check_size(values)
        json.dumps(values)
    except (TypeError, ValueError, RecursionError):
        # Tags and anchors can make dates, bytes, sets and lists that hold themselves.
        raise ValueError("may hold only text, numbers, true, false, null, lists and keys; remove tags") from None
    return values


def _check_size(values: Any) -> None:
    """Raises ValueError for more than `_MOST_VALUES`, also for a list that holds itself."""
    waiting, count = [values], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if count > _MOST_VALUES:
            raise ValueError
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def to_yaml(values: dict[str, Any], *, checked: bool = False) -> str:
    """The text from which `parse_yaml`, or any other YAML reader, makes ``values``.

    ``checked``: with a comment for `read_yaml`, which refuses the file if one letter has changed.
    """
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False)
    return (
        f"{text}# crc32 {_checksum(text)} of the lines above; remove this line if you edit them\n" if checked else text
    )


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  none of YAML 1.1's: `off` a flag, 1:30 a 90, dates

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        self._check_depth()
        super().fetch_flow_collection_start(TokenClass)

    def add_indent(self, column: int) -> bool:
        self._check_depth()
        return super().add_indent(column)

    def _check_depth(self) -> None:
        if self.flow_level + len(self.indents) > _DEEPEST:
            raise yaml.scanner.ScannerError(None, None, f"is nested more than {_DEEPEST} deep", self.get_mark())

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
