"""A job as one frozen, typed object: everything that decides what a run does."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from fer_ddp.augment.image_size import ImageSizeConfig
from fer_ddp.augment.parameters import AugmentConfig
from fer_ddp.augment.views import ViewsConfig
from fer_ddp.constraints import NonNegativeFloat, PositiveFloat, UserPath
from fer_ddp.data.dataset import DataConfig
from fer_ddp.models.build import ModelConfig
from fer_ddp.optim.distillation import DistillationConfig
from fer_ddp.optim.ema import EmaConfig
from fer_ddp.optim.label_correction import LabelCorrectionConfig
from fer_ddp.optim.loss import LossConfig
from fer_ddp.optim.optimizers import OptimizerConfig
from fer_ddp.optim.schedules import EarlyStoppingConfig, ScheduleConfig
from fer_ddp.precision import MemoryFormat, Precision
from fer_ddp.runs.tracking import WandbConfig
from shards.manifest import Split


@dataclass(frozen=True, kw_only=True, slots=True)
class LogConfig:
    """What is logged besides a line per epoch."""

    every_steps: NonNegativeInt = 0
    """Write ``steps.jsonl`` every so many steps; 0 never."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """When the val split is evaluated during training."""

    every_epochs: PositiveInt = 1
    """Evaluate val after every so many epochs and after the last one; best_val then selects among these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointConfig:
    """When the state is saved besides at the end and at a signal."""

    every_seconds: PositiveFloat | None = 30.0
    """Save so many seconds after the last save, while training continues; null: at the end of each epoch."""
    every_steps: PositiveInt | None = None
    """Save every so many steps as well."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Everything that decides what a run does."""

    name: str
    """The job file's name without .yaml."""
    run: UserPath
    """The run folder."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Decides initialization, order, augmentation and dropout."""
    epochs: PositiveInt = 30
    """Passes over the training split."""
    time_limit_s: PositiveFloat | None = None
    """Seconds of training: as many epochs as fit, measured at the start, instead of ``epochs``. Loading data before it
    and the final evaluation after it are not included."""
    stall_seconds: NonNegativeFloat | None = 300.0
    """Seconds without a step, or a batch of an evaluation, on any rank after which the run ends and names the rank that
    stalled; half an hour for the first step. null or 0: never."""
    global_batch_size: PositiveInt = 64
    """Samples per step over all ranks; the ranks share them evenly."""
    micro_batch_size: PositiveInt | None = None
    """Samples a rank puts through the model at once, to save memory; null is all of its share."""
    precision: Precision = "auto"
    """Of training; auto: bf16 or fp16 on a GPU; on a CPU the fastest that it supports. Final figures are computed in
    float32 (float64 if that is set), on every machine alike."""
    memory_format: MemoryFormat = "auto"
    """auto: channels_last on a GPU, the faster one on a CPU."""
    select: Literal["best_val", "last"] = "best_val"
    """Which weights are evaluated at the end: those with the best val accuracy or the last."""
    data: DataConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    label_correction: LabelCorrectionConfig = field(default_factory=LabelCorrectionConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    image_size: ImageSizeConfig = field(default_factory=ImageSizeConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    tensorboard: bool = False
    """Also write the curves into the run's folder ``tensorboard``; needs the extra tensorboard."""

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries, ready for YAML or JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain


MAY_CHANGE = (
    "data.path",
    "data.mode",
    "data.workers",
    "micro_batch_size",
    "stall_seconds",
    "log",
    "wandb",
    "tensorboard",
    "run",
    "name",
    "checkpoint",
)
"""Keys that may change when a run is resumed, since they don't change the result."""


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


def identity(job: Job, train: Split) -> dict[str, Any]:
    """What a state says of the run that it belongs to: its `decisive_keys` and its training data."""
    data = hashlib.sha256("".join(shard.sha256 for shard in train.shards).encode()).hexdigest()
    return decisive_keys(job) | {"train_digest": data}


def decisive_keys(job: Job) -> dict[str, Any]:
    """The keys that decide a run's result, flat.

    Without the number of epochs, a time limit that decides it, and the selection of weights, which may change where the
    states before stay right.
    """
    free = (*MAY_CHANGE, "epochs", "time_limit_s", "select")
    keys = flatten(job.to_dict()).items()
    return {key: value for key, value in keys if not any(key == one or key.startswith(f"{one}.") for one in free)}


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, such as ``optimizer.lr``: 0.001."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
