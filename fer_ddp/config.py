"""A job: one YAML file says everything, ``extends:`` builds on another, ``key.sub=value`` has the last word.

It becomes one frozen, typed object. Whatever is wrong with it is refused here, before anything starts, in a sentence
that names the file, the key and what would be right.
"""

import dataclasses
import difflib
import json
import re
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from fer_ddp.augment import AugmentConfig
from fer_ddp.data import DataConfig
from fer_ddp.ema import EmaConfig
from fer_ddp.errors import JobError
from fer_ddp.fields import CountOrZero, PositiveInt
from fer_ddp.loss import LossConfig
from fer_ddp.network import ModelConfig
from fer_ddp.optim import OptimizerConfig
from fer_ddp.precision import MemoryFormat, Precision
from fer_ddp.schedule import EarlyStoppingConfig, ScheduleConfig
from fer_ddp.tracking import WandbConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class LogConfig:
    """What is written besides a line an epoch."""

    every_steps: CountOrZero = 0
    """Write ``steps.jsonl`` every so many steps; 0 never."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointConfig:
    """When the state is saved besides epochs' ends and signals."""

    every_steps: PositiveInt | None = None
    """Save every so many steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Everything that decides what a run does."""

    name: str
    """The job file's name without .yaml."""
    run: str
    """The run folder."""
    seed: CountOrZero = 0
    """Decides initialization, order, augmentation and dropout."""
    epochs: PositiveInt = 30
    """Passes over the training split."""
    global_batch_size: PositiveInt = 64
    """Samples a step over all ranks; the ranks share them evenly."""
    micro_batch_size: PositiveInt | None = None
    """Samples a rank puts through the network at once, to save memory; null is all of its share."""
    precision: Precision = "auto"
    """auto: bf16 or fp16 on a GPU, the fastest of what this CPU has on a CPU."""
    memory_format: MemoryFormat = "auto"
    """auto: channels_last on a GPU, the faster one on a CPU."""
    select: Literal["best_val", "last"] = "best_val"
    """Which weights are evaluated at the end: those of the best val accuracy or the last."""
    data: DataConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries, ready for YAML or JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


MAY_CHANGE = ("data.path", "data.mode", "micro_batch_size", "log", "wandb", "run", "name", "checkpoint")
"""Keys that a continued run may change, since they don't change the result."""


def load_job(path: Path, overrides: list[str]) -> Job:
    """Read a job file, its parents and ``key.sub=value`` overrides. Raises JobError."""
    values = read_job_file(path)
    origin = str(path)
    for override in overrides:
        _apply_override(values, override)
    values.setdefault("name", path.stem)
    if values.get("run") is None:
        values["run"] = f"runs/{values['name']}-seed{values.get('seed', 0)}"
    return job_from_dict(values, origin if not overrides else f"{origin} with {' '.join(overrides)}")


def job_from_dict(values: dict[str, Any], origin: str) -> Job:
    """Build a Job from nested dictionaries; ``origin`` names them in errors. Raises JobError."""
    try:
        # Strict JSON mode: no string becomes a number, no number a flag; lists may become tuples.
        return TypeAdapter(Job).validate_json(json.dumps(values), strict=True, extra="forbid")
    except ValidationError as error:
        raise JobError("; ".join(_sentence(detail, origin) for detail in error.errors(include_url=False))) from None


def read_job_file(path: Path) -> dict[str, Any]:
    """The nested dictionary of a job file on top of those it extends. Raises JobError."""
    return _read_with_parents(path, ())


def _read_with_parents(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in children:
        raise JobError(f"{path}: extends itself by way of {' -> '.join(child.name for child in children)}")
    values = read_yaml(path)
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise JobError(f"{path}: extends: must be the name of a job file beside it, such as base.yaml")
    parent_path = path.parent / parent
    if not parent_path.is_file():
        raise JobError(f"{path}: extends: {parent_path} does not exist")
    return _merge(_read_with_parents(parent_path, (*children, path.resolve())), values)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds keys and values. Raises JobError naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise JobError(f"{path}: there is no such file{_close_files(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"{path}: can't be read as UTF-8 text: {error}") from None
    try:
        values = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise JobError(f"{path}:{line} is not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise JobError(f"{path}: is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise JobError(f"{path}: must hold keys and values, such as 'epochs: 30'")
    return values


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: 1e-3 is a number, and a key that stands twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                problem = f"the key {key!r} must be a word"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_FLOAT = r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)$"
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(_FLOAT), list("-+0123456789"))


def _merge(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    merged = dict(parent)
    for key, value in child.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        # Another network takes other arguments, so the parent's don't carry over.
        if both and key == "model" and value.get("name", parent["model"].get("name")) != parent["model"].get("name"):
            both = False
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise JobError(f"{override}: an override looks like key.sub=value, such as optimizer.lr=0.01")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError:
        raise JobError(f"{override}: the value {text!r} is not valid YAML") from None
    *parents, last = key.split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise JobError(f"{override}: {parent} holds the value {inner!r}, not keys")
        values = inner
    values[last] = value


def _sentence(detail: Any, origin: str) -> str:
    where = [str(part) for part in detail["loc"] if not str(part).startswith(("constrained-", "function-"))]
    # A union such as `float | None` puts its member's name at the end of the place.
    where = [part for part in where if part not in ("float", "int", "str", "bool", "none")]
    key, kind, value = ".".join(where), detail["type"], detail["input"]
    if kind == "unexpected_keyword_argument":
        known = _keys_at(where[:-1])
        close = difflib.get_close_matches(where[-1], known, n=1) or _same_name_elsewhere(where[-1])
        prefix = ".".join(where[:-1])
        hint = f"did you mean {f'{prefix}.' if prefix and '.' not in close[0] else ''}{close[0]}?" if close else ""
        return f"{origin}: {key}: unknown key; {hint or 'known are ' + ', '.join(known)}"
    if kind in ("missing", "missing_keyword_only_argument"):
        return f"{origin}: {key}: must be given{_example(where)}"
    if kind == "value_error":
        prefix = f"{key}." if key else ""
        return f"{origin}: {prefix}{detail['ctx']['error']}"
    if kind == "dataclass_type":
        return f"{origin}: {key}: is {value!r}; it must hold keys: {', '.join(_keys_at(where))}"
    message = detail["msg"].removeprefix("Input should be ").removeprefix("Tuple should have ")
    return f"{origin}: {key}: is {json.dumps(value)}; it must be {message}"


def _keys_at(path: list[str]) -> list[str]:
    """The keys that a job has under ``path``."""
    owner: Any = Job
    for part in path:
        hints = typing.get_type_hints(owner) if dataclasses.is_dataclass(owner) else {}
        owner = hints.get(part)
    return [f.name for f in dataclasses.fields(owner)] if dataclasses.is_dataclass(owner) else []


def _same_name_elsewhere(name: str) -> list[str]:
    """Where a key of this name would be right: ``lr`` gives ``optimizer.lr``."""
    sections = [f.name for f in dataclasses.fields(Job)]
    return [f"{section}.{name}" for section in sections if name in _keys_at([section])][:1]


def _example(path: list[str]) -> str:
    examples = {"data.path": "data.path=data/fer2013", "model": "model: {name: face_cnn}"}
    example = examples.get(".".join(path))
    return f", such as {example}" if example else ""


def _close_files(path: Path) -> str:
    names = [p.name for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1) or difflib.get_close_matches(path.name + ".yaml", names, 1)
    return f"; did you mean {path.parent / close[0]}?" if close else ""


def differing_keys(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """``key: old -> new`` for each key whose value differs, but for those in `MAY_CHANGE`."""
    flat_old, flat_new = _flatten(old), _flatten(new)
    lines = []
    for key in sorted(flat_old.keys() | flat_new.keys()):
        if any(key == free or key.startswith(f"{free}.") for free in MAY_CHANGE):
            continue
        if flat_old.get(key) != flat_new.get(key):
            lines.append(f"{key}: {flat_old.get(key)} -> {flat_new.get(key)}")
    return lines


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
