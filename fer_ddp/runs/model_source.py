"""``model_source.json`` and ``model_source/`` of a run of a user's own model: which file defined it, and a copy of it.

The copy is a record for people. No code is ever executed from a run folder, which may come from a stranger.
"""

import os
from pathlib import Path

from fer_ddp.errors import JobError, RunError
from fer_ddp.models.own_models import source_file
from fer_ddp.models.own_source import is_own_model
from fer_ddp.runs.files import SCHEMA_VERSION, read_json, write_run_json
from shards.files import atomic_write_bytes, sha256_of

RECORD = "model_source.json"
_COPIES = "model_source"


def record_model_source(run: Path, name: str) -> None:
    """Record the file of the model ``name`` at a run's start; at a later one check it, as `check_model_source` does."""
    if not is_own_model(name):
        return
    if (run / RECORD).exists() or any((run / "checkpoints").glob("*.safetensors")):
        return check_model_source(run, name)
    try:
        path = source_file(name)
    except ValueError as error:
        raise JobError(str(error)) from None
    copy = run / _COPIES / path.name
    copy.parent.mkdir(exist_ok=True)
    atomic_write_bytes(copy, path.read_bytes())
    write_run_json(
        run / RECORD,
        {"schema_version": SCHEMA_VERSION, "model": name, "sha256": sha256_of(copy), "copy": f"{_COPIES}/{path.name}"},
    )


def check_model_source(run: Path, name: str) -> None:
    """Raises JobError if the file of a user's own model ``name`` is not there or not the one that ``run`` recorded.

    RunError if ``run`` recorded none.
    """
    if not is_own_model(name):
        return
    record = read_json(run / RECORD)
    if not all(isinstance(record.get(key), str) for key in ("sha256", "copy")):
        raise RunError(f"{run / RECORD}: is absent or damaged; it must hold the SHA-256 of the file of {name}")
    copy = run / record["copy"]
    try:
        path = source_file(name)  # which does not execute a file, changed or not
    except ValueError as error:
        raise JobError(
            f"{run}: needs its own model: {str(error).removeprefix('model.name: ')}; a copy of the file is {copy}"
        ) from None
    if sha256_of(path) != record["sha256"]:
        raise JobError(
            f"{os.path.relpath(path)}: has changed since {run} was started with it as {name}; put back what it was, of "
            f"which {copy} is a copy, or train a new run"
        )
