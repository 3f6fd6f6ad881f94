"""The child process of `fer_ddp.runs.tracking`: follows a run folder and logs it to W&B. The only importer of wandb."""

import os
import select
import signal
import sys
from pathlib import Path
from typing import Any, Literal

from fer_ddp.errors import RunError
from fer_ddp.runs.environment import read_run_id
from fer_ddp.runs.files import (
    SPLITS,
    finished_summary,
    labels_and_predicted,
    read_config,
    wandb_rows,
    wandb_summary,
)
from fer_ddp.runs.tracking import WAIT_SECONDS, WandbConfig, report
from fer_ddp.signals import STOP_SIGNALS
from fer_ddp.text import plural

_HANG_SECONDS = 60
"""A call of wandb's that takes longer than this hangs, and this process is ended."""


def main(run: Path, mode: str, wandb_folder: Path) -> int:
    """Log what ``run`` holds and, until something comes on stdin or it ends, what is added; returns the exit status."""
    for number in STOP_SIGNALS:  # the trainer handles them: its end ends stdin
        signal.signal(number, signal.SIG_IGN)
    signal.alarm(_HANG_SECONDS)  # ends this process if a call hangs; set again before each
    run, wandb_folder = run.absolute(), wandb_folder.absolute()
    # wandb takes settings, the server's address among them, from the working folder, which may be a stranger's:
    # the user's key would go there. Only root writes into this one.
    os.chdir("/")
    try:
        message = _follow(run, mode, wandb_folder)
    except Exception as error:  # noqa: BLE001  whatever wandb raises, training continues
        if mode == "send":
            print(_reason(error))
            return 1
        report(run, _reason(error))
        return 0
    if mode == "send":
        print(message)
    return 0


def _follow(run: Path, mode: str, wandb_folder: Path) -> str:
    """Log all of it; returns a message about what was sent."""
    job = read_config(run)
    config = WandbConfig(**job.get("wandb", {}))
    wandb_run = _open(run, job, config, mode, wandb_folder)
    next_step = wandb_run.starting_step  # an epoch's step is its number; 0 where the server has nothing
    rows: list[dict[str, Any]] = []
    ended = False
    while not ended:
        ended = bool(select.select([sys.stdin], [], [], 1.0)[0])
        # A trainer that is alive gives up first; one that was killed leaves no process behind.
        signal.alarm(WAIT_SECONDS + 2 if ended and mode != "send" else _HANG_SECONDS)
        rows = wandb_rows(run)
        for row in rows:
            if row["epoch"] >= next_step:
                wandb_run.log(row, step=row["epoch"], commit=True)
                next_step = row["epoch"] + 1
    summary = finished_summary(run)
    figures = wandb_summary(summary) if summary else {}
    wandb_run.summary.update(figures)
    if summary and next_step <= len(rows) + 1:  # else the server has the matrices
        wandb_run.log(_confusion_matrices(run, summary), step=len(rows) + 1)
    wandb_run.finish(exit_code=0 if summary else 1)
    there = min(max(wandb_run.starting_step - 1, 0), len(rows))
    parts = [f"sent {plural(len(rows), 'epoch')}"]
    parts += [f"of which the server had {there}"] if there else []
    measured = [split for split in ("test", "val") if f"{split}/accuracy" in figures]
    parts += [f"{split} accuracy {figures[f'{split}/accuracy']:.4f}" for split in measured[:1]] or ["not finished"]
    return f"{', '.join(parts)}, to {config.project} as run {wandb_run.id}"


def _open(run: Path, job: dict[str, Any], config: WandbConfig, mode: str, wandb_folder: Path) -> Any:
    """Start or resume the W&B run of ``run``; without a connection offline, unless it is to be sent."""
    try:
        import wandb
    except ImportError as error:
        raise RunError(f"wandb can't be imported ({error}); install it: pip install 'fer-ddp[wandb]'") from None
    if mode == "send":
        signal.alarm(WAIT_SECONDS)

    def start(wandb_mode: Literal["offline", "online"]) -> Any:
        return wandb.init(
            mode=wandb_mode,
            project=config.project,
            group=config.group,
            name=Path(job["run"]).name,
            id=read_run_id(run),
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
        report(run, f"can't go online ({_reason(error)}); logging offline")
        wandb.teardown()  # else the id is taken
        return start("offline")


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
    """Of wandb's several lines about a connection, the last names the problem."""
    return (str(error).splitlines() or [type(error).__name__])[-1].removeprefix("while retrying: ")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
