"""Copies the code that is running, so that edits after a submission change nothing that is queued."""

import shutil
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from fer_ddp.errors import JobError, RunError
from fer_ddp.models.own_source import find_file, frozen_file, is_file, is_own_model, module_places, split_name
from fer_ddp.runs.environment import COMMIT_FILE, PACKAGES, code_root, code_version
from shards.files import write_json


def freeze_code(target: Path, models: Iterable[str]) -> str:
    """Copy the packages, and what defines the users' own ones of ``models``, into ``target`` in place of what is there.

    Returns the digest of the packages' copy. Raises JobError if a model is not there, RunError if a copy fails.
    """
    version = code_version()
    try:
        own = [pair for name in sorted(set(models)) if is_own_model(name) for pair in _files_of_model(name, target)]
    except ValueError as error:
        raise JobError(str(error)) from None
    try:
        shutil.rmtree(target, ignore_errors=True)
        for package in PACKAGES:
            shutil.copytree(code_root() / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
        for path, copy in own:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        write_json(target / COMMIT_FILE, version["commit"])
    except OSError as error:
        raise RunError(f"{target}: the code can't be copied there ({error.strerror or error})") from None
    return str(version["sha256"])


def environment(target: Path) -> dict[str, str]:
    """What makes Python import the copy in ``target`` rather than what lies in the working folder."""
    return {"PYTHONPATH": str(target.resolve()), "PYTHONSAFEPATH": "1"}


def _files_of_model(name: str, target: Path) -> list[tuple[Path, Path]]:
    """(file, its copy in ``target``) of what defines a model: its file, or the .py files of a package not installed."""
    place, _ = split_name(name)
    if is_file(place):
        return [(find_file(place), frozen_file(place, target))]
    top = place.partition(".")[0]
    if top in PACKAGES:
        return []
    installed = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    found = [path for path in module_places(top) if not any(path.is_relative_to(folder) for folder in installed)]
    files = [(path, target / path.name) for path in found if path.is_file()]
    return files + [(file, target / top / file.relative_to(path)) for path in found for file in path.rglob("*.py")]
