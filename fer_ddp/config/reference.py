"""All keys of a job with defaults and meanings, from the dataclasses and the texts under their fields."""

import ast
import dataclasses
import inspect
import json
import textwrap
import typing
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal

from fer_ddp.config.job import Job

_FROM_THE_FILE = {"name": "(the file's name)", "run": "(runs/NAME-seedN)"}
"""The defaults that `load_job` sets."""


def key_table() -> str:
    """Two lines or more per key: ``key=default`` as on a command line, and below it the meaning."""
    return "\n".join(f"{key}\n{textwrap.indent(textwrap.fill(text, 100), '    ')}" for key, text in _keys(Job, ""))


def _keys(owner: type, prefix: str) -> Iterator[tuple[str, str]]:
    """(key and default, meaning) of each field of the dataclass ``owner`` and of those it holds."""
    hints, texts = typing.get_type_hints(owner), _texts_under_fields(owner)
    for field in dataclasses.fields(owner):
        key, hint = f"{prefix}{field.name}", hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from _keys(hint, f"{key}.")  # type: ignore[arg-type]
            continue
        default = _default(field) or _FROM_THE_FILE.get(key, "(must be given)")
        choices = [str(choice) for choice in typing.get_args(hint)] if typing.get_origin(hint) is Literal else []
        yield (
            f"{key}={default}" + (f"  one of {', '.join(choices)}" if choices else ""),
            texts[field.name].replace("``", "`"),
        )


def _default(field: "dataclasses.Field[Any]") -> str | None:
    if field.default_factory is not dataclasses.MISSING:
        return json.dumps(field.default_factory())
    if field.default is dataclasses.MISSING:
        return None
    return field.default if isinstance(field.default, str) else json.dumps(field.default)


def _texts_under_fields(owner: type) -> dict[str, str]:
    """The text under each field, each in one line. From the source, since Python does not keep it."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(owner)).body if isinstance(node, ast.ClassDef))
    return {
        ast.unparse(field.target): " ".join(ast.literal_eval(text.value).split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }
