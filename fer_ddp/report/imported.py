"""``fer-ddp import-predictions``: another model's predictions as a folder that ``report`` takes like a finished run."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ddp.errors import JobError, RunError
from fer_ddp.hardware import processor_name
from fer_ddp.metrics.classification import classification_metrics, summary_lines
from fer_ddp.report.imported_classes import LABELS_ONLY, ClassesOfFile
from fer_ddp.report.imported_csv import read_csv
from fer_ddp.report.imported_onnx import InputDescription, run_onnx
from fer_ddp.runs.environment import write_environment
from fer_ddp.runs.files import IMPORTED_FILE, PREDICTIONS_SHA256, SCHEMA_VERSION, SPLITS, read_json, write_run_json
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.predictions import write_predictions
from shards.files import read_regular
from shards.manifest import Manifest
from shards.parallel import usable_cpus
from shards.reading.reader import read_shards
from shards.reading.scan import load_or_scan_manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where predictions come from; the report shows it."""

    source: str | None = None
    """The address of the model, its code or its paper."""
    selection: str | None = None
    """How its weights and settings were chosen, and on which data."""
    note: str | None = None
    """Whatever else one should know."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """What `import_predictions` made."""

    folder: Path
    summary: dict[str, Any]
    """As in ``summary.json``."""
    assumptions: tuple[str, ...]
    """How the file was read and, for a model, what it was given."""

    def text(self) -> str:
        """For a terminal."""
        lines = [*self.assumptions, *summary_lines(self.summary)]
        if not self.summary["probabilities"]:
            lines.append(LABELS_ONLY)
        return "\n".join([*lines, f"look at {self.folder}/summary.json; `fer-ddp report {self.folder}` takes it"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """A split's keys and labels, n of each, in its order."""

    keys: list[str]
    labels: NDArray[np.int64]


def import_predictions(
    file: Path,
    data: Path,
    name: str,
    *,
    splits: Sequence[str] = (),
    run: Path | None = None,
    seed: int | None = None,
    origin: Origin | None = None,
    classes: ClassesOfFile | None = None,
    logits: bool = False,
    input_description: InputDescription | None = None,
) -> Imported:
    """Write the predictions of ``file`` for the data set in ``data`` into the folder ``run``, by default runs/NAME.

    file: a CSV with a row a sample (:func:`fer_ddp.report.imported_csv.read_csv`), or an ONNX model, which is run here.
    splits: those of val and test that it covers; all that the data have if empty. seed: of one of several runs of the
    same model, which the report then takes as one recipe. logits: the file holds logits, of which the softmax is taken.

    Raises JobError for a wrong option or a folder that holds something else, DataError for damaged data, RunError for a
    file that can't be read, whose samples are not those of the data, or that holds no probabilities.
    """
    out = run or Path("runs") / name
    manifest = load_or_scan_manifest(data)
    chosen = _splits(splits, manifest, data)
    classes, origin = classes or ClassesOfFile(), origin or Origin()
    is_model = file.suffix.lower() == ".onnx"
    if not is_model and input_description is not None and input_description != InputDescription():
        raise JobError(f"{file}: is not an .onnx file, so options that describe a model's input have no meaning")
    try:
        digest = hashlib.sha256(read_regular(file)).hexdigest()
    except OSError as error:
        raise RunError(f"{file}: cannot be read: {error.strerror}") from error
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "seed": seed,
        "file": str(file),
        "file_sha256": digest,
        "data": {"path": str(data), "digest": manifest.digest, "splits": list(chosen)},
        **asdict(origin),
    }
    _check_folder(out, record)
    samples = {split: _samples(data, split, manifest) for split in chosen}
    if is_model:
        found = run_onnx(file, data, manifest, chosen, classes, logits, input_description or InputDescription())
    else:
        found = read_csv(
            file,
            {split: each.keys for split, each in samples.items()},
            {split: each.labels for split, each in samples.items()},
            manifest.class_names,
            classes,
            logits,
        )
    record |= {"labels_only": found.labels_only, "assumptions": list(found.assumptions)}
    summary: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "job": name,
        "selected": origin.selection or "not stated",
        "probabilities": not found.labels_only,
        "class_names": list(manifest.class_names),
    }
    if seed is not None:
        summary["seed"] = seed
    try:
        (out / "predictions").mkdir(parents=True, exist_ok=True)
        write_run_json(out / IMPORTED_FILE, record)
    except OSError as error:
        raise RunError(f"{out}: cannot be written: {error.strerror}") from error
    for split, each in samples.items():
        probabilities = found.probabilities[split]
        metrics: dict[str, Any] = dict(classification_metrics(each.labels, probabilities, manifest.class_names))
        del metrics["confusion"]
        if found.labels_only:
            del metrics["loss"]
        summary[split] = metrics
        metrics[PREDICTIONS_SHA256] = write_predictions(
            out / "predictions" / f"{split}.csv",
            each.keys,
            each.labels,
            probabilities,
            manifest.class_names,
            labels_only=found.labels_only,
        )
    write_run_json(out / "summary.json", summary)
    packages = ("numpy", "onnxruntime") if is_model else ("numpy",)
    write_environment(out, manifest.digest, packages, device=processor_name() if is_model else "not known")
    RunFolder(out).write_status("finished")
    return Imported(folder=out, summary=summary, assumptions=found.assumptions)


def _splits(given: Sequence[str], manifest: Manifest, data: Path) -> tuple[str, ...]:
    there = [split for split in SPLITS if split in manifest.splits]
    absent = next((split for split in given if split not in there), None)
    if absent is not None or not there:
        raise JobError(
            f"--split {absent or 'val'}: {data} has {' and '.join(there) or 'neither val nor test'}; predictions are "
            "imported for those"
        )
    return tuple(split for split in there if not given or split in given)


def _samples(data: Path, split: str, manifest: Manifest) -> Samples:
    parts = list(read_shards(data, split, manifest, usable_cpus(), None))
    return Samples(
        keys=[key for part in parts for key in part.keys], labels=np.concatenate([part.labels for part in parts])
    )


def _check_folder(out: Path, record: Mapping[str, Any]) -> None:
    """Raises JobError if ``out`` holds anything but an import of the same name, file and data."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    earlier = read_json(out / IMPORTED_FILE) if out.is_dir() else {}
    if not earlier:
        raise JobError(f"{out}: is not empty and holds no imported predictions; choose another --run")
    same = ("name", "seed", "file_sha256", "data")
    if any(earlier.get(key) != record[key] for key in same):
        raise JobError(f"{out}: holds predictions of another file, name, seed or data set; choose another --run")
