"""``environment.json``: what is not reproducible about a run, and which code, devices and command made it."""

import hashlib
import json
import os
import platform
import shlex
import socket
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_ddp.cli import command_line
from fer_ddp.errors import RunError
from fer_ddp.hardware import processor_name
from fer_ddp.runs.files import SCHEMA_VERSION, read_json, write_run_json

if TYPE_CHECKING:
    import torch

    from fer_ddp.runs.finished import FinishedRun

ENVIRONMENT_FILE = "environment.json"
PACKAGES = ("shards", "fer_ddp", "launch")
COMMIT_FILE = "commit.json"
"""In a copy of the code: the commit that it was taken from."""


def write_environment(run: Path, data_digest: str, packages: Sequence[str], **details: Any) -> None:
    """Write ``environment.json`` of the run folder ``run``: code, command, Python, versions of ``packages``, data.

    details: further keys, such as the device.
    """
    here = {
        "schema_version": SCHEMA_VERSION,
        "command": command_line(details.get("world_size", 1)),
        "code": code_version(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }
    write_run_json(run / ENVIRONMENT_FILE, here | details | {"data_digest": data_digest})


def write_training_environment(run: Path, data_digest: str, world_size: int, device: "torch.device") -> None:
    """Write ``environment.json`` at each start of a training run; the run keeps the id of its first start."""
    import torch

    write_environment(
        run,
        data_digest,
        ("torch", "torchvision", "numpy", "scikit-learn", "safetensors"),
        run_id=_read(run, "run_id", str, "what W&B calls the run") or _new_id(run),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name(),
        threads=torch.get_num_threads(),
        world_size=world_size,
    )


def read_data_digest(run: Path) -> str | None:
    """The digest of the data that the run trains on; None if the run is new. Raises RunError if it is damaged."""
    digest: str | None = _read(run, "data_digest", str, "the digest that `shards inspect` prints")
    return digest


def read_world_size(run: Path) -> int:
    """The number of ranks of the run's last start; 1 if it is new. Raises RunError if it is damaged."""
    return _read(run, "world_size", int, "a whole number, the ranks that trained the run") or 1


def read_run_id(run: Path) -> str:
    """The run's name in W&B, written at its first start; for runs of older versions derived from ``config.yaml``."""
    run_id = _read(run, "run_id", str, "what W&B calls the run")
    return run_id or hashlib.sha256((run / "config.yaml").read_bytes()).hexdigest()[:16]


def _read(run: Path, key: str, kind: type, right: str) -> Any:
    """The value of ``key`` in ``environment.json``; None if the run is new."""
    path = run / ENVIRONMENT_FILE
    value = read_json(path).get(key)
    if value is not None and type(value) is not kind:
        raise RunError(f"{path}: {key} is {json.dumps(value)}; it must be {right}")
    return value


def _new_id(run: Path) -> str:
    """Different for each run, also where one replaces another: from the place and moment of its start."""
    start = f"{socket.gethostname()} {os.getpid()} {run.resolve()} {time.time_ns()}"
    return hashlib.sha256(start.encode()).hexdigest()[:16]


def repeat_command(run: "FinishedRun") -> str:
    """The command that makes the run or ensemble again, in a new folder beside it; the commit is not checked out.

    Of imported predictions, the command that imported them: the same file gives the same folder.
    """
    again = f"{run.path}-again"
    if run.imported:
        return str(run.environment.get("command", ""))
    if run.members:
        options = ["--temperature"] if run.members.get("temperature") is not None else []
        runs = [member["run"] for member in run.members["members"]]
        return shlex.join(["python", "-m", "fer_ddp", "ensemble", *runs, "--out", again, *options])
    ranks = int(run.environment.get("world_size", 1))
    start = ["torchrun", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else ["python"]
    return shlex.join([*start, "-m", "fer_ddp", "train", f"{run.path}/config.yaml", f"run={again}"])


def code_root() -> Path:
    """The folder that holds the packages."""
    return Path(__file__).parents[2]


def code_version() -> dict[str, str | None]:
    """``commit``: with ``+`` if files were changed, None outside a checkout; ``sha256``: of all Python files."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((code_root() / package).rglob("*.py")):
            digest.update(f"{path.relative_to(code_root())}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return {"commit": _commit(), "sha256": digest.hexdigest()}


def _commit() -> str | None:
    copied_from = code_root() / COMMIT_FILE
    if copied_from.exists():
        commit: str | None = json.loads(copied_from.read_text())
        return commit
    if not (code_root() / ".git").exists():  # an installed package, perhaps inside another project's checkout
        return None
    try:
        head = _git("rev-parse", "HEAD")
        dirty = _git("status", "--porcelain")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip() + ("+" if dirty.stdout else "") if head.returncode == 0 else None


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=code_root(), capture_output=True, text=True, timeout=5)
