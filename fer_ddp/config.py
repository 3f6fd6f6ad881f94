"""A job: one YAML file says everything, ``extends:`` builds on another, ``key.sub=value`` has the last word.

It becomes one frozen, typed object. Whatever is wrong with it is refused here, before anything starts, in a sentence
that names the file, the key and what would be right.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from fer_ddp.augment import AugmentConfig
from fer_ddp.data import DataConfig
from fer_ddp.ema import EmaConfig
from fer_ddp.errors import JobError
from fer_ddp.fields import CountOrZero, PositiveInt
from fer_ddp.job_sentences import sentences
from fer_ddp.loss import LossConfig
from fer_ddp.network import ModelConfig
from fer_ddp.optim import OptimizerConfig
from fer_ddp.precision import MemoryFormat, Precision
from fer_ddp.schedule import EarlyStoppingConfig, ScheduleConfig
from fer_ddp.tracking import WandbConfig
from fer_ddp.yaml_text import close_file, parse_yaml, read_yaml


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
    run: Annotated[str, Field(min_length=1)]
    """The run folder."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
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
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain


_JOB = TypeAdapter(Job)

MAY_CHANGE = ("data.path", "data.mode", "data.workers", "micro_batch_size", "log", "wandb", "run", "name", "checkpoint")
"""Keys that a continued run may change, since they don't change the result."""


def load_job(path: Path, overrides: list[str]) -> Job:
    """Read a job file, its parents and ``key.sub=value`` overrides. Raises JobError."""
    layers = _read_with_parents(path, ())
    values: dict[str, Any] = {}
    for layer in layers:
        values = _merge(values, layer.values)
    given = [_parse_override(override) for override in overrides]
    # The network's name goes first: it takes away the arguments of the one before.
    for keys, value in sorted(given, key=lambda item: item[0] != ["model", "name"]):
        values = _put(values, keys, value)
        layers.append(_Layer(origin="command line", values=_put({}, keys, value)))
    values.setdefault("name", path.stem)
    if values.get("run") is None:
        values["run"] = f"runs/{values['name']}-seed{values.get('seed', 0)}"
    return _build(values, layers, str(path))


def job_from_dict(values: dict[str, Any], origin: str) -> Job:
    """Build a Job from nested dictionaries; ``origin`` names them in errors. Raises JobError."""
    return _build(values, [], origin)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    """What one file, or the command line, says."""

    origin: str
    values: dict[str, Any]


def _build(values: dict[str, Any], layers: list[_Layer], origin: str) -> Job:
    def origin_of(keys: list[str]) -> str:
        """The last layer that says something about ``keys``, or about most of them."""
        for depth in range(len(keys), 0, -1):
            for layer in reversed(layers):
                if _holds(layer.values, keys[:depth]):
                    return layer.origin
        return origin

    try:
        # Strict JSON mode: no string becomes a number, no number a flag; lists may become tuples.
        return _JOB.validate_json(json.dumps(values), strict=True, extra="forbid")
    except ValidationError as error:
        raise JobError(sentences(error, Job, origin_of)) from None


def _holds(values: Any, keys: list[str]) -> bool:
    for key in keys:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


def _read_with_parents(path: Path, children: tuple[Path, ...]) -> list[_Layer]:
    """The job file and those it extends, the eldest first."""
    values = read_yaml(path)
    parent = values.pop("extends", None)
    layer = _Layer(origin=str(path), values=values)
    if parent is None:
        return [layer]
    if not isinstance(parent, str):
        raise JobError(f"{path}: extends: is {json.dumps(parent)}; it must be another job file, such as base.yaml")
    parent_path = path.parent / parent
    if not parent_path.is_file():
        raise JobError(f"{path}: extends: there is no file {parent_path}{close_file(parent_path)}")
    children = (*children, path)
    for number, child in enumerate(children):
        if parent_path.resolve() == child.resolve():
            circle = " -> ".join(each.name for each in (*children[number:], parent_path))
            raise JobError(f"{path}: extends: goes round in a circle, {circle}; take one of them out")
    return [*_read_with_parents(parent_path, children), layer]


def _merge(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    merged = dict(parent)
    for key, value in child.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        # Another network takes other arguments, so the parent's don't carry over.
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
    """``values`` with ``value`` at ``keys``, in place of whatever stands there."""
    first, *rest = keys
    if not rest:
        return values | {first: value}
    if keys == ["model", "name"] and _holds(values, keys) and values["model"]["name"] != value:
        return values | {"model": {"name": value}}
    inner = values.get(first)
    return values | {first: _put(inner if isinstance(inner, dict) else {}, rest, value)}


def differing_keys(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """``key: old -> new`` for each key whose value differs, but for those in `MAY_CHANGE`."""
    flat_old, flat_new = flatten(old), flatten(new)
    lines = []
    for key in sorted(flat_old.keys() | flat_new.keys()):
        if any(key == free or key.startswith(f"{free}.") for free in MAY_CHANGE):
            continue
        if flat_old.get(key) != flat_new.get(key):
            lines.append(f"{key}: {flat_old.get(key)} -> {flat_new.get(key)}")
    return lines


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, such as ``optimizer.lr``: 0.001."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
