"""Weights & Biases and TensorBoard: never needed and never waited for.

A child process, `fer_ddp.runs.tracking_process`, reads the run folder and logs it to W&B; another,
`fer_ddp.runs.tensorboard_process`, writes TensorBoard's files. The trainer starts them and gives each `WAIT_SECONDS`
after the run has ended; a server that is absent, slow or silent delays nothing else. What W&B did not get is sent
later, from anywhere, by `send_run`: the run's id is in its folder, and epochs that the server has are not sent again.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fer_ddp.errors import RunError
from fer_ddp.runs.files import METRICS_CSV, check_run_folder

Mode = Literal["offline", "online", "disabled"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WandbConfig:
    """Where the run is logged besides its folder."""

    mode: Mode = "offline"
    """online sends as it goes, offline writes into the run folder; `fer-ddp sync` sends any run later."""
    project: str = "fer-ddp"
    """The project's name."""
    group: str | None = None
    """Runs that belong together."""


TENSORBOARD = "tensorboard"
"""The folder in the run's of TensorBoard's files."""
WAIT_SECONDS = 10
"""How long a run waits for W&B, and for TensorBoard, in all, which it does when it has ended, and `send_run` for a
connection."""


class Tracker:
    """Logs the run in ``folder`` while it trains: to W&B unless ``mode`` is disabled, to TensorBoard if that is set."""

    def __init__(self, folder: Path, mode: Mode, tensorboard: bool = False) -> None:
        self._followers = [_Follower(folder, _command(folder, mode, folder), report)] if mode != "disabled" else []
        if tensorboard:
            command = [sys.executable, "-m", "fer_ddp.runs.tensorboard_process", str(folder)]
            self._followers.append(_Follower(folder, command, report_tensorboard))

    def start(self) -> None:
        """Log what ``metrics.jsonl`` holds, and each line that is added to it from now on."""
        for follower in self._followers:
            follower.start()

    def close(self) -> None:
        """Log the rest, each within `WAIT_SECONDS`, however the run has ended; does nothing when called again."""
        for follower in self._followers:
            follower.close()


class _Follower:
    """A process that follows the run in ``folder``; ``report`` tells the user what went wrong with it."""

    def __init__(self, folder: Path, command: list[str], report: Callable[[Path, str], None]) -> None:
        self._folder, self._command, self._report = folder, command, report
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to follow it."""
        try:
            self._process = subprocess.Popen(
                self._command,
                env=_environment(),
                stdin=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # wandb writes there what it also logs in its folder
                start_new_session=True,
            )
        except OSError as error:
            self._report(self._folder, f"could not start ({error.strerror})")

    def close(self) -> None:
        """Wait for it; does nothing when called again."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.communicate(b"end", timeout=WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # wandb-core ends itself when the process that started it is gone
            process.wait()
            self._report(self._folder, f"did not take everything within {WAIT_SECONDS} s of the run's end")
            return
        if process.returncode != 0:
            self._report(self._folder, f"its process exited with status {process.returncode}")


def send_run(run: Path) -> str:
    """Make one W&B run with one curve of the run folder ``run``, however it was trained and as far as it went.

    Where the server has a part of it, the rest is added. Nothing is written into ``run``. Returns a message about what
    was sent. Raises JobError if ``run`` is not a run folder; RunError if wandb is not installed, without an API key or
    a connection within `WAIT_SECONDS`, and if the sending fails.
    """
    check_run_folder(run)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        done = subprocess.run(
            _command(run, "send", Path(folder)),
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
    if done.returncode < 0:
        raise RunError(f"{run}: could not be sent: W&B's server does not respond; run the same command again to retry")
    if done.returncode > 0:
        raise RunError(f"{run}: could not be sent: {done.stdout.strip() or f'status {done.returncode}'}")
    return f"{run}: {done.stdout.strip()}"


def _command(run: Path, mode: str, wandb_folder: Path) -> list[str]:
    return [sys.executable, "-m", "fer_ddp.runs.tracking_process", str(run), mode, str(wandb_folder)]


def _environment() -> dict[str, str]:
    """With this package importable, without another process's wandb-core, and without reports on wandb's own errors."""
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    changed = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1", "WANDB_ERROR_REPORTING": "false"}
    return {name: text for name, text in (os.environ | changed).items() if name != "WANDB_SERVICE"}


def report_tensorboard(run: Path, what: str) -> None:
    """Print a problem with TensorBoard, and where all of it is."""
    print(f"TensorBoard: {what}; nothing is lost: {run / METRICS_CSV} has every epoch", flush=True)


def report(run: Path, what: str) -> None:
    """Print a problem with W&B, and the command that sends the run later."""
    print(f"W&B: {what}; nothing is lost: `fer-ddp sync {run}` sends it", flush=True)
