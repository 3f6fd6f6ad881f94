"""The status of each member of an array: the run folders first, SLURM second."""

import json
import os
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fer_ddp.errors import JobError, RunError
from fer_ddp.runs.files import RUNS, lines_of_run, read_config, read_status
from fer_ddp.text import duration
from launch import slurm_commands
from launch.folder import ArrayFolder, all_folders, find_folder
from launch.slurm_commands import QueueEntry
from shards.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberStatus:
    """One member now."""

    name: str
    state: str
    """waiting, running, ending (SLURM takes it off its nodes), finished, interrupted, failed, lost (it ran, but no
    process of it is left), not started, or damaged (a file of its folder cannot be read, which ``message`` names)."""
    epoch: int
    """Epochs done."""
    epochs: int
    """Epochs in all."""
    val_accuracy: float | None
    """Of the last epoch."""
    best_val_accuracy: float | None
    """Of the best epoch so far."""
    images_per_second: float | None
    """Of the last epoch, over all ranks."""
    seconds_per_epoch: float | None
    """Of the last epoch, evaluation included."""
    seconds_left: float | None
    """At the last epoch's speed; None where nothing runs."""
    node: str | None
    """Where it runs, or ran last."""
    restarts: int
    """Starts on a cluster after the first."""
    job_id: str | None
    """SLURM's, of the last start."""
    message: str | None
    """Why it waits or failed."""

    @property
    def can_be_resumed(self) -> bool:
        """Whether nothing has it and it is not finished."""
        return self.state in ("interrupted", "failed", "lost", "not started")


def status_of(name: str) -> list[MemberStatus]:
    """The status of each member of an array, or of one run outside of arrays, by name or path.

    Raises JobError for a wrong name, RunError as `members_status`.
    """
    runs = [path for path in (Path(name), RUNS / name) if (path / "status.json").exists()]
    try:
        folder = find_folder(name)
    except JobError:
        if not runs:
            raise
        return [run_status(runs[0])]
    return members_status(folder)


def members_status(folder: ArrayFolder) -> list[MemberStatus]:
    """The status of each member. SLURM is asked only if a member that was submitted is not finished.

    Raises RunError if SLURM is needed and does not respond.
    """
    runs = folder.runs
    unfinished = [name for name, run in runs.items() if not _is_finished(run)]
    tasks = _tasks(folder)
    present: dict[str, QueueEntry] = {}
    if any(name in tasks for name in unfinished):
        present = _queue(folder)
    return [
        _unless_damaged(name, partial(_member, folder, name, run, tasks.get(name), present))
        for name, run in runs.items()
    ]


def _is_finished(run: Path) -> bool:
    try:
        return read_status(run).get("state") == "finished"
    except RunError:  # its row then says what is damaged
        return True


def _unless_damaged(name: str, read: Callable[[], MemberStatus]) -> MemberStatus:
    """What ``read`` returns; one damaged run does not keep the others' status back."""
    try:
        return read()
    except UserError as error:
        return _damaged(name, error)


def _damaged(name: str, error: UserError) -> MemberStatus:
    return MemberStatus(
        name=name,
        state="damaged",
        epoch=0,
        epochs=0,
        val_accuracy=None,
        best_val_accuracy=None,
        images_per_second=None,
        seconds_per_epoch=None,
        seconds_left=None,
        node=None,
        restarts=0,
        job_id=None,
        message=str(error),
    )


def progress(members: list[MemberStatus], at_once: int | None = None) -> str:
    """Such as ``3/6 done, best val 0.6412, 8 min left (1 running, 2 not started)``.

    ``at_once``: how many members run at a time; None takes as many as run now.
    """
    counts = Counter(each.state for each in members)
    parts = [f"{counts.pop('finished', 0)}/{len(members)} done"]
    best = [each.best_val_accuracy for each in members if each.best_val_accuracy is not None]
    parts += [f"best val {max(best):.4f}"] if best else []
    seconds = _seconds_left(members, counts["running"] if at_once is None else at_once)
    parts += [f"{duration(seconds)} left"] if seconds else []
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return ", ".join(parts) + (f" ({states})" if states else "")


def _seconds_left(members: list[MemberStatus], at_once: int) -> float | None:
    """Until all that runs or waits has ended; what has not begun takes as long an epoch as the others do on average."""
    paces = [each.seconds_per_epoch for each in members if each.seconds_per_epoch is not None]
    if not paces or not at_once:
        return None
    mean = sum(paces) / len(paces)
    left = [
        (each.epochs - each.epoch) * (each.seconds_per_epoch or mean)
        for each in members
        if each.state in ("running", "waiting", "not started")
    ]
    return max(sum(left) / at_once, max(left)) if left else None


def overview() -> str:
    """A line for each array, and each run outside of arrays, that was started from this working folder."""
    lines = [(folder.name, _progress_of(folder)) for folder in all_folders()]
    lines += [(run.name, progress([run_status(run)])) for run in _single_runs()]
    width = max((len(name) for name, _ in lines), default=0)
    if not lines:
        return f"nothing was started here: there is no run in {RUNS}/"
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def overview_json() -> str:
    """As `overview`, all members as JSON by the name of the array or run. Raises RunError as `members_status`."""
    all_members = {folder.name: _members_of(folder) for folder in all_folders()}
    all_members |= {run.name: [run_status(run)] for run in _single_runs()}
    return json.dumps({name: [asdict(each) for each in members] for name, members in all_members.items()}, indent=1)


def _members_of(folder: ArrayFolder) -> list[MemberStatus]:
    """`members_status`; of an array whose own files are damaged, one that tells so."""
    try:
        return members_status(folder)
    except UserError as error:
        return [_damaged(folder.name, error)]


def _progress_of(folder: ArrayFolder) -> str:
    try:
        return progress(members_status(folder))
    except UserError as error:
        return str(error)


def _single_runs() -> list[Path]:
    known: set[Path] = set()
    for folder in all_folders():
        with suppress(UserError):  # the array's own line tells it
            known |= {run.resolve() for run in folder.runs.values()}
    return [path.parent for path in sorted(RUNS.glob("*/status.json")) if path.parent.resolve() not in known]


def table(members: list[MemberStatus]) -> str:
    """The status as lines for a terminal."""
    heads = ("member", "state", "epoch", "val", "images/s", "left", "node", "restarts", "")
    rows = [
        (
            each.name,
            each.state,
            f"{each.epoch}/{each.epochs}",
            "" if each.val_accuracy is None else f"{each.val_accuracy:.4f}",
            "" if each.images_per_second is None else f"{each.images_per_second:,.0f}",
            "" if each.seconds_left is None else duration(each.seconds_left),
            each.node or "",
            str(each.restarts),
            each.message or "",
        )
        for each in members
    ]
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (heads, *rows)]
    lines.append(progress(members))
    return "\n".join(line.rstrip() for line in lines)


def as_json(members: list[MemberStatus]) -> str:
    """The status as a JSON list."""
    return json.dumps([asdict(each) for each in members], indent=1)


def _tasks(folder: ArrayFolder) -> dict[str, str]:
    """SLURM's last number of each submitted member."""
    tasks = {}
    for submission in folder.submissions:
        members, job_id = submission["members"], submission.get("job_id")
        for number, member in enumerate(members):
            if job_id is not None:
                tasks[member] = job_id if len(members) == 1 else f"{job_id}_{number}"
    return tasks


def _queue(folder: ArrayFolder) -> dict[str, QueueEntry]:
    try:
        return slurm_commands.queue(folder.job_ids())
    except JobError as error:
        raise RunError(f"{folder.name}: not every member is finished, so SLURM must be asked; {error}") from None


def run_status(run: Path) -> MemberStatus:
    """The status of a run that was started on this machine outside of an array."""

    def read() -> MemberStatus:
        state, message = _state(read_status(run), None, submitted=False)
        return _with_progress(run, read_config(run), name=run.name, state=state, message=message)

    return _unless_damaged(run.name, read)


def _member(
    folder: ArrayFolder, name: str, run: Path, task: str | None, present: dict[str, QueueEntry]
) -> MemberStatus:
    status, attempts = read_status(run), folder.attempts(name)
    entry = present.get(task) if task is not None else None
    state, message = _state(status, entry, submitted=task is not None)
    if state in ("failed", "lost", "not started") and attempts and attempts[-1].message:
        state, message = "failed", attempts[-1].message
    node = entry.nodes if entry and entry.nodes else attempts[-1].nodes if attempts else None
    return _with_progress(
        run,
        folder.read_member(name),
        name=name,
        state=state,
        message=message,
        node=node,
        restarts=max(len(attempts) - 1, 0),
        job_id=task,
    )


def _with_progress(
    run: Path,
    job: dict[str, Any],
    *,
    name: str,
    state: str,
    message: str | None,
    node: str | None = None,
    restarts: int = 0,
    job_id: str | None = None,
) -> MemberStatus:
    """The status of a member, with the progress that its run folder shows."""
    metrics, timing = lines_of_run(run, "metrics.jsonl"), lines_of_run(run, "timing.jsonl")
    epoch, epochs = (metrics[-1]["epoch"] if metrics else 0), int(job.get("epochs", 0))
    accuracies = [line["val"]["accuracy"] for line in metrics if line.get("val")]
    return MemberStatus(
        name=name,
        state=state,
        epoch=epoch,
        epochs=epochs,
        val_accuracy=accuracies[-1] if accuracies else None,
        best_val_accuracy=max(accuracies, default=None),
        images_per_second=timing[-1]["images_per_second"] if timing else None,
        seconds_per_epoch=timing[-1]["seconds"] if timing else None,
        seconds_left=(epochs - epoch) * timing[-1]["seconds"] if state == "running" and timing else None,
        node=node or read_status(run).get("host"),
        restarts=restarts,
        job_id=job_id,
        message=message,
    )


def _state(status: dict[str, Any], entry: QueueEntry | None, *, submitted: bool) -> tuple[str, str | None]:
    state = status.get("state")
    if state == "finished":
        return state, None
    if entry is not None:
        if entry.state == "PENDING":
            return "waiting", entry.reason
        return ("ending", None) if entry.state == "COMPLETING" else ("running", None)
    if state is None:
        return "not started", None
    here = status.get("host") == socket.gethostname()
    if state == "running" and (submitted or (here and not _is_alive(status.get("pid")))):
        return "lost", "the process exited without recording why"
    return state, status.get("message")


def _is_alive(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
