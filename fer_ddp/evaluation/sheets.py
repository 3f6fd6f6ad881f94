"""``fer-ddp figures``: what a trained model looks at, how sure it is, and how it groups images, as PNGs in the run."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fer_ddp.augment.pixels import normalize, to_unit_range
from fer_ddp.config.job import Job
from fer_ddp.data.dataset import FERDataset, normalization
from fer_ddp.errors import JobError
from fer_ddp.evaluation.features import grad_cam, penultimate_features
from fer_ddp.evaluation.trained_model import TrainedModel, load_trained_model
from fer_ddp.figures.embedding import plot_embedding
from fer_ddp.figures.image_grid import Cell, Row, plot_image_grid
from fer_ddp.figures.reliability import plot_reliability
from fer_ddp.figures.style import save_figure
from fer_ddp.metrics.calibration import apply_temperature, fit_temperature, reliability
from fer_ddp.precision import compute_dtype, to_memory_format
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.predictions import Predictions, read_predictions
from fer_ddp.text import percent, shortened
from shards.reading.scan import load_or_scan_manifest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHEETS = ("grad_cam", "calibration", "embedding")
"""The figures, each as NAME_SPLIT.png."""
_PER_ROW = 4
"""Images of a class that were classified correctly, and as many that were not."""
_MAX_ROWS = 20
_MAX_POINTS, _NEIGHBOURS, _COMPONENTS = 1500, 10, 50


def draw_sheets(run: RunFolder, job: Job, device: torch.device) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Draw `SHEETS` of the run's val split, or test where there is no val, into its ``figures/``.

    ``job``: the run's own. Returns the files, and messages about what could not be drawn. Raises JobError if the run
    was not evaluated on its data, RunError or DataError for damaged files.
    """
    manifest = load_or_scan_manifest(Path(job.data.path))
    if manifest.digest != run.data_digest():
        raise JobError(f"{job.data.path}: holds other data than the run was trained on; give their folder: data.path=")
    split = next((split for split in ("val", "test") if (run.predictions / f"{split}.csv").is_file()), None)
    if split is None:
        raise JobError(f"{run.path}: has no predictions yet; `fer-ddp evaluate {run.path}` makes them")
    predictions = read_predictions(run.predictions / f"{split}.csv")
    dataset = FERDataset(job.data.path, split, manifest=manifest)
    if list(predictions.keys) != list(dataset.keys):
        raise JobError(f"{run.path}: its predictions are of other samples; `fer-ddp evaluate {run.path}` repeats them")
    trained = load_trained_model(run, job, device)
    subject = f"{job.name}, seed {job.seed}"
    written, notes = list[Path](), list[str]()
    for name, figure in (
        ("grad_cam", _grad_cam(trained, job, dataset.images, predictions, subject, split)),
        ("calibration", _calibration(predictions, subject, split)),
        ("embedding", _embedding(trained, job, dataset.images, predictions, subject, split)),
    ):
        if figure is None:
            notes.append(f"{name}: {job.model.name} has no convolution whose maps could be shown")
            continue
        path = run.figures / f"{name}_{split}.png"
        save_figure(figure, path)
        written.append(path)
    return tuple(written), tuple(notes)


def _inputs(trained: TrainedModel, job: Job, images: Tensor) -> Tensor:
    """uint8 images as the model takes them, in float32, or float64 where the run computes in it."""
    device = next(trained.model.parameters()).device
    mean, std = normalization(job.data, device, compute_dtype(job.precision))
    return to_memory_format(normalize(to_unit_range(images.to(device), mean.dtype), mean, std), job.memory_format)


def _grad_cam(
    trained: TrainedModel, job: Job, images: Tensor, predictions: Predictions, subject: str, split: str
) -> "Figure | None":
    labels, predicted = predictions.labels, predictions.predicted
    probabilities = predictions.probabilities.max(axis=1)
    counts = np.bincount(labels, minlength=len(predictions.class_names))
    shown = sorted(np.argsort(-counts, kind="stable")[:_MAX_ROWS].tolist())
    order = np.random.default_rng(0).permutation(len(labels))
    chosen: list[list[int | None]] = []
    for label in shown:
        members = order[labels[order] == label]
        row: list[int | None] = []
        for group in (members[predicted[members] == label], members[predicted[members] != label]):
            row += [*group[:_PER_ROW].tolist(), *[None] * max(0, _PER_ROW - len(group))]
        chosen.append(row)
    indices = [index for row in chosen for index in row if index is not None]
    heat = grad_cam(trained.model, _inputs(trained, job, images[indices]), torch.from_numpy(predicted[indices]))
    if heat is None:
        return None
    of_sample = dict(zip(indices, heat, strict=True))

    def cell(index: int | None) -> Cell | None:
        if index is None:
            return None
        certain = percent(float(probabilities[index]), 0)
        mistaken = predicted[index] != labels[index]
        caption = f"{shortened(predictions.class_names[predicted[index]], 11)} {certain}" if mistaken else certain
        return Cell(image=images[index].numpy(), caption=caption, heat=of_sample[index])

    rows = [
        Row(label=predictions.class_names[label], cells=[cell(index) for index in row])
        for label, row in zip(shown, chosen, strict=True)
    ]
    return plot_image_grid(
        rows,
        f"where in {split} images it sees the class that it predicts",
        "Grad-CAM: bright where the predicted class's evidence is. A row a true class; random images, with what was "
        "predicted and its probability.",
        subject=subject,
        columns=["correct", *[""] * (_PER_ROW - 1), "mistaken for"],
    )


def _calibration(predictions: Predictions, subject: str, split: str) -> "Figure":
    """The temperature of each half is fitted on the other: on the samples that it is shown for it would flatter."""
    labels, probabilities = predictions.labels, predictions.probabilities
    half = np.random.default_rng(0).permutation(len(labels)) % 2 == 0
    tempered, temperatures = np.empty(probabilities.shape), []
    for shown, fitted in ((half, ~half), (~half, half)):
        temperature = fit_temperature(labels[fitted], probabilities[fitted]) if fitted.any() else 1.0
        temperatures.append(temperature)
        tempered[shown] = apply_temperature(probabilities[shown], temperature)
    return plot_reliability(
        reliability(labels, probabilities),
        reliability(labels, tempered),
        temperature=" and ".join(f"{temperature:.2f}" for temperature in temperatures),
        fitted_on=f"Each half of {split} has the one fitted on the other half.",
        subject=subject,
        split=split,
    )


def _embedding(
    trained: TrainedModel, job: Job, images: Tensor, predictions: Predictions, subject: str, split: str
) -> "Figure | None":
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors

    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[:_MAX_POINTS])
    features = penultimate_features(trained.model, _inputs(trained, job, images[chosen]))
    labels, dimensions = predictions.labels[chosen], features.shape[1]
    neighbours = min(_NEIGHBOURS, len(chosen) - 1)
    if neighbours < 1:
        return None
    nearest = NearestNeighbors(n_neighbors=neighbours).fit(features).kneighbors(return_distance=False)
    components = min(_COMPONENTS, dimensions, len(chosen))
    reduced = PCA(components, random_state=0).fit_transform(features) if dimensions > components else features
    tsne = TSNE(perplexity=min(30.0, (len(chosen) - 1) / 3), init="pca", max_iter=500, random_state=0, n_jobs=1)
    return plot_embedding(
        tsne.fit_transform(reduced),
        labels,
        predictions.class_names,
        neighbours_alike=float((labels[nearest] == labels[:, None]).mean()),
        neighbours=neighbours,
        dimensions=dimensions,
        subject=subject,
        split=split,
    )
