"""The run folder is the state: what a run was, is, and goes on from."""

import hashlib
import json
import os
import platform
import socket
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fer_ddp.cli import command_line
from fer_ddp.errors import JobError, RunError
from fer_ddp.hardware import processor_name
from fer_ddp.runs import checkpoint
from fer_ddp.runs.environment import code_version
from fer_ddp.runs.files import LAST, PREVIOUS, read_json, read_lines, read_status
from fer_ddp.yaml_io import read_yaml, to_yaml
from shards.files import FileLock, atomic_write_bytes, write_json


class RunFolder:
    """``runs/NAME/``: configuration, metrics, checkpoints, predictions, figures, status."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.predictions = self.path / "predictions"
        self.figures = self.path / "figures"
        self._lock = FileLock(self.path / ".lock")

    def create(self) -> None:
        """Make the folders. Raises JobError if that isn't possible."""
        try:
            for folder in (self.path, self.checkpoints, self.predictions, self.figures):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JobError(
                f"{self.path}: the run folder can't be made ({error.strerror}); choose another run="
            ) from None

    def check_own(self) -> None:
        """Raises JobError if the folder has no ``config.yaml`` and holds another file than a start leaves before it."""
        if (self.path / "config.yaml").exists() or not self.path.is_dir():
            return
        ours = (self.path / ".lock", self.path / ".config.yaml.tmp")
        foreign = next((path for path in self.path.rglob("*") if not path.is_dir() and path not in ours), None)
        if foreign is not None:
            raise JobError(
                f"{self.path}: is not empty and no run folder (it holds {foreign.relative_to(self.path)} and no "
                f"config.yaml); choose another run=, or empty it"
            )

    def lock(self) -> None:
        """Keep this run for this process, until `unlock`. Raises JobError if another process trains it."""
        try:
            self._lock.acquire(wait=False)
        except BlockingIOError:
            status = self.status()
            raise JobError(
                f"{self.path}: is being trained by process {status.get('pid')} on {status.get('host')}; "
                f"wait for it, or choose another run="
            ) from None

    def unlock(self) -> None:
        """Let another training have this run, also while a notebook keeps the error that ended this one."""
        self._lock.release()

    def saved_config(self) -> dict[str, Any] | None:
        """The configuration this run was started with; None if it is new. Raises JobError if it can't be read."""
        path = self.path / "config.yaml"
        return read_yaml(path) if path.exists() else None

    def save_config(self, config: dict[str, Any]) -> None:
        """Write ``config.yaml``."""
        atomic_write_bytes(self.path / "config.yaml", to_yaml(config).encode())

    def status(self) -> dict[str, Any]:
        """What ``status.json`` says; empty if the run is new."""
        return read_status(self.path)

    def write_status(self, state: str, **more: Any) -> None:
        """``state``: running, interrupted, failed or finished."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        here = {"state": state, "host": socket.gethostname(), "pid": os.getpid(), "time": now}
        write_json(self.path / "status.json", here | more)

    def write_environment(self, data_digest: str, world_size: int, device: torch.device) -> None:
        """``environment.json``: what is not reproducible about this start."""
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
        write_json(
            self.path / "environment.json",
            {
                "run_id": self._environment("run_id", str, "what W&B calls the run") or self._new_id(),
                "command": command_line(world_size),
                "code": code_version(),
                "python": platform.python_version(),
                "versions": {
                    name: version(name) for name in ("torch", "torchvision", "numpy", "scikit-learn", "safetensors")
                },
                "device": name,
                "threads": torch.get_num_threads(),
                "world_size": world_size,
                "data_digest": data_digest,
            },
        )

    def _new_id(self) -> str:
        """Another for each run, also where one takes the place of another: from the place and moment of its start."""
        start = f"{socket.gethostname()} {os.getpid()} {self.path.resolve()} {time.time_ns()}"
        return hashlib.sha256(start.encode()).hexdigest()[:16]

    def _environment(self, key: str, kind: type, right: str) -> Any:
        """What ``environment.json`` says under ``key``; None if the run is new."""
        path = self.path / "environment.json"
        value = read_json(path).get(key)
        if value is not None and type(value) is not kind:
            raise RunError(f"{path}: {key} is {json.dumps(value)}; it must be {right}")
        return value

    def data_digest(self) -> str | None:
        """The digest of the data that the run trains on; None if the run is new."""
        digest: str | None = self._environment("data_digest", str, "the digest that `shards inspect` prints")
        return digest

    def world_size(self) -> int:
        """The number of ranks the run was last started with; 1 if it is new."""
        return self._environment("world_size", int, "a whole number, the ranks that trained the run") or 1

    def save_state(self, state: dict[str, Any]) -> None:
        """Replace the last checkpoint, keeping the one before it."""
        for name in ("steps.jsonl", "metrics.jsonl"):  # a state is never ahead of the lines that it stands for
            if (self.path / name).exists():
                with open(self.path / name, "rb") as lines:
                    os.fsync(lines.fileno())
        last = self.checkpoints / f"{LAST}.safetensors"
        if last.exists():
            os.replace(last, self.checkpoints / f"{PREVIOUS}.safetensors")
        checkpoint.save_checkpoint(last, state)

    def load_state(self) -> tuple[dict[str, Any] | None, str | None]:
        """(the newest whole state or None, a sentence if an older one had to serve)."""
        paths = [self.checkpoints / f"{name}.safetensors" for name in (LAST, PREVIOUS)]
        present = [path for path in paths if path.exists()]
        problems = []
        for path in present:
            try:
                state = checkpoint.load_checkpoint(path)
            except RunError as error:
                problems.append(str(error))
                continue
            if problems:
                # Else the next save would put the damaged one in the place of the only whole one.
                present[0].unlink()
                return state, f"{problems[0]}; it is removed, and the one before it serves"
            return state, None
        if present:
            raise RunError(f"{'; '.join(problems)}; none is whole: remove {self.path} to start the run anew")
        return None, None

    def drop_previous(self) -> None:
        """A finished run keeps one state."""
        (self.checkpoints / f"{PREVIOUS}.safetensors").unlink(missing_ok=True)

    def append_line(self, name: str, value: dict[str, Any]) -> None:
        """Add a line to a ``.jsonl`` file."""
        with open(self.path / name, "a", encoding="utf-8") as file:
            file.write(json.dumps(value) + "\n")

    def read_lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of one of `fer_ddp.runs.files.LINES`; what a crash cut short at the end is left out."""
        return read_lines(self.path / name)

    def cut_back(self, step: int, epoch: int) -> None:
        """Drop the lines that the state to go on from has not seen: after ``step``, and of epochs after ``epoch``."""
        self._keep_lines("steps.jsonl", lambda line: line["step"] <= step)
        self._keep_lines("metrics.jsonl", lambda line: line["epoch"] <= epoch)

    def _keep_lines(self, name: str, keep: Any) -> None:
        path = self.path / name
        if path.exists():
            kept = [line for line in self.read_lines(name) if keep(line)]
            atomic_write_bytes(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
