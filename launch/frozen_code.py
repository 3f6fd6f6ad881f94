"""Copies the code that is running, so that edits after a submission change nothing that is queued."""

import shutil
from pathlib import Path

from fer_ddp.errors import RunError
from fer_ddp.runs.environment import COMMIT_FILE, PACKAGES, code_root, code_version
from shards.files import write_json


def freeze_code(target: Path) -> str:
    """Copy the packages into ``target`` in place of what is there; returns the copy's digest. Raises RunError."""
    version = code_version()
    try:
        shutil.rmtree(target, ignore_errors=True)
        for package in PACKAGES:
            shutil.copytree(code_root() / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
        write_json(target / COMMIT_FILE, version["commit"])
    except OSError as error:
        raise RunError(f"{target}: the code can't be copied there ({error.strerror or error})") from None
    return str(version["sha256"])


def environment(target: Path) -> dict[str, str]:
    """What makes Python import the copy in ``target`` rather than what lies in the working folder."""
    return {"PYTHONPATH": str(target.resolve()), "PYTHONSAFEPATH": "1"}
