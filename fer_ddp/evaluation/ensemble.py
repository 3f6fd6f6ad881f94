"""``python -m fer_ddp ensemble``: several runs answer together, in a folder that reads like a run's.

The members, their weights and the temperature are fixed and on disk before any answer for test is read. There is
nothing here that chooses members.
"""

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fer_ddp.config.recipes import recipe_names
from fer_ddp.errors import JobError, RunError
from fer_ddp.metrics.averaging import fit_family_weights, mean_probabilities
from fer_ddp.metrics.calibration import apply_temperature, fit_temperature
from fer_ddp.metrics.classification import classification_metrics, summary_lines
from fer_ddp.runs.environment import code_version
from fer_ddp.runs.finished import MEMBERS_FILE, Run, find_runs, read_runs
from fer_ddp.runs.folder import RunFolder, read_json
from fer_ddp.runs.predictions import Predictions, write_predictions
from shards.files import sha256_of, write_json

Weighting = Literal["equal", "family"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ensemble:
    """What `write_ensemble` made."""

    folder: Path
    members: int
    summary: dict[str, Any]
    """As in ``summary.json``, and in a run's."""

    def text(self) -> str:
        """A few lines for the terminal."""
        written = f"{self.members} members, written down in {self.folder / MEMBERS_FILE} before test was read"
        return "\n".join([*summary_lines(self.summary), written])


def write_ensemble(
    runs: Sequence[Path], out: Path, *, weighting: Weighting = "equal", temperature: bool = False
) -> Ensemble:
    """Average the answers of ``runs`` (run folders, or folders that hold some) and write them into ``out``.

    weighting: ``family`` fits one weight a recipe on val; within it members are equal. temperature: fit one on val for
    the mean. ``out`` gets ``members.json`` first, then ``predictions/``, ``summary.json``, ``environment.json`` and
    ``status.json`` as a run's folder has them.

    Raises JobError if a run is not finished or can't stand beside the others, if there are fewer than two, or if
    ``out`` holds something else; RunError if answers can't be read or written.
    """
    members = _members(runs)
    splits = members[0].splits
    if "val" not in splits and (weighting == "family" or temperature):
        raise JobError(
            f"{members[0].path}: has no val predictions, and weights or a temperature are fitted on them; leave "
            "--weights=family and --temperature away"
        )
    val = _answers(members, "val") if "val" in splits else []
    names = recipe_names(members)
    weights = [1 / len(members)] * len(members)
    if weighting == "family":
        weights = list(fit_family_weights(val[0].labels, [each.probabilities for each in val], names).members)
    fitted = None
    if temperature:
        fitted = fit_temperature(val[0].labels, mean_probabilities([each.probabilities for each in val], weights))
    _write_members(out, members, names, weighting, weights, fitted)

    summary: dict[str, Any] = {
        "job": out.name,
        "members": len(members),
        "selected": "members given, nothing chosen",
        "class_names": list(members[0].class_names),
    }
    for split in splits:
        answers = val if split == "val" else _answers(members, split)
        probabilities = _together(answers, weights, fitted)
        summary[split] = classification_metrics(answers[0].labels, probabilities, members[0].class_names)
        del summary[split]["confusion"]
        path = out / "predictions" / f"{split}.csv"
        write_predictions(path, answers[0].keys, answers[0].labels, probabilities, members[0].class_names)
    write_json(out / "summary.json", summary)
    write_json(out / "environment.json", _environment(members[0].data_digest))
    RunFolder(out).write_status("finished")
    return Ensemble(folder=out, members=len(members), summary=summary)


def _members(paths: Sequence[Path]) -> list[Run]:
    """The runs, if they can answer together."""
    members, left_out = read_runs(find_runs(paths))
    if left_out:
        raise JobError(f"{left_out[0].path} {left_out[0].reason}; an ensemble is of finished runs")
    ensembles = [run for run in members if run.members]
    if ensembles:
        raise JobError(f"{ensembles[0].path}: is an ensemble itself; give its members")
    if len(members) < 2:
        raise JobError(f"{members[0].path}: is one run alone; an ensemble takes two or more")
    first = members[0]
    for run in members[1:]:
        if run.data_digest != first.data_digest:
            raise JobError(
                f"{run.path}: is about other data than {first.path} (digest {run.data_digest[:12]}, not "
                f"{first.data_digest[:12]}); an ensemble's members answer the same samples"
            )
        if run.class_names != first.class_names or run.splits != first.splits:
            raise JobError(
                f"{run.path}: has the classes {', '.join(run.class_names)} and answers for {_and(run.splits)}; "
                f"{first.path} has {', '.join(first.class_names)} and {_and(first.splits)}; they must be the same"
            )
    return members


def _and(splits: tuple[str, ...]) -> str:
    return " and ".join(splits) or "nothing"


def _answers(members: Sequence[Run], split: str) -> list[Predictions]:
    """The members' answers for a split, all for the same samples."""
    answers = [run.predictions(split) for run in members]
    first = answers[0]
    for run, each in zip(members, answers, strict=True):
        same = each.keys == first.keys and np.array_equal(each.labels, first.labels)
        if not same or each.class_names != first.class_names:
            raise JobError(
                f"{run.path}/predictions/{split}.csv: is about other samples or labels than that of "
                f"{members[0].path}; an ensemble's members answer the same samples"
            )
    return answers


def _together(
    answers: Sequence[Predictions], weights: Sequence[float], temperature: float | None
) -> NDArray[np.float64]:
    mean = mean_probabilities([each.probabilities for each in answers], weights)
    return mean if temperature is None else apply_temperature(mean, temperature)


def _write_members(
    out: Path,
    members: Sequence[Run],
    names: Sequence[str],
    weighting: Weighting,
    weights: Sequence[float],
    temperature: float | None,
) -> None:
    """Write down who answers, and how, synced to disk. Raises JobError if ``out`` holds something else."""
    record = {
        "data_digest": members[0].data_digest,
        "weighting": weighting,
        "temperature": temperature,
        "members": [
            {
                "run": str(run.path),
                "recipe": name,
                "seed": run.seed,
                "weight": weight,
                "config_sha256": _digest(run.path / "config.yaml"),
                # What a member answers for test is as fixed as this: the same weights gave both.
                "val_predictions_sha256": _digest(run.path / "predictions" / "val.csv"),
            }
            for run, name, weight in zip(members, names, weights, strict=True)
        ],
    }
    path = out / MEMBERS_FILE
    if path.exists():
        if read_json(path) != record:
            raise JobError(f"{out}: holds an ensemble of other members or weights; choose another --out")
        return
    if out.exists() and any(out.iterdir()):
        raise JobError(f"{out}: is not empty and holds no ensemble; choose another --out")
    try:
        (out / "predictions").mkdir(parents=True)
        write_json(path, record)
    except OSError as error:
        raise RunError(f"{out}: cannot be written: {error.strerror}") from error


def _digest(path: Path) -> str | None:
    return sha256_of(path) if path.exists() else None


def _environment(data_digest: str) -> dict[str, Any]:
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "code": code_version(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "scipy", "scikit-learn")},
        "data_digest": data_digest,
    }
