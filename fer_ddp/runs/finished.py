"""Finds run folders and reads finished runs, without their predictions."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_ddp.errors import JobError, RunError
from fer_ddp.runs.files import (
    IMPORTED_FILE,
    PREDICTIONS_SHA256,
    lines_of_run,
    read_config,
    read_json,
    read_status,
)
from fer_ddp.runs.predictions import Predictions, read_predictions
from fer_ddp.runs.shapes import Environment, Imported, Members, Summary
from shards.errors import UserError
from shards.files import sha256_of

MEMBERS_FILE = "members.json"
"""In an ensemble's folder instead of ``config.yaml``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedRun:
    """A finished run, an ensemble of runs, or imported predictions."""

    path: Path
    """As it was given."""
    name: str
    """The job's, the ensemble's, or the one given to the import."""
    seed: int | None
    """None for an ensemble, and for predictions imported without one."""
    job: dict[str, Any]
    """``config.yaml`` as it is, perhaps written by an older version; empty for an ensemble and imported predictions."""
    members: dict[str, Any]
    """``members.json`` of an ensemble, else empty."""
    imported: dict[str, Any]
    """``imported.json`` of imported predictions, else empty."""
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    """Of ``val`` and ``test``, those it was evaluated on."""
    data_digest: str
    summary: dict[str, Any]
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    """A line an epoch."""
    timing: list[dict[str, Any]]
    """A line an epoch; an epoch that was done twice has two."""

    def predictions(self, split: str) -> Predictions:
        """Its predictions for ``split``. Raises RunError if they are absent or damaged."""
        return read_predictions(
            self.path / "predictions" / f"{split}.csv",
            as_float64=True,
            sha256=self.summary.get(split, {}).get(PREDICTIONS_SHA256),
            class_names=self.class_names if self.imported.get("labels_only") else (),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SkippedRun:
    """A run folder whose figures are not used."""

    path: Path
    reason: str
    """Continues a message that begins with the path: "is not finished: ..."."""


def read_members(ensemble: Path) -> dict[str, Any]:
    """What an ensemble's `MEMBERS_FILE` records; empty if the folder has none. Raises RunError if it is damaged."""
    return read_json(ensemble / MEMBERS_FILE, Members)


def member_paths(ensemble: Path, recorded: dict[str, Any]) -> list[Path]:
    """The run folders of the members that `read_members` found.

    Raises JobError if one is absent, or not what was averaged.
    """
    paths = []
    for member in recorded["members"]:
        path = Path(member["run"])
        if not path.is_dir():  # recorded as given, perhaps in another working folder
            path = ensemble.parent / path.name
        if not (path / "config.yaml").is_file():
            raise JobError(f"{ensemble}: the run folder of its member {member['run']} is needed and is not there")
        if sha256_of(path / "config.yaml") != member["config_sha256"]:
            raise JobError(f"{path}: its config.yaml has changed since {ensemble} was made; make the ensemble again")
        paths.append(path)
    return paths


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The run folders that ``paths`` are or hold, at any depth, each once, in order; also ensembles and imports.

    Raises JobError for a path that is neither.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise JobError(f"{path}: there is no such folder; give run folders, or folders that hold some")
        below = list(_run_folders(path))
        if not below:
            raise JobError(
                f"{path}: is not a run folder (it has no config.yaml) and holds none; give one such as runs/"
            )
        for run in below:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _run_folders(path: Path) -> Iterator[Path]:
    if any((path / name).is_file() for name in ("config.yaml", MEMBERS_FILE, IMPORTED_FILE)):
        yield path  # and nothing inside it: W&B has a config.yaml of its own there
        return
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        # NAME.launch holds the launcher's own files, and a copy of the code.
        if entry.is_dir() and not entry.name.startswith(".") and not entry.name.endswith(".launch"):
            yield from _run_folders(path / entry.name)


def read_runs(paths: Sequence[Path]) -> tuple[list[FinishedRun], list[SkippedRun]]:
    """The finished ones among the run folders ``paths``, and why the others are not used."""
    runs, left_out = [], []
    for path in paths:
        try:
            runs.append(_read_run(path))
        except _NotUsable as unusable:
            left_out.append(SkippedRun(path=path, reason=str(unusable)))
        except UserError as error:
            left_out.append(SkippedRun(path=path, reason=f"can't be read: {error}"))
    return runs, left_out


class _NotUsable(Exception):
    """The message continues one that begins with the run's path."""


def _read_run(path: Path) -> FinishedRun:
    status, summary = read_status(path), read_json(path / "summary.json", Summary)
    if status.get("state") != "finished" or not summary:
        raise _NotUsable(_unfinished(status))
    members, imported = read_members(path), read_json(path / IMPORTED_FILE, Imported)
    job = {} if members or imported else read_config(path)
    environment = read_json(path / "environment.json", Environment)
    digest = environment.get("data_digest")
    if not digest:
        raise _NotUsable("does not record which data it used (environment.json has no data_digest)")
    return FinishedRun(
        path=path,
        name=str(summary.get("job", path.name)),
        seed=imported.get("seed") if imported else None if members else job.get("seed", 0),
        job=job,
        members=members,
        imported=imported,
        class_names=tuple(summary.get("class_names", ())),
        splits=tuple(split for split in ("val", "test") if split in summary),
        data_digest=str(digest),
        summary=summary,
        environment=environment,
        metrics=lines_of_run(path, "metrics.jsonl"),
        timing=_timing(path),
    )


def _timing(path: Path) -> list[dict[str, Any]]:
    """The lines of ``timing.jsonl``; none, and a warning, if some are damaged: no reason to leave the run out."""
    try:
        return lines_of_run(path, "timing.jsonl")
    except RunError as error:
        print(f"warning: {error}; the run's time is not reported", file=sys.stderr)
        return []


def _unfinished(status: dict[str, Any]) -> str:
    state = status.get("state")
    if state is None:
        return "is not finished: it has not started"
    where = next((f", {unit} {status[unit]}" for unit in ("epoch", "step") if unit in status), "")
    why = f" ({status['message']})" if status.get("message") else ""
    return f"is not finished: {state}{where}{why}"
