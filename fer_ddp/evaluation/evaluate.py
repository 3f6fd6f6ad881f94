"""The results of a run: its selected weights evaluated on val and test, as files and figures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fer_ddp.config.job import Job
from fer_ddp.data.dataset import FERDataset, open_split
from fer_ddp.data.stream import StreamedSplit
from fer_ddp.evaluation.evaluator import Evaluator
from fer_ddp.evaluation.trained_model import load_trained_model
from fer_ddp.figures.confusion_matrix import plot_confusion_matrix
from fer_ddp.figures.learning_curves import plot_learning_curves
from fer_ddp.figures.per_class import plot_per_class
from fer_ddp.figures.style import save_figure
from fer_ddp.figures.worst_errors import plot_worst_errors
from fer_ddp.metrics.classification import ClassificationMetrics, classification_metrics, summary_lines
from fer_ddp.runs.files import SCHEMA_VERSION
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.predictions import write_predictions
from shards.files import write_json
from shards.manifest import Manifest
from shards.reading.scan import load_or_scan_manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """What `evaluate_run` returns."""

    summary: dict[str, Any]
    """As in ``summary.json``."""
    folder: Path
    """Where ``summary.json``, ``predictions/`` and ``figures/`` are."""

    def text(self) -> str:
        """A few lines for the terminal: the metrics, and which files to look at."""
        look = f"look at {self.folder}/figures/*.png, {self.folder}/summary.json, {self.folder}/predictions/*.csv"
        return "\n".join([*summary_lines(self.summary), look])


def evaluate_run(
    run: RunFolder,
    job: Job,
    device: torch.device,
    world_size: int,
    between_batches: Callable[[], None] = lambda: None,
    manifest: Manifest | None = None,
) -> Results:
    """Evaluate the run's selected weights on the val and test splits of ``job.data.path``.

    Writes ``summary.json``, ``predictions/`` and ``figures/`` into the run folder, or, for other data than it was
    trained on, into ``evaluations/DIGEST/`` there. Raises as `load_trained_model` does,
    and JobError for data with other classes or image shapes than the model's.
    """
    manifest = manifest or load_or_scan_manifest(Path(job.data.path))
    trained = load_trained_model(run, job, device)
    trained.check_data(manifest, job.data.path)
    evaluator = Evaluator.of(job.data, job.precision, job.memory_format, device)
    trained_on_these = run.data_digest() == manifest.digest
    folder = run.path if trained_on_these else run.path / "evaluations" / manifest.digest[:12]
    summary: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "job": job.name,
        "seed": job.seed,
        "world_size": world_size,
        "steps": trained.step,
        "selected": job.select,
        "epochs": trained.epoch,
        "class_names": list(trained.class_names),
    }
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    subject = f"{job.name}, seed {job.seed}"
    for split in (split for split in ("val", "test") if split in manifest.splits):
        dataset = open_split(job.data, split, device, manifest)
        probabilities = evaluator.probabilities(trained.model, dataset.images, between_batches)
        metrics = classification_metrics(dataset.labels.numpy(), probabilities, dataset.class_names)
        summary[split] = {key: value for key, value in metrics.items() if key != "confusion"}
        write_predictions(
            folder / "predictions" / f"{split}.csv",
            dataset.keys,
            dataset.labels.numpy(),
            probabilities,
            dataset.class_names,
        )
        _draw(folder / "figures", subject, split, dataset, probabilities, metrics)
    curves = plot_learning_curves(run.read_lines("metrics.jsonl"), subject=subject)
    save_figure(curves, folder / "figures" / "curves.png")
    write_json(folder / "summary.json", summary)
    return Results(summary=summary, folder=folder)


def _draw(
    folder: Path,
    subject: str,
    split: str,
    dataset: FERDataset | StreamedSplit,
    probabilities: NDArray[np.floating[Any]],
    metrics: ClassificationMetrics,
) -> None:
    labels, predicted = dataset.labels.numpy(), probabilities.argmax(axis=1)
    sheet = plot_worst_errors(
        dataset.images.numpy(),
        labels,
        predicted,
        probabilities.max(axis=1),
        dataset.class_names,
        keys=dataset.keys,
        subject=subject,
        split=split,
    )
    drawings = {
        "confusion": plot_confusion_matrix(metrics["confusion"], dataset.class_names, subject=subject, split=split),
        "per_class": plot_per_class(metrics["per_class"], subject=subject, split=split),
        "worst_errors": sheet,
    }
    for name, figure in drawings.items():
        save_figure(figure, folder / f"{name}_{split}.png")
