"""Before the first step of a new run: weights from elsewhere in its model, and its frozen layers."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from fer_ddp.config.job import Job
from fer_ddp.data.dataset import DataConfig
from fer_ddp.errors import JobError
from fer_ddp.models.build import ModelConfig, build_model
from fer_ddp.models.fitting import Fitted, fit_weights
from fer_ddp.models.freezing import freeze
from fer_ddp.runs.weights import Weights, describe_weights, read_weights
from shards.manifest import Manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstWeights:
    """The weights that a run starts from, and what they change in its job."""

    weights: Weights
    fitted: Fitted
    data: DataConfig
    """The job's, with the weights' mean and std where these are known and the job gives none."""
    line: str
    """What to print at the start."""


def first_weights(job: Job, manifest: Manifest) -> FirstWeights | None:
    """Try the weights that ``job`` names on its model; None where it names none. Raises JobError."""
    if job.model.weights is None:
        return None
    model = build_model(
        job.model, seed=job.seed, image_shape=manifest.image_shape, num_classes=len(manifest.class_names)
    )
    weights, fitted = load_weights(model, job.model, manifest.class_names)
    channels = manifest.image_shape[0]
    mean, std = (_for_channels(values, channels) for values in (weights.mean, weights.std))
    data = dataclasses.replace(job.data, mean=job.data.mean or mean, std=job.data.std or std)
    origins = []
    for key, given, theirs in (("mean", job.data.mean, mean), ("std", job.data.std, std)):
        shown = ", ".join(f"{value:.4g}" for value in theirs or ())
        origin = "as the job gives it" if given else f"{shown} as for the weights" if theirs else "of these data"
        origins.append(f"{key} {origin}")
    return FirstWeights(
        weights=weights, fitted=fitted, data=data, line=describe_weights(weights, fitted, ", ".join(origins))
    )


def load_weights(model: nn.Module, config: ModelConfig, class_names: Sequence[str]) -> tuple[Weights, Fitted]:
    """Load the weights that ``config`` names into ``model``, which classifies ``class_names``. Raises JobError."""
    assert config.weights is not None
    weights = read_weights(config.weights, config.name)
    new_head = weights.class_names not in (None, tuple(class_names))
    try:
        return weights, fit_weights(model, weights.tensors, len(class_names), new_head=new_head)
    except ValueError as error:
        of = f", a {weights.model}," if weights.model not in (None, config.name) else ""
        raise JobError(f"model.weights: {weights.source}{of} does not fit {config.name}: {error}") from None


def freeze_layers(model: nn.Module, config: ModelConfig, num_classes: int) -> None:
    """Freeze what ``config`` names. Raises JobError."""
    if config.freeze:
        try:
            freeze(model, config.freeze, num_classes)
        except ValueError as error:
            raise JobError(f"model.freeze: {str(error).removeprefix('model.freeze: ')}") from None


def _for_channels(values: tuple[float, ...] | None, channels: int) -> tuple[float, ...] | None:
    """Those of RGB, averaged for grey images; one number serves all channels."""
    if values is None or len(values) in (1, channels):
        return values
    return (sum(values) / len(values),)
