"""Weights & Biases: never needed and never waited for. The only module that imports wandb.

What W&B is told is read from the run folder by a process of its own. The trainer starts it and, when the run has ended,
gives it `WAIT_SECONDS`; a server that is absent, slow or silent holds up nothing else. What did not arrive is sent
later, from anywhere, by `send_run`: the run's id is in its folder, and epochs that the server has are not sent again.
"""

import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fer_ddp.errors import RunError
from fer_ddp.runs.files import (
    SPLITS,
    check_run_folder,
    epoch_rows,
    final_figures,
    finished_summary,
    labels_and_predicted,
)
from fer_ddp.signals import STOP_SIGNALS
from fer_ddp.yaml_io import read_yaml

Mode = Literal["offline", "online", "disabled"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WandbConfig:
    """Where the run is logged besides its folder."""

    mode: Mode = "offline"
    """online sends as it goes, offline writes into the run folder; `python -m fer_ddp sync` sends any run later."""
    project: str = "fer-ddp"
    """The project's name."""
    group: str | None = None
    """Runs that belong together."""


WAIT_SECONDS = 10
"""How long a run waits for W&B in all, which it does when it has ended, and `send_run` for a connection."""

_HANGS_SECONDS = 60
"""A call of wandb's that takes longer than this hangs, and its process is given up."""


class Tracker:
    """Tells W&B about the run in ``folder`` while it is trained, or nothing where ``mode`` is disabled."""

    def __init__(self, folder: Path, mode: Mode) -> None:
        self._folder, self._mode = folder, mode
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Tell what ``metrics.jsonl`` holds, and each line that is added to it from here on."""
        if self._mode == "disabled":
            return
        try:
            self._process = subprocess.Popen(
                _command(self._folder, self._mode, self._folder),
                env=_environment(),
                stdin=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # wandb writes there what it also logs in its folder
                start_new_session=True,
            )
        except OSError as error:
            _say(self._folder, f"could not start ({error.strerror})")

    def close(self) -> None:
        """When the run has ended, however it did: tell the rest, within `WAIT_SECONDS`. After that nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.communicate(b"end", timeout=WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # wandb-core ends itself when the process that started it is gone
            process.wait()
            _say(self._folder, f"has not taken everything within {WAIT_SECONDS} s of the run's end")
            return
        if process.returncode != 0:
            _say(self._folder, f"its process ended with status {process.returncode}")


def send_run(run: Path) -> str:
    """Make one W&B run with one curve of the run folder ``run``, however it was trained and as far as it went.

    Where the server has a part of it, the rest is added. Nothing is written into ``run``. Returns a sentence that says
    what was sent. Raises JobError if ``run`` is no run folder; RunError if wandb is not installed, there is no API key,
    no connection within `WAIT_SECONDS`, or the sending fails.
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
        raise RunError(f"{run}: could not be sent: W&B's server does not answer; the same command tries again")
    if done.returncode > 0:
        raise RunError(f"{run}: could not be sent: {done.stdout.strip() or f'status {done.returncode}'}")
    return f"{run}: {done.stdout.strip()}"


def _command(run: Path, mode: str, wandb_folder: Path) -> list[str]:
    return [sys.executable, "-m", "fer_ddp.runs.tracking", str(run), mode, str(wandb_folder)]


def _environment() -> dict[str, str]:
    """With this package importable, without another process's wandb-core, and without reports on wandb's own errors."""
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    changed = {"PYTHONPATH": os.pathsep.join(paths), "WANDB_ERROR_REPORTING": "false"}
    return {name: text for name, text in (os.environ | changed).items() if name != "WANDB_SERVICE"}


def _say(run: Path, what: str) -> None:
    print(f"W&B: {what}; nothing is lost, and `python -m fer_ddp sync {run}` sends it", flush=True)


# From here on, what the process does.


def _tell(run: Path, mode: str, wandb_folder: Path) -> int:
    """Tell W&B what ``run`` holds and, until something comes on stdin or it ends, what is added; the exit status."""
    for number in STOP_SIGNALS:  # they are the trainer's to handle: its end ends stdin
        signal.signal(number, signal.SIG_IGN)
    signal.alarm(_HANGS_SECONDS)  # ends this process, whatever hangs, unless it is put off
    try:
        sentence = _follow(run, mode, wandb_folder)
    except Exception as error:  # noqa: BLE001  whatever wandb raises, the run goes on
        if mode == "send":
            print(_reason(error))
            return 1
        _say(run, _reason(error))
        return 0
    if mode == "send":
        print(sentence)
    return 0


def _follow(run: Path, mode: str, wandb_folder: Path) -> str:
    """Tell all of it; returns what was told, in words."""
    job = read_yaml(run / "config.yaml")
    config = WandbConfig(**job.get("wandb", {}))
    wandb_run = _open(run, job, config, mode, wandb_folder)
    next_step = wandb_run.starting_step  # an epoch's step is its number; 0 where the server has nothing
    rows: list[dict[str, Any]] = []
    ended = False
    while not ended:
        ended = bool(select.select([sys.stdin], [], [], 1.0)[0])
        # A trainer that is alive gives up first; one that was killed leaves no process behind.
        signal.alarm(WAIT_SECONDS + 2 if ended and mode != "send" else _HANGS_SECONDS)
        rows = epoch_rows(run)
        for row in rows:
            if row["epoch"] >= next_step:
                wandb_run.log(row, step=row["epoch"], commit=True)
                next_step = row["epoch"] + 1
    summary = finished_summary(run)
    figures = final_figures(summary) if summary else {}
    wandb_run.summary.update(figures)
    if summary and next_step <= len(rows) + 1:  # else the server has the matrices
        wandb_run.log(_confusion_matrices(run, summary), step=len(rows) + 1)
    wandb_run.finish(exit_code=0 if summary else 1)
    there = min(max(wandb_run.starting_step - 1, 0), len(rows))
    told = [f"sent {len(rows)} epoch{'' if len(rows) == 1 else 's'}"]
    told += [f"of which the server had {there}"] if there else []
    measured = [split for split in ("test", "val") if f"{split}/accuracy" in figures]
    told += [f"{split} accuracy {figures[f'{split}/accuracy']:.4f}" for split in measured[:1]] or ["not finished"]
    return f"{', '.join(told)}, to {config.project} as run {wandb_run.id}"


def _open(run: Path, job: dict[str, Any], config: WandbConfig, mode: str, wandb_folder: Path) -> Any:
    """Start or continue the W&B run of ``run``; without a connection offline, or not at all if it is to be sent."""
    try:
        import wandb
    except ImportError as error:
        raise RunError(f"wandb can't be imported ({error}); `pip install wandb` installs it") from None
    if mode == "send":
        signal.alarm(WAIT_SECONDS)

    def start(wandb_mode: Literal["offline", "online"]) -> Any:
        return wandb.init(
            mode=wandb_mode,
            project=config.project,
            group=config.group,
            name=Path(job["run"]).name,
            id=run_id(run),
            resume="allow" if wandb_mode == "online" else None,
            dir=str(wandb_folder),
            config=job,
            settings=wandb.Settings(
                init_timeout=WAIT_SECONDS / 2,
                silent=True,
                console="off",
                x_disable_stats=True,
                disable_git=True,
                save_code=False,
            ),
        )

    if mode == "offline":
        return start("offline")
    try:
        return start("online")
    except Exception as error:
        if mode == "send":
            raise
        _say(run, f"can't go online ({_reason(error)}); logging offline")
        wandb.teardown()  # else the id is taken
        return start("offline")


def run_id(run: Path) -> str:
    """What names the run to W&B, in the folder since its first start; for older runs made of ``config.yaml``."""
    environment = run / "environment.json"
    if environment.exists():
        kept = json.loads(environment.read_text(encoding="utf-8")).get("run_id")
        if kept:
            return str(kept)
    return hashlib.sha256((run / "config.yaml").read_bytes()).hexdigest()[:16]


def _confusion_matrices(run: Path, summary: dict[str, Any]) -> dict[str, Any]:
    import wandb

    charts = {}
    for split in (split for split in SPLITS if split in summary):
        labels, predicted = labels_and_predicted(run, split, summary["class_names"])
        charts[f"{split}/confusion_matrix"] = wandb.plot.confusion_matrix(
            y_true=labels, preds=predicted, class_names=summary["class_names"], title=f"Confusion on {split}"
        )
    return charts


def _reason(error: Exception) -> str:
    """Of wandb's several lines on a connection, the last says what is wrong with it."""
    return (str(error).splitlines() or [type(error).__name__])[-1].removeprefix("while retrying: ")


if __name__ == "__main__":
    sys.exit(_tell(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
