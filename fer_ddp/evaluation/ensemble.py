"""``fer-ddp ensemble``: the mean of several runs' predictions, in a folder that reads like a run's.

The members and the temperature are fixed and on disk before any test predictions are read. Nothing here selects
members.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fer_ddp.config.recipes import recipe_names
from fer_ddp.errors import JobError, RunError
from fer_ddp.metrics.averaging import mean_probabilities
from fer_ddp.metrics.calibration import apply_temperature, fit_temperature
from fer_ddp.metrics.classification import classification_metrics, summary_lines
from fer_ddp.runs.environment import write_environment
from fer_ddp.runs.files import PREDICTIONS_SHA256, SCHEMA_VERSION, read_json, write_run_json
from fer_ddp.runs.finished import MEMBERS_FILE, FinishedRun, find_runs, read_runs
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.predictions import Predictions, write_predictions
from shards.files import sha256_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Ensemble:
    """What `write_ensemble` made."""

    folder: Path
    members: int
    summary: dict[str, Any]
    """As in ``summary.json``, and in a run's."""

    def text(self) -> str:
        """A few lines for the terminal."""
        written = f"{self.members} members, recorded in {self.folder / MEMBERS_FILE} before test was read"
        return "\n".join([*summary_lines(self.summary), written])


def write_ensemble(runs: Sequence[Path], out: Path, *, temperature: bool = False) -> Ensemble:
    """Average the predictions of ``runs`` (run folders, or folders that hold some) and write them into ``out``.

    temperature: fit one on val for the mean. ``out`` gets ``members.json`` first, then ``predictions/``,
    ``summary.json``, ``environment.json`` and ``status.json`` as a run's folder has them.

    Raises JobError if a run is not finished or can't be averaged with the others, if there are fewer than two, or if
    ``out`` holds something else; RunError if predictions can't be read or written.
    """
    members = _members(runs)
    splits = members[0].splits
    if temperature and "val" not in splits:
        raise JobError(
            f"{members[0].path}: has no val predictions, on which a temperature is fitted; leave out --temperature"
        )
    val = _predictions(members, "val") if "val" in splits else []
    fitted = None
    if temperature:
        fitted = fit_temperature(val[0].labels, mean_probabilities([each.probabilities for each in val]))
    _write_members(out, members, fitted)

    summary: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "job": out.name,
        "members": len(members),
        "selected": "members given, nothing chosen",
        "class_names": list(members[0].class_names),
    }
    for split in splits:
        predictions = val if split == "val" else _predictions(members, split)
        first, probabilities = predictions[0], mean_probabilities([each.probabilities for each in predictions])
        if fitted is not None:
            probabilities = apply_temperature(probabilities, fitted)
        summary[split] = classification_metrics(first.labels, probabilities, first.class_names)
        del summary[split]["confusion"]
        path = out / "predictions" / f"{split}.csv"
        summary[split][PREDICTIONS_SHA256] = write_predictions(
            path, first.keys, first.labels, probabilities, first.class_names
        )
    write_run_json(out / "summary.json", summary)
    write_environment(out, members[0].data_digest, ("numpy", "scipy", "scikit-learn"))
    RunFolder(out).write_status("finished")
    return Ensemble(folder=out, members=len(members), summary=summary)


def _members(paths: Sequence[Path]) -> list[FinishedRun]:
    """The runs, if their predictions can be averaged."""
    members, left_out = read_runs(find_runs(paths))
    if left_out:
        raise JobError(f"{left_out[0].path} {left_out[0].reason}; an ensemble needs finished runs")
    ensembles = [run for run in members if run.members]
    if ensembles:
        raise JobError(f"{ensembles[0].path}: is an ensemble itself; give its members")
    if len(members) < 2:
        raise JobError(f"{members[0].path}: is a single run; an ensemble takes two or more")
    first = members[0]
    for run in members[1:]:
        if run.data_digest != first.data_digest:
            raise JobError(
                f"{run.path}: uses other data than {first.path} (digest {run.data_digest[:12]}, not "
                f"{first.data_digest[:12]}); an ensemble's members predict the same samples"
            )
        if run.class_names != first.class_names or run.splits != first.splits:
            raise JobError(
                f"{run.path}: has the classes {', '.join(run.class_names)} and predictions for {_and(run.splits)}; "
                f"{first.path} has {', '.join(first.class_names)} and {_and(first.splits)}; they must be the same"
            )
    return members


def _and(splits: tuple[str, ...]) -> str:
    return " and ".join(splits) or "nothing"


def _predictions(members: Sequence[FinishedRun], split: str) -> list[Predictions]:
    """The members' predictions for a split, all for the same samples."""
    predictions = [run.predictions(split) for run in members]
    first = predictions[0]
    for run, each in zip(members, predictions, strict=True):
        same = each.keys == first.keys and np.array_equal(each.labels, first.labels)
        if not same or each.class_names != first.class_names:
            raise JobError(
                f"{run.path}/predictions/{split}.csv: has other samples or labels than that of "
                f"{members[0].path}; an ensemble's members predict the same samples"
            )
    return predictions


def _write_members(out: Path, members: Sequence[FinishedRun], temperature: float | None) -> None:
    """Record the members, synced to disk. Raises JobError if ``out`` holds something else."""
    record = {
        "data_digest": members[0].data_digest,
        "weighting": "equal",
        "temperature": temperature,
        "members": [
            {
                "run": str(run.path),
                "recipe": name,
                "seed": run.seed,
                "weight": 1 / len(members),
                "config_sha256": _digest(run.path / "config.yaml"),
                # This fixes the member's test predictions too: the same weights gave both.
                "val_predictions_sha256": _digest(run.path / "predictions" / "val.csv"),
            }
            for run, name in zip(members, recipe_names(members), strict=True)
        ],
    }
    path = out / MEMBERS_FILE
    if path.exists():
        if read_json(path) != record:
            raise JobError(f"{out}: holds an ensemble of other members or settings; choose another --out")
        return
    if out.exists() and any(out.iterdir()):
        raise JobError(f"{out}: is not empty and holds no ensemble; choose another --out")
    try:
        (out / "predictions").mkdir(parents=True)
        write_run_json(path, record)
    except OSError as error:
        raise RunError(f"{out}: cannot be written: {error.strerror}") from error


def _digest(path: Path) -> str | None:
    return sha256_of(path) if path.exists() else None
