"""The model that a run selected, with its weights: what `evaluate`, `predict` and `export` use."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fer_ddp.config.job import Job, decisive_keys
from fer_ddp.errors import JobError, RunError
from fer_ddp.models.build import build_model, prepare_model
from fer_ddp.models.fitting import check_values
from fer_ddp.runs.checkpoint import check_identity, load_checkpoint, with_shapes
from fer_ddp.runs.files import check_shape, intact_lines, selected_checkpoint
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.model_source import check_model_source
from fer_ddp.runs.shapes import Weights
from fer_ddp.runs.weights import evaluated_weights
from shards.manifest import Manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedModel:
    """A model with its inputs and outputs described; the run folder alone is needed to load it."""

    model: nn.Module
    image_shape: tuple[int, int, int]
    """(channels, height, width) of its input images."""
    class_names: tuple[str, ...]
    """The names of its outputs, in order."""
    untrained_classes: tuple[str, ...]
    """Those that it was trained without a sample of."""
    step: int
    epoch: int
    """Completed steps and epochs when these were its weights."""

    def check_data(self, manifest: Manifest, path: str) -> None:
        """Raises JobError if the data at ``path`` have images of another height or width than the model's."""
        if manifest.image_shape[1:] != self.image_shape[1:]:
            theirs, own = (" x ".join(map(str, shape)) for shape in (manifest.image_shape, self.image_shape))
            raise JobError(
                f"{path}: its images are {theirs} (channels, height, width); the model takes {own}; "
                f"pack the source again with --size {self.image_shape[1]}"
            )


def load_trained_model(run: RunFolder, job: Job, device: torch.device) -> TrainedModel:
    """The model with the weights that ``job.select`` names, on ``device``; ``job`` is the run's own.

    Raises RunError if there is no checkpoint, or if the run folder was edited so that its files don't match; JobError
    if the file of a user's own model is not there, or has changed since it was trained.
    """
    path = selected_checkpoint(run.path, job.select)
    if not path.exists():
        hint = ", in which case `train` with select=last evaluates the last weights" if job.select == "best_val" else ""
        raise RunError(f"{path}: there is no such checkpoint: no epoch has ended yet, or the file was removed{hint}")
    checkpoint = load_checkpoint(path)
    check_identity(path, checkpoint, decisive_keys(job))
    if job.data.mean is None or job.data.std is None:
        raise RunError(f"{run.path}/config.yaml: data.mean or data.std is null; put back what the run was trained with")
    if "image_shape" not in checkpoint:
        raise RunError(f"{path}: has no image_shape, since an earlier version wrote it; train the run again")
    check_shape(path, with_shapes(checkpoint), Weights)
    if len(set(checkpoint["class_names"])) < len(checkpoint["class_names"]):
        raise RunError(f"{path}: two of its classes have the same name; train the run again")
    channels, height, width = checkpoint["image_shape"]
    if not {len(job.data.mean), len(job.data.std)} <= {1, channels}:
        raise RunError(f"{run.path}/config.yaml: data.mean and data.std must have {channels} or 1 numbers each")
    check_model_source(run.path, job.model.name)
    model = build_model(
        job.model,
        seed=job.seed,
        image_shape=(channels, height, width),
        num_classes=len(checkpoint["class_names"]),
    )
    weights = evaluated_weights(checkpoint)
    try:
        check_values(model, weights)
    except ValueError as error:
        raise RunError(f"{path}: {error}; train the run again") from None
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise RunError(
            f"{run.path}/config.yaml: {job.model.name} with these arguments is not the model whose weights are in "
            f"{path}; put model.name and model.arguments back"
        ) from None
    model = prepare_model(model, device=device, precision=job.precision, memory_format=job.memory_format, world_size=1)
    return TrainedModel(
        model=model,
        image_shape=(channels, height, width),
        class_names=tuple(checkpoint["class_names"]),
        untrained_classes=tuple(checkpoint.get("untrained_classes", ())),
        step=checkpoint["step"],
        epoch=_completed_epochs(run, checkpoint),
    )


def _completed_epochs(run: RunFolder, checkpoint: dict[str, Any]) -> int:
    """The epochs whose steps are all done; a state that awaits an evaluation does not count its own."""
    lines = intact_lines(run.path / "metrics.jsonl")
    completed: int = max(
        [checkpoint["epoch"], *(line["epoch"] for line in lines if line["step"] <= checkpoint["step"])]
    )
    return completed
