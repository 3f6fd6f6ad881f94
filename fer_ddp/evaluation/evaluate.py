"""The results of a run: its selected weights evaluated on val and test, as files and figures."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fer_ddp.config.job import Job
from fer_ddp.data.dataset import open_split
from fer_ddp.errors import JobError, RunError
from fer_ddp.evaluation.class_mapping import ClassOptions, InChannels, SelectedImages, map_to_model
from fer_ddp.evaluation.evaluator import Evaluator
from fer_ddp.evaluation.trained_model import load_trained_model
from fer_ddp.figures.confusion_matrix import plot_confusion_matrix
from fer_ddp.figures.learning_curves import plot_learning_curves
from fer_ddp.figures.per_class import plot_per_class
from fer_ddp.figures.style import save_figure
from fer_ddp.figures.worst_errors import plot_worst_errors
from fer_ddp.metrics.classification import ClassificationMetrics, classification_metrics, summary_lines
from fer_ddp.precision import final_precision
from fer_ddp.runs.files import PREDICTIONS_SHA256, SCHEMA_VERSION, lines_of_run, write_run_json
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.predictions import write_predictions
from shards.files import FileLock
from shards.manifest import FILE_NAME, Manifest
from shards.reading.scan import load_or_scan_manifest

EVALUATE_LOCK = ".evaluate.lock"
"""In the folder that an evaluation writes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """What `evaluate_run` returns."""

    summary: dict[str, Any]
    """As in ``summary.json``."""
    folder: Path
    """Where ``summary.json``, ``predictions/`` and ``figures/`` are."""
    notes: tuple[str, ...] = ()
    """How the classes and images of other data became the model's."""

    def text(self) -> str:
        """A few lines for the terminal: the metrics, and which files to look at."""
        look = f"look at {self.folder}/figures/*.png, {self.folder}/summary.json, {self.folder}/predictions/*.csv"
        views = self.summary.get("views", 1)
        stated = [f"probabilities are the mean over {views} views of each image"] if views > 1 else []
        return "\n".join([*self.notes, *summary_lines(self.summary), *stated, look])


def evaluate_run(
    run: RunFolder,
    job: Job,
    device: torch.device,
    world_size: int,
    between_batches: Callable[[], None] = lambda: None,
    manifest: Manifest | None = None,
    class_options: ClassOptions | None = None,
    out: Path | None = None,
) -> Results:
    """Evaluate the run's selected weights on the val and test splits of ``job.data.path``.

    Writes ``summary.json``, ``predictions/`` and ``figures/`` into the folder ``out``. Without it that is the run's,
    or, for other data than it was trained on or with ``class_options``, ``evaluations/NAME/`` there. Classes of other
    data are mapped by name, and RGB and grey images of the right size are converted to what the model takes. Raises as
    `load_trained_model` and `map_to_model` do, and JobError for images of another size than the model's, data without
    val and test, or a folder that cannot be written to.
    """
    manifest = manifest or load_or_scan_manifest(Path(job.data.path))
    class_options = class_options or ClassOptions()
    trained = load_trained_model(run, job, device)
    trained.check_data(manifest, job.data.path)
    evaluator = Evaluator.of(job.data, final_precision(job.precision), job.memory_format, device, job.views)
    splits = [split for split in ("val", "test") if split in manifest.splits]
    mapping = map_to_model(manifest, job.data.path, trained.class_names, class_options, splits)
    is_its_own = run.data_digest() == manifest.digest and class_options == ClassOptions()
    folder = out or (run.path if is_its_own else run.path / "evaluations" / _name(manifest, class_options))
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
    if job.views.count > 1:
        summary["views"] = job.views.count
    notes: list[str] = []
    if not is_its_own:
        if not splits:
            raise JobError(
                f"{job.data.path}: has no val and no test to evaluate on; pack the source again with --test-fraction 1"
            )
        notes = mapping.lines({split: manifest.splits[split].class_counts for split in splits})
        trained_on, saved = run.data_digest(), run.saved_config() or {}
        if trained_on not in (None, manifest.digest) and saved["data"]["path"] == job.data.path:
            notes.append(
                f"{Path(job.data.path, FILE_NAME)} has another digest than when the run was trained on these data "
                f"({trained_on[:12]} -> {manifest.digest[:12]}), so they are taken as other data"
            )
        if manifest.image_shape != trained.image_shape:
            notes.append(
                "its RGB images were made grey" if trained.image_shape[0] == 1 else "its grey images were made RGB"
            )
        summary["data"] = {
            "path": job.data.path,
            "digest": manifest.digest,
            "classes": dict(zip(mapping.data_classes, mapping.becomes, strict=True)),
            "notes": notes,
        }
    if not run.path.is_dir():  # else it would be made again, without the run
        raise RunError(f"{run.path}: was removed while it was evaluated")
    try:
        (folder / "predictions").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(f"{folder}: cannot be made ({error.strerror}); choose another place with --out") from None
    if not os.access(folder / "predictions", os.W_OK):
        raise JobError(f"{folder}: cannot be written to; choose another place with --out")
    with _turn(folder, between_batches):
        subject = f"{job.name}, seed {job.seed}"
        for split in splits:
            dataset = open_split(job.data, split, device, manifest)
            images = InChannels(images=dataset.images, channels=trained.image_shape[0])
            probabilities = evaluator.probabilities(trained.model, images, between_batches)
            labels = mapping.labels[dataset.labels.numpy()]
            chosen = np.flatnonzero(labels >= 0)
            samples = _Samples(
                keys=[dataset.keys[index] for index in chosen],
                images=SelectedImages(images=dataset.images.numpy(), indices=chosen),
                labels=labels[chosen],
                probabilities=probabilities[chosen],
                class_names=trained.class_names,
            )
            metrics = classification_metrics(samples.labels, samples.probabilities, samples.class_names)
            summary[split] = {key: value for key, value in metrics.items() if key != "confusion"}
            summary[split][PREDICTIONS_SHA256] = write_predictions(
                folder / "predictions" / f"{split}.csv",
                samples.keys,
                samples.labels,
                samples.probabilities,
                samples.class_names,
            )
            _draw(folder / "figures", subject, split, samples, metrics, between_batches)
        curves = plot_learning_curves(lines_of_run(run.path, "metrics.jsonl"), subject=subject)
        save_figure(curves, folder / "figures" / "curves.png")
        write_run_json(folder / "summary.json", summary)
    return Results(summary=summary, folder=folder, notes=tuple(notes))


@contextmanager
def _turn(folder: Path, while_waiting: Callable[[], None]) -> Iterator[None]:
    """Inside, no other evaluation writes into ``folder``: of two the later one's files remain, not some of each."""
    is_told = False

    def tell() -> None:
        nonlocal is_told
        if not is_told:
            print(f"{folder}: another evaluation writes there; waiting until it has ended", flush=True)
        is_told = True
        while_waiting()

    with FileLock(folder / EVALUATE_LOCK, while_waiting=tell):
        yield


def _name(manifest: Manifest, options: ClassOptions) -> str:
    """The folder of an evaluation: its data's digest, and one of the options where there are any."""
    name = manifest.digest[:12]
    if options == ClassOptions():
        return name
    return f"{name}-{hashlib.sha256(repr((options.merge, options.drop)).encode()).hexdigest()[:6]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Samples:
    """The evaluated samples of a split, in the model's classes."""

    keys: list[str]
    images: SelectedImages
    labels: NDArray[np.int64]
    """(samples,)."""
    probabilities: NDArray[np.floating[Any]]
    """(samples, classes)."""
    class_names: tuple[str, ...]


def _draw(
    folder: Path,
    subject: str,
    split: str,
    samples: _Samples,
    metrics: ClassificationMetrics,
    between: Callable[[], None],
) -> None:
    sheet = plot_worst_errors(
        samples.images,
        samples.labels,
        samples.probabilities.argmax(axis=1),
        samples.probabilities.max(axis=1),
        samples.class_names,
        keys=samples.keys,
        subject=subject,
        split=split,
    )
    drawings = {
        "confusion": plot_confusion_matrix(metrics["confusion"], samples.class_names, subject=subject, split=split),
        "per_class": plot_per_class(metrics["per_class"], subject=subject, split=split),
        "worst_errors": sheet,
    }
    for name, figure in drawings.items():
        save_figure(figure, folder / f"{name}_{split}.png")
        between()
