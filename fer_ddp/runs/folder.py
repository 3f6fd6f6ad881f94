"""The run folder is the state: a run resumes from it alone."""

import json
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from fer_ddp.errors import JobError, RunError
from fer_ddp.runs import checkpoint, environment
from fer_ddp.runs.files import (
    BEST,
    IMPORTED_FILE,
    LAST,
    LINES,
    NEXT_BEST,
    NO_RUN,
    PREVIOUS,
    SCHEMA_VERSION,
    intact_lines,
    read_lines,
    read_status,
    saved_epoch,
    with_checksum,
    write_metrics_csv,
    write_run_json,
)
from fer_ddp.yaml_io import read_yaml, to_yaml
from shards.files import FileLock, append_bytes, atomic_write_text, sync_folder


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
        """Raises JobError if the folder has no ``config.yaml`` but files that a start does not leave before it."""
        if (self.path / "config.yaml").exists() or not self.path.is_dir():
            return
        if (self.path / IMPORTED_FILE).is_file():
            raise JobError(f"{self.path}: {NO_RUN}; choose another run=")
        ours = {self.path / ".lock", *self.path.glob(".config.yaml.*tmp")}
        if (self.path / "status.json").is_file():
            raise JobError(f"{self.path}: the run's config.yaml is missing; put it back, or choose another run=")
        foreign = next((path for path in self.path.rglob("*") if not path.is_dir() and path not in ours), None)
        if foreign is not None:
            raise JobError(
                f"{self.path}: is not empty and not a run folder (it holds {foreign.relative_to(self.path)} and no "
                f"config.yaml); choose another run=, or empty it"
            )

    def lock(self) -> None:
        """Lock this run for this process, until `unlock`. Raises JobError if another process trains it."""
        try:
            self._lock.acquire(wait=False)
        except BlockingIOError:
            status = self.status()
            known = "pid" in status and "host" in status  # not of a run that has not begun yet
            process = f"process {status['pid']} on {status['host']}" if known else "another process"
            raise JobError(f"{self.path}: is being trained by {process}; wait for it, or choose another run=") from None

    def unlock(self) -> None:
        """Release the lock; in a notebook, an error object may keep this one alive."""
        self._lock.release()

    def check_present(self) -> None:
        """Raises RunError if the folder that this process has locked was removed or replaced since."""
        if not self._lock.is_in_place():
            raise RunError(
                f"{self.path}: the run folder was removed or replaced while the run was in it; put it back to resume, "
                f"or run the same command again to start again"
            )

    def saved_config(self) -> dict[str, Any] | None:
        """The configuration this run was started with; None if it is new. Raises JobError if it can't be read."""
        path = self.path / "config.yaml"
        return read_yaml(path) if path.exists() else None

    def save_config(self, config: dict[str, Any]) -> None:
        """Write ``config.yaml``."""
        atomic_write_text(self.path / "config.yaml", to_yaml(config, checked=True))

    def status(self) -> dict[str, Any]:
        """The content of ``status.json``; empty if the run is new."""
        return read_status(self.path)

    def write_status(self, state: str, **more: Any) -> None:
        """``state``: running, interrupted, failed or finished."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        here = {
            "schema_version": SCHEMA_VERSION,
            "state": state,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "time": now,
        }
        write_run_json(self.path / "status.json", here | more)

    def write_environment(self, data_digest: str, world_size: int, device: torch.device) -> None:
        """``environment.json``: what is not reproducible about this start."""
        environment.write_training_environment(self.path, data_digest, world_size, device)

    def data_digest(self) -> str | None:
        """The digest of the data that the run trains on; None if the run is new."""
        return environment.read_data_digest(self.path)

    def world_size(self) -> int:
        """The number of ranks the run was last started with; 1 if it is new."""
        return environment.read_world_size(self.path)

    def checkpoint_path(self, name: str) -> Path:
        """The path of the checkpoint ``name``."""
        return self.checkpoints / f"{name}.safetensors"

    def save_state(self, state: dict[str, Any]) -> None:
        """Replace the last checkpoint, keeping the one before it."""
        self.write_state(checkpoint.Snapshot.of(state))

    def write_state(self, state: checkpoint.Snapshot) -> None:
        """`save_state` of a copy."""
        for name in LINES:  # a state is never ahead of the lines written before it
            if (self.path / name).exists():
                with open(self.path / name, "rb") as lines:
                    os.fsync(lines.fileno())
        sync_folder(self.path)  # a power cut may undo the making of a file that is itself synced
        last = self.checkpoint_path(LAST)
        if last.exists():
            os.replace(last, self.checkpoint_path(PREVIOUS))
        state.write(last)

    def state_bytes(self) -> int:
        """The size of the last checkpoint; 0 where there is none."""
        with suppress(FileNotFoundError):
            return self.checkpoint_path(LAST).stat().st_size
        return 0

    def has_state(self) -> bool:
        """Whether there is a checkpoint to resume from, intact or not."""
        return any((self.checkpoints / f"{name}.safetensors").exists() for name in (LAST, PREVIOUS))

    def load_state(self, identity: dict[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
        """(the newest intact state or None, a message if that is an older one because the last is damaged).

        The best weights are then those that belong to it. Raises RunError if a state is damaged and none is intact, or
        if the state is not that of the run ``identity``.
        """
        state, message = self._intact_state(identity)
        self._settle_best(-1 if state is None else state.get("epoch", -1))
        return state, message

    def _intact_state(self, identity: dict[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
        paths = [self.checkpoint_path(name) for name in (LAST, PREVIOUS)]
        present = [path for path in paths if path.exists()]
        problems = []
        for path in present:
            try:
                state = checkpoint.load_checkpoint(path)
            except RunError as error:
                problems.append(str(error))
                continue
            checkpoint.check_identity(path, state, identity)
            if "network" in state and "optimizer" not in state:
                raise RunError(f"{path}: holds a model's weights alone, not a state to resume from; put that back")
            if problems:
                # Else the next save would replace the only intact one with the damaged one.
                present[0].unlink()
                return state, f"{problems[0]}; removed; resuming from the previous checkpoint"
            return state, None
        best = self.checkpoint_path(BEST)
        weights = f"; its best weights can start another run: from={self.path} run=NAME" * best.exists()
        if present:
            raise RunError(
                f"{'; '.join(problems)}; there is no other state to resume from: remove {self.path} to start the run "
                f"again{weights}"
            )
        if best.exists() or (self.status().get("state") == "interrupted" and self.read_lines("metrics.jsonl")):
            raise RunError(
                f"{self.checkpoint_path(LAST)}: is missing, though the run was trained before; put it back, or remove "
                f"{self.path} to start the run again{weights}"
            )
        return None, None

    def _settle_best(self, epoch: int) -> None:
        """Finish or undo, to fit a state of ``epoch`` epochs, what `StateWriter` began."""
        path = self.checkpoint_path(NEXT_BEST)
        if not path.exists():
            return
        if (saved_epoch(self.path, NEXT_BEST) or 0) > epoch:
            path.unlink()  # the state that they were written with is not there
        else:
            os.replace(path, self.checkpoint_path(BEST))  # if they are damaged, `has_best` reports it

    def has_best(self) -> bool:
        """Whether the best weights so far are there; if they are not, print what will be selected.

        Raises RunError if they are damaged, which would else end the run at its very end.
        """
        path = self.checkpoints / f"{BEST}.safetensors"
        if not path.exists():
            print(f"{path}: is absent; the best of the epochs from here on will be selected", flush=True)
            return False
        try:
            checkpoint.load_checkpoint(path)
        except RunError as error:
            raise RunError(
                f"{error}; resume with select=last to evaluate the last weights, or remove it to select the best of "
                f"the epochs from here on"
            ) from None
        return True

    def drop_previous(self) -> None:
        """Remove the previous checkpoint: a finished run has one state."""
        (self.checkpoints / f"{PREVIOUS}.safetensors").unlink(missing_ok=True)

    def append_line(self, name: str, value: dict[str, Any]) -> None:
        """Add a line to a ``.jsonl`` file."""
        append_bytes(self.path / name, f"{json.dumps(with_checksum(value))}\n".encode())

    def read_lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of one of `fer_ddp.runs.files.LINES`; a line that a crash cut short is left out."""
        return read_lines(self.path / name)

    def cut_back(self, step: int, epoch: int, logged_steps: int = 0) -> list[str]:
        """Drop the lines after the state to resume from: after ``step``, and of epochs after ``epoch``.

        Returns a message for each file that lacks lines of before; ``steps.jsonl`` had ``logged_steps`` of them.
        """
        kept = {
            "steps.jsonl": [line for line in self.read_lines("steps.jsonl") if line["step"] <= step],
            "metrics.jsonl": [line for line in self.read_lines("metrics.jsonl") if line["epoch"] <= epoch],
            "timing.jsonl": intact_lines(self.path / "timing.jsonl"),  # also of epochs that are done twice
        }
        lost = []
        for name, lines in kept.items():
            path = self.path / name
            if path.exists():
                atomic_write_text(path, "".join(json.dumps(with_checksum(line)) + "\n" for line in lines))
            unit, last, wanted = ("step", step, logged_steps) if name == "steps.jsonl" else ("epoch", epoch, epoch)
            found = len({line[unit] for line in lines if line[unit] <= last})
            if found < wanted:
                lost.append(f"{path}: holds {found} of the {wanted} lines up to {unit} {last}; the others are lost")
        write_metrics_csv(self.path)
        return lost
