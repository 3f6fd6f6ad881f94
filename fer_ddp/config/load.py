"""A job: one YAML file, ``extends:`` builds on another, ``key.sub=value`` overrides both.

It becomes one frozen, typed object. Whatever is wrong with it is refused here, before anything starts, with a message
that names the file, the key and what would be right.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fer_ddp.config.job import Job
from fer_ddp.config.messages import format_errors
from fer_ddp.config.recipe_files import find_job, find_relative
from fer_ddp.errors import JobError
from fer_ddp.yaml_io import close_file, parse_yaml, read_yaml

_JOB = TypeAdapter(Job)


def load_job(name: str | Path, overrides: list[str]) -> Job:
    """Read a job file, given by path or name, its parents and ``key.sub=value`` overrides. Raises JobError."""
    path = find_job(name)
    if path.is_dir():
        what = "a recipe's name or a YAML file"
        if (path / "config.yaml").is_file():
            what += f", such as this run's {path / 'config.yaml'}"
        raise JobError(f"{name}: is a folder; a job is {what}, and data.path=FOLDER names the data")
    layers = _read_with_parents(path, ())
    if path.name == "config.yaml" and (path.parent / "environment.json").exists():  # a run's own
        layers[-1] = dataclasses.replace(layers[-1], values=_as_it_was(layers[-1].values))
    if "jobs" in layers[-1].values:
        raise JobError(f"{path}: is an array of jobs; `fer-ddp launch local {name}` trains them")
    values: dict[str, Any] = {}
    for layer in layers:
        values = _merge(values, layer.values)
    for override in overrides:
        key, _, text = override.partition("=")
        _check_writable(text, key)
    given = [_parse_override(override) for override in overrides]
    # The model's name comes first: it removes the arguments of the previous model.
    for keys, value in sorted(given, key=lambda item: item[0] != ["model", "name"]):
        values = _put(values, keys, value)
        layers.append(_Layer(origin="command line", values=_put({}, keys, value)))
    if "from" in values:
        values = _with_weights(values, values["from"], str(path))
    values.setdefault("name", path.stem)
    if values.get("run") is None:
        values["run"] = f"runs/{values['name']}-seed{values.get('seed', 0)}"
    return _build(values, layers, str(path))


def _with_weights(values: dict[str, Any], source: Any, origin: str) -> dict[str, Any]:
    """``values`` with ``from``, which is short for ``model.weights``, written as this."""
    if _holds(values, ["model", "weights"]):
        raise JobError(f"{origin}: from: is short for model.weights, which is given too; leave one of them out")
    return _put({key: value for key, value in values.items() if key != "from"}, ["model", "weights"], source)


def job_from_dict(values: dict[str, Any], origin: str) -> Job:
    """The Job that a run's ``config.yaml`` holds; ``origin`` names it in errors. Raises JobError."""
    return _build(_as_it_was(values), [], origin)


def _as_it_was(values: dict[str, Any]) -> dict[str, Any]:
    """A run's ``config.yaml``; keys that it lacks, since an older version wrote it, have the meaning they had then."""
    return _merge({"ema": {"warmup": False}}, values)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    """The values of one file or of the command line."""

    origin: str
    values: dict[str, Any]


def _build(values: dict[str, Any], layers: list[_Layer], origin: str) -> Job:
    def origin_of(keys: list[str]) -> str:
        """The last layer that sets ``keys``, or else the section they are in."""
        for depth in range(len(keys), 0, -1):
            for layer in reversed(layers):
                if _holds(layer.values, keys[:depth]):
                    return layer.origin
        return origin

    _check_writable(values)
    try:
        # Strict JSON mode: no string becomes a number, no number a flag; lists may become tuples.
        return _JOB.validate_json(json.dumps(values), strict=True, extra="forbid")
    except ValidationError as error:
        raise JobError(format_errors(error, Job, origin_of)) from None


def _check_writable(values: Any, key: str = "") -> None:
    """Raises JobError for what no file of a run could hold: bytes that are no text, as in the names of some files, and
    a model's argument that is not finite, which equals nothing, not even itself when the run is resumed.
    """
    if isinstance(values, dict):
        for name, value in values.items():
            _check_writable(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list):
        for value in values:
            _check_writable(value, key)
    elif isinstance(values, float) and key.startswith("model.arguments") and not math.isfinite(values):
        raise JobError(f"{key}: is {json.dumps(values)}; it must be a finite number")
    elif isinstance(values, str):
        try:
            values.encode("utf-16", "surrogatepass").decode("utf-16")  # JSON writes an emoji as two surrogates
        except UnicodeDecodeError:
            raise JobError(
                f"{key}: is {values}, which is not UTF-8; rename that file or folder, or choose another {key}="
            ) from None


def _holds(values: Any, keys: list[str]) -> bool:
    for key in keys:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


def _read_with_parents(path: Path, children: tuple[Path, ...]) -> list[_Layer]:
    """The job file and those it extends, the most basic first."""
    values = read_yaml(path)
    parent = values.pop("extends", None)
    layer = _Layer(origin=str(path), values=values)
    if parent is None:
        return [layer]
    if not isinstance(parent, str):
        raise JobError(f"{path}: extends: is {json.dumps(parent)}; it must be another job file, such as base.yaml")
    parent_path = find_relative(parent, path.parent)
    if not parent_path.is_file():
        raise JobError(f"{path}: extends: there is no file {parent_path}{close_file(parent_path)}")
    children = (*children, path)
    for number, child in enumerate(children):
        if parent_path.resolve() == child.resolve():
            circle = " -> ".join(each.name for each in (*children[number:], parent_path))
            raise JobError(f"{path}: extends: goes round in a circle, {circle}; remove one of them")
    return [*_read_with_parents(parent_path, children), layer]


def _merge(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    merged = dict(parent)
    for key, value in child.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        # Another model takes other arguments, so the parent's don't carry over.
        if both and key == "model" and value.get("name", parent["model"].get("name")) != parent["model"].get("name"):
            both = False
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _parse_override(override: str) -> tuple[list[str], Any]:
    key, equals, text = override.partition("=")
    keys = key.split(".")
    if not equals or not all(keys):
        raise JobError(f"{override}: an override looks like key.sub=value, such as optimizer.lr=0.01")
    try:
        return keys, parse_yaml(text)
    except ValueError:
        raise JobError(f"{override}: the value {text} is not valid YAML; put text in quotes: {key}='{text}'") from None


def _put(values: dict[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    """``values`` with ``value`` at ``keys``, replacing whatever is there."""
    first, *rest = keys
    if not rest:
        return values | {first: value}
    if keys == ["model", "name"] and _holds(values, keys) and values["model"]["name"] != value:
        return values | {"model": {"name": value}}
    inner = values.get(first)
    return values | {first: _put(inner if isinstance(inner, dict) else {}, rest, value)}
