"""A trained model from a run folder, an ensemble's, an exported folder or several of these."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_ddp.config.load import load_job
from fer_ddp.deploy.export import CARD, MODEL, load_exported
from fer_ddp.deploy.exported import has_known_network, load_without_code
from fer_ddp.deploy.hub import fetch, repository
from fer_ddp.deploy.predict import Predictor
from fer_ddp.errors import JobError
from fer_ddp.evaluation.evaluator import Evaluator
from fer_ddp.evaluation.trained_model import load_trained_model
from fer_ddp.metrics.averaging import mean_probabilities
from fer_ddp.metrics.calibration import apply_temperature
from fer_ddp.precision import final_precision
from fer_ddp.runs.files import check_run_folder
from fer_ddp.runs.finished import MEMBERS_FILE, member_paths, read_members
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.weights import EXPORTED_WEIGHTS
from shards.images import shape_in_words


def is_model(path: Path) -> bool:
    """Whether ``path`` is what `load` takes."""
    return repository(path) is not None or any(
        (path / name).is_file() for name in ("config.yaml", MEMBERS_FILE, CARD, EXPORTED_WEIGHTS)
    )


def load(folder: Path, device: torch.device) -> Predictor:
    """The model that a run selected, an ensemble of such, an exported one or ``hf:USER/NAME``, ready for images.

    Of a run and an exported folder the folder alone is needed, of an ensemble its members' run folders as well. Raises
    JobError if ``folder`` is none of these or a member is absent, RunError if its files are damaged or don't fit each
    other.
    """
    if (folder / CARD).is_file() and (folder / MODEL).is_file() and not has_known_network(folder):
        model, card = load_exported(folder, device)
        _, channels, height, width = card["input"]["shape"]
        return _predictor(card["class_names"], card.get("untrained_classes", ()), (channels, height, width), model)
    name = repository(folder)
    if name is not None or (folder / CARD).is_file() or (folder / EXPORTED_WEIGHTS).is_file():
        exported = load_without_code(folder if name is None else fetch(name), device)
        return _predictor(
            exported.class_names, exported.untrained_classes, exported.image_shape, exported.probabilities
        )
    recorded = read_members(folder)
    if recorded:
        return average(member_paths(folder, recorded), device, temperature=float(recorded.get("temperature") or 1))
    check_run_folder(folder)
    job = load_job(folder / "config.yaml", [])
    trained = load_trained_model(RunFolder(folder), job, device)
    evaluator = Evaluator.of(job.data, final_precision(job.precision), job.memory_format, device, job.views)
    return _predictor(
        trained.class_names,
        trained.untrained_classes,
        trained.image_shape,
        lambda images: evaluator.probabilities(trained.model, images),
    )


def average(folders: Sequence[Path], device: torch.device, *, temperature: float = 1) -> Predictor:
    """The mean of several models' probabilities, calibrated by ``temperature``; 1 leaves them as they are.

    Raises JobError if they take other images or have other classes than the first, and as `load` does.
    """
    members = [load(folder, device) for folder in folders]
    first = members[0]
    for folder, member in zip(folders[1:], members[1:], strict=True):
        if member.image_shape != first.image_shape:
            raise JobError(
                f"{folder}: takes images of {shape_in_words(member.image_shape)}, {folders[0]} of "
                f"{shape_in_words(first.image_shape)}; models that are averaged must take the same"
            )
        if set(member.class_names) != set(first.class_names):
            raise JobError(
                f"{folder}: has the classes {', '.join(member.class_names)}, {folders[0]} has "
                f"{', '.join(first.class_names)}; models that are averaged must have the same"
            )
    if len(members) == 1 and temperature == 1:
        return first
    orders = [[member.class_names.index(name) for name in first.class_names] for member in members]

    def probabilities(images: Tensor) -> NDArray[np.floating[Any]]:
        mean = mean_probabilities(
            [member.probabilities(images)[:, order] for member, order in zip(members, orders, strict=True)]
        )
        return mean if temperature == 1 else apply_temperature(mean, temperature)

    return Predictor(class_names=first.class_names, image_shape=first.image_shape, probabilities=probabilities)


def _predictor(
    class_names: Sequence[str],
    untrained: Collection[str],
    image_shape: tuple[int, int, int],
    probabilities: Callable[[Tensor], NDArray[np.floating[Any]]],
) -> Predictor:
    """The model without the classes that it was trained without: it has never learned what they look like."""
    trained = [index for index, name in enumerate(class_names) if name not in untrained]
    names = tuple(class_names[index] for index in trained)
    if len(names) == len(class_names):
        return Predictor(class_names=names, image_shape=image_shape, probabilities=probabilities)

    def of_trained_classes(images: Tensor) -> NDArray[np.floating[Any]]:
        found: NDArray[np.floating[Any]] = probabilities(images)[:, trained]
        found /= found.sum(axis=1, keepdims=True)
        return found

    return Predictor(class_names=names, image_shape=image_shape, probabilities=of_trained_classes)
