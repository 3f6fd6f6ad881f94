"""The runs' data set, if it is accessible: its manifest, FER+ votes and images."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer_ddp.errors import JobError
from fer_ddp.evaluation.sheets import SHEETS
from fer_ddp.metrics.averaging import mean_probabilities
from fer_ddp.report.collect import Recipe, ReportRuns
from shards.errors import DataError
from shards.files import read_regular
from shards.manifest import Manifest
from shards.png import encode_pngs
from shards.reading.reader import read_split
from shards.reading.scan import load_or_scan_manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFolder:
    """A folder whose digest is the runs'."""

    path: Path
    manifest: Manifest


def find_data(collected: ReportRuns) -> tuple[DataFolder | None, str]:
    """The runs' data folder, if it exists with the same content; else None and a sentence that gives the reason."""
    paths = dict.fromkeys(str((run.job or run.imported).get("data", {}).get("path", "")) for run in collected.runs)
    reasons = []
    for path in filter(None, paths):
        try:
            manifest = load_or_scan_manifest(Path(path))
        except (DataError, OSError) as error:
            reasons.append(str(error).rstrip("."))
            continue
        if manifest.digest == collected.data_digest:
            return DataFolder(path=Path(path), manifest=manifest), ""
        reasons.append(f"{path}: holds other data now (digest {manifest.digest[:12]})")
    return None, f"The data are not accessible ({'; '.join(reasons) or 'the runs name no folder'})."


def find_sheets(recipes: Sequence[Recipe]) -> dict[str, list[tuple[str, str]]]:
    """By recipe, (what it shows, its ``data:`` address) of each sheet in its first run's ``figures/``.

    Raises JobError if no recipe has one.
    """
    found = {
        recipe.name: [
            (path.stem.replace("_", " "), f"data:image/png;base64,{base64.b64encode(read_regular(path)).decode()}")
            for name in SHEETS
            for path in sorted((recipe.runs[0].path / "figures").glob(f"{name}_*.png"))
        ]
        for recipe in recipes
    }
    if not any(found.values()):
        raise JobError(f"--figures: there are none yet; `fer-ddp figures {recipes[0].runs[0].path}` draws them")
    return found


_MAX_MISTAKES = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """A misclassified sample."""

    picture: str
    """A ``data:`` address that holds a PNG."""
    key: str
    label: str
    predicted: str
    probability: float | None
    """Of what was predicted, mean over seeds; None where only the predicted classes are known."""


def worst_mistakes(data: DataFolder, recipe: Recipe, split: str) -> list[Mistake]:
    """The mistakes of a recipe's mean over seeds, the most confident first. Raises DataError for damaged shards."""
    first = recipe.predictions[split][0]
    probabilities = mean_probabilities([each.probabilities for each in recipe.predictions[split]])
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != first.labels)
    chosen = wrong[np.argsort(-probabilities.max(axis=1)[wrong], kind="stable")][:_MAX_MISTAKES]
    decoded = read_split(data.path, split, manifest=data.manifest)
    places = {key: place for place, key in enumerate(decoded.keys)}
    pngs = encode_pngs(decoded.images[[places[first.keys[sample]] for sample in chosen]]) if len(chosen) else []
    return [
        Mistake(
            picture=f"data:image/png;base64,{base64.b64encode(png).decode()}",
            key=first.keys[sample],
            label=first.class_names[first.labels[sample]],
            predicted=first.class_names[predicted[sample]],
            probability=None if recipe.labels_only else float(probabilities[sample].max()),
        )
        for sample, png in zip(chosen, pngs, strict=True)
    ]
