"""Run folders as training leaves them, with predictions that a test makes up."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ddp.metrics.classification import classification_metrics
from fer_ddp.runs.predictions import write_predictions
from fer_ddp.yaml_io import to_yaml
from shards.files import atomic_write_bytes, write_json

CLASSES = ("calm", "glad")
DIGEST = "4285c24d" * 8


def hits(count: int, total: int = 200, shift: int = 0) -> NDArray[np.bool_]:
    """(total,): True for ``count`` samples, from the ``shift``-th on, wrapping around."""
    return np.roll(np.arange(total) < count, shift)


def labels_of(total: int = 200, classes: int = 2) -> NDArray[np.int64]:
    """(total,): 0, 1, 0, 1, ..."""
    return np.arange(total) % classes


def predicted(labels: NDArray[np.integer[Any]], correct: NDArray[np.bool_], classes: int = 2) -> NDArray[np.float64]:
    """Probabilities (n, classes), 0.9 for the label where ``correct``, else for the class after it."""
    classes_predicted = np.where(correct, labels, (labels + 1) % classes)
    probabilities = np.full((len(labels), classes), 0.1 / (classes - 1))
    probabilities[np.arange(len(labels)), classes_predicted] = 0.9
    return probabilities


def write_run(
    folder: Path,
    splits: Mapping[str, tuple[NDArray[np.integer[Any]], NDArray[np.floating[Any]]]],
    *,
    name: str = "baseline",
    seed: int = 0,
    classes: Sequence[str] = CLASSES,
    digest: str = DIGEST,
    data: str = "data/gone",
    keys: Mapping[str, Sequence[str]] | None = None,
    job: Mapping[str, Any] | None = None,
    val_curve: Sequence[float] = (0.5, 0.6),
    state: str = "finished",
) -> Path:
    """Write a run that gave ``splits``' (labels, probabilities), keys SPLIT-0, SPLIT-1, ...; returns ``folder``.

    Its data folder does not exist unless ``data`` is one whose digest is ``digest``.
    """
    model = {"name": "plain_cnn", "arguments": {"channels": [4, 8], "hidden": 16}}
    whole = {"name": name, "run": str(folder), "seed": seed, "select": "best_val", "data": {"path": data}}
    whole |= {"precision": "float32", "memory_format": "contiguous", "model": model, **(job or {})}
    folder.mkdir(parents=True)
    atomic_write_bytes(folder / "config.yaml", to_yaml(whole).encode())
    summary: dict[str, Any] = {"job": name, "seed": seed, "steps": 20, "epochs": 2, "class_names": list(classes)}
    for split, (labels, probabilities) in splits.items():
        names = keys[split] if keys else [f"{split}-{index}" for index in range(len(labels))]
        write_predictions(folder / "predictions" / f"{split}.csv", names, labels, probabilities, classes)
        summary[split] = classification_metrics(labels, probabilities, classes)
        del summary[split]["confusion"]
    if state == "finished":
        write_json(folder / "summary.json", summary)
    write_json(folder / "status.json", {"state": state, "epoch": 2, "step": 20})
    write_json(
        folder / "environment.json",
        {
            "command": ["__main__.py", "train", "jobs/baseline.yaml"],
            "code": {"commit": "0123456789abcdef", "sha256": "0"},
            "python": "3.11.7",
            "versions": {"torch": "2.14.1"},
            "device": "a processor",
            "threads": 1,
            "world_size": 1,
            "data_digest": digest,
        },
    )
    metrics, timing = [], []
    for epoch, accuracy in enumerate(val_curve, start=1):
        measures = {"loss": 2 - accuracy, "accuracy": accuracy}
        metrics.append({"epoch": epoch, "step": 10 * epoch, "lr": 0.1, "train": measures, "val": measures})
        timing.append({"epoch": epoch, "seconds": 5.0, "train_seconds": 4.0, "images_per_second": 60.0})
    for file, lines in (("metrics.jsonl", metrics), ("timing.jsonl", timing)):
        (folder / file).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
