"""What the JSON and YAML files of runs, ensembles, exports and arrays must hold for those who read them.

They may come from strangers, or were edited. Only what is read is listed: other keys pass, since an older or a newer
version may have written them.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from fer_ddp.constraints import PositiveFloat

_Side = Annotated[int, Field(ge=1, le=4096)]


@dataclass(frozen=True)
class Status:
    """``status.json``."""

    state: str | None = None
    host: str | None = None
    pid: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    epoch: NonNegativeInt | None = None
    step: NonNegativeInt | None = None
    message: str | None = None
    lines: dict[str, NonNegativeInt] | None = None


@dataclass(frozen=True)
class _F1:
    f1: float


@dataclass(frozen=True)
class _ClassFigures:
    precision: float
    recall: float
    f1: float
    support: NonNegativeInt


@dataclass(frozen=True)
class _Figures:
    n: PositiveInt
    accuracy: float
    per_class: dict[str, _F1] = field(default_factory=dict)
    predictions_sha256: str | None = None


@dataclass(frozen=True)
class _AllFigures:
    n: PositiveInt
    accuracy: float
    accuracy_ci95: tuple[float, float]
    macro_f1: float
    balanced_accuracy: float
    per_class: dict[str, _ClassFigures]


@dataclass(frozen=True)
class _OtherData:
    path: str | None = None
    classes: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """``summary.json``, of a run's own data or of others."""

    class_names: list[str] = field(default_factory=list)
    val: _Figures | None = None
    test: _Figures | None = None
    data: _OtherData | None = None


@dataclass(frozen=True)
class WholeSummary:
    """``summary.json`` for a model card, which shows all of it."""

    val: _AllFigures | None = None
    test: _AllFigures | None = None


@dataclass(frozen=True)
class _Code:
    commit: str | None = None


@dataclass(frozen=True)
class Environment:
    """``environment.json``."""

    data_digest: str | None = None
    world_size: PositiveInt = 1
    threads: PositiveInt = 1
    versions: dict[str, str] = field(default_factory=dict)
    code: _Code | None = None


@dataclass(frozen=True)
class _Data:
    path: str = ""


@dataclass(frozen=True)
class _Model:
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """``config.yaml``, for a reader who does not need the whole job."""

    seed: NonNegativeInt = 0
    epochs: PositiveInt = 1
    select: Literal["best_val", "last"] = "best_val"
    data: _Data = field(default_factory=_Data)
    model: _Model | None = None
    precision: str = ""


@dataclass(frozen=True)
class Weights:
    """A checkpoint, for one who uses its weights."""

    image_shape: tuple[Literal[1, 3], _Side, _Side]
    class_names: Annotated[list[str], Field(min_length=1)]
    step: NonNegativeInt
    epoch: NonNegativeInt
    network: dict[str, list[int]]
    """The shape of each tensor."""
    ema: dict[str, list[int]] | None = None
    untrained_classes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _EnsembleMember:
    run: str
    config_sha256: str


@dataclass(frozen=True)
class Members:
    """``members.json`` of an ensemble."""

    members: Annotated[list[_EnsembleMember], Field(min_length=1)]
    temperature: PositiveFloat | None = None


@dataclass(frozen=True)
class Imported:
    """``imported.json`` of imported predictions."""

    seed: NonNegativeInt | None = None
    labels_only: bool = False
    data: _Data = field(default_factory=_Data)
    selection: str | None = None
    source: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class _ExportedNetwork:
    model: _Model
    mean: list[float] | None = None
    std: list[float] | None = None


@dataclass(frozen=True)
class ExportedNetworks:
    """``config.json`` of an exported folder, for one who takes its weights alone."""

    class_names: list[str]
    members: Annotated[list[_ExportedNetwork], Field(min_length=1)]


@dataclass(frozen=True)
class _ExportedMember:
    model: _Model
    weights_prefix: str
    mean: list[float]
    std: list[float]
    views: dict[str, Any]


@dataclass(frozen=True)
class ExportedConfig:
    """``config.json`` of an exported folder."""

    image_shape: tuple[Literal[1, 3], _Side, _Side]
    class_names: Annotated[list[str], Field(min_length=1)]
    members: Annotated[list[_ExportedMember], Field(min_length=1)]
    temperature: PositiveFloat


@dataclass(frozen=True)
class _Input:
    shape: tuple[str, Literal[1, 3], _Side, _Side]


@dataclass(frozen=True)
class Card:
    """``model.json`` of an exported folder."""

    input: _Input
    class_names: Annotated[list[str], Field(min_length=1)]
    untrained_classes: list[str] = field(default_factory=list)
    sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _ArrayMember:
    name: str
    run: str


@dataclass(frozen=True)
class Array:
    """``array.json`` of what was launched."""

    members: Annotated[list[_ArrayMember], Field(min_length=1)]
    cluster: dict[str, Any] | None = None


@dataclass(frozen=True)
class Submission:
    """A file of ``submissions/``."""

    members: list[str]
    job_id: str | None = None
    summary_job_id: str | None = None


@dataclass(frozen=True)
class AttemptLine:
    """A line of a file of ``attempts/``: a start, an end, or a message."""

    started: str | None = None
    job_id: str | None = None
    nodes: str | None = None
    ended: str | None = None
    exit_status: int | None = None
    saved_step: NonNegativeInt | None = None
    message: str | None = None
