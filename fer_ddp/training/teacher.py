"""A teacher's probabilities of the training images: computed or read once, then kept in the run folder."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_ddp.config.job import Job
from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset, open_split
from fer_ddp.data.stream import StreamedSplit
from fer_ddp.errors import JobError, RunError
from fer_ddp.evaluation.class_mapping import InChannels
from fer_ddp.evaluation.evaluator import Evaluator
from fer_ddp.evaluation.trained_model import load_trained_model
from fer_ddp.metrics.averaging import mean_probabilities
from fer_ddp.metrics.calibration import apply_temperature
from fer_ddp.precision import final_precision
from fer_ddp.runs.files import SCHEMA_VERSION, read_json, selected_checkpoint, write_run_json
from fer_ddp.runs.finished import MEMBERS_FILE, member_paths, read_members
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.predictions import read_predictions, write_predictions
from fer_ddp.text import plural
from shards.files import sha256_of
from shards.labels import class_meaning
from shards.manifest import Manifest

PROBABILITIES, SOURCES = "teacher.csv", "teacher.json"
"""In the run folder: the probabilities of each training sample, and, written last, the files they are of, with digests
of all."""

Split = FERDataset | StreamedSplit


def check_teachers(job: Job) -> None:
    """Raises JobError for a path in ``distillation.teacher`` that is neither a run, an ensemble nor a CSV."""
    for path in map(Path, job.distillation.teacher):
        is_csv = path.suffix == ".csv" and path.is_file()
        if not is_csv and not any((path / name).is_file() for name in ("config.yaml", MEMBERS_FILE)):
            raise JobError(
                f"distillation.teacher: {path} is not a run, an ensemble or a CSV of predictions; give one such as "
                f"runs/smoke-seed0 or runs/smoke-seed0/predictions/val.csv"
            )


def teacher_table(job: Job, dataset: Split, device: torch.device) -> Tensor:
    """The teacher's probabilities of ``dataset``, the training split: float64 (samples, classes).

    From the run folder, or computed where it has none. Raises as `compute_teacher` does.
    """
    kept, record = Path(job.run) / PROBABILITIES, Path(job.run) / SOURCES
    if not record.exists():
        return torch.from_numpy(compute_teacher(job, dataset, device))
    if not kept.exists() or sha256_of(kept) != read_json(record).get("sha256"):
        raise RunError(f"{kept}: is not what {record} records; remove both to have them made again from the teacher")
    predictions = read_predictions(kept, as_float64=True)
    return torch.from_numpy(np.asarray(predictions.probabilities, np.float64))


def compute_teacher(
    job: Job, dataset: Split, device: torch.device, between_batches: Callable[[], None] = lambda: None
) -> NDArray[np.float64]:
    """What ``distillation.teacher`` predicts for each sample of ``dataset``: (samples, classes).

    A run predicts with the weights that it selected, each image as it is. A sample's probabilities are the mean of
    those teachers that have it. Raises JobError for teachers of other classes, or that leave out a sample; RunError for
    damaged ones.
    """
    check_teachers(job)
    total = np.zeros((len(dataset.keys), len(dataset.class_names)))
    count = np.zeros(len(dataset.keys), np.int64)
    for path in map(Path, job.distillation.teacher):
        if path.suffix == ".csv":
            indices, probabilities = _from_file(path, dataset)
        elif (path / MEMBERS_FILE).is_file():
            recorded = read_members(path)
            members = member_paths(path, recorded)
            mean = mean_probabilities([_of_run(member, job, dataset, device, between_batches) for member in members])
            temperature = recorded.get("temperature")
            probabilities = mean if temperature is None else apply_temperature(mean, temperature)
            indices = np.arange(len(dataset.keys))
        else:
            indices, probabilities = np.arange(len(dataset.keys)), _of_run(path, job, dataset, device, between_batches)
        total[indices] += probabilities
        count[indices] += 1
    missing = np.flatnonzero(count == 0)
    if len(missing):
        raise JobError(
            f"distillation.teacher: has no probabilities of {plural(len(missing), 'training image')}, such as "
            f"{dataset.keys[missing[0]]}; add the files that hold them"
        )
    return np.asarray(total / count[:, None])


@contextmanager
def teacher_kept(
    run: RunFolder, job: Job, manifest: Manifest, device: torch.device, between_batches: Callable[[], None]
) -> Iterator[None]:
    """Compute the probabilities unless ``run`` has them or needs none; write them after what is done inside.

    So that a folder whose teacher is refused has not become a run. Raises as `compute_teacher` does, before.
    """
    if not job.distillation.teacher or (run.path / SOURCES).exists():
        yield
        return
    dataset = open_split(job.data, "train", device, manifest)
    probabilities = compute_teacher(job, dataset, device, between_batches)
    yield
    kept, labels = run.path / PROBABILITIES, dataset.labels.numpy()
    write_predictions(kept, dataset.keys, labels, probabilities, dataset.class_names)
    sources = [{"path": str(file), "sha256": sha256_of(file)} for file in _files(job)]
    record = {"schema_version": SCHEMA_VERSION, "sha256": sha256_of(kept), "sources": sources}
    write_run_json(run.path / SOURCES, record)


def _files(job: Job) -> list[Path]:
    """The checkpoints and CSVs of the teachers."""
    files = []
    for path in map(Path, job.distillation.teacher):
        recorded = read_members(path)
        for run in member_paths(path, recorded) if recorded else [path]:
            is_run = run.suffix != ".csv"
            files.append(selected_checkpoint(run, load_job(run / "config.yaml", []).select) if is_run else run)
    return files


def _of_run(
    path: Path, student: Job, dataset: Split, device: torch.device, between_batches: Callable[[], None]
) -> NDArray[np.floating[Any]]:
    """(samples, classes): what the run predicts for the images that the student learns."""
    job = load_job(path / "config.yaml", [])
    trained = load_trained_model(RunFolder(path), job, device)
    trained.check_data(dataset.manifest, student.data.path)
    evaluator = Evaluator.of(job.data, final_precision(job.precision), job.memory_format, device)
    images = InChannels(images=dataset.images, channels=trained.image_shape[0])
    print(f"distillation.teacher: {path} predicts {plural(len(dataset.keys), 'training image')}", flush=True)
    probabilities = evaluator.probabilities(trained.model, images, between_batches)
    return _in_order(probabilities, trained.class_names, dataset.class_names, path)


def _from_file(path: Path, dataset: Split) -> tuple[NDArray[np.int64], NDArray[np.floating[Any]]]:
    """(indices in the split, probabilities) of those rows of a CSV whose keys the split has."""
    predictions = read_predictions(path, as_float64=True)
    place = {key: index for index, key in enumerate(dataset.keys)}
    rows = [row for row, key in enumerate(predictions.keys) if key in place]
    repeated = next((key for key, times in Counter(predictions.keys[row] for row in rows).items() if times > 1), None)
    if repeated is not None:
        raise JobError(f"distillation.teacher: {path} has two rows for {repeated}; each image has one row in a file")
    probabilities = _in_order(predictions.probabilities, predictions.class_names, dataset.class_names, path)
    return np.array([place[predictions.keys[row]] for row in rows], np.int64), probabilities[rows]


def _in_order(
    probabilities: NDArray[np.floating[Any]], names: Sequence[str], wanted: Sequence[str], path: Path
) -> NDArray[np.floating[Any]]:
    """The columns of classes ``names`` in the order of the classes ``wanted``, which are the same."""
    meanings, right = ([class_meaning(name) for name in each] for each in (names, wanted))
    if len(set(right)) < len(right):  # happy beside happiness: only the names themselves tell them apart
        meanings, right = list(names), list(wanted)
    if sorted(meanings) != sorted(right):
        raise JobError(
            f"distillation.teacher: {path} has the classes {', '.join(names)}; the data have {', '.join(wanted)}; a "
            f"teacher needs the same classes"
        )
    return probabilities[:, [meanings.index(meaning) for meaning in right]]
