"""How each member of an array stands: the run folders first, SLURM second."""

import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fer_ddp.errors import JobError, RunError
from fer_ddp.runs.files import read_lines, read_status
from fer_ddp.yaml_io import read_yaml
from launch import slurm_commands
from launch.folder import ArrayFolder
from launch.slurm_commands import QueueEntry


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberStatus:
    """One member now."""

    name: str
    state: str
    """waiting, running, ending (SLURM takes it off its nodes), finished, interrupted, failed, lost (it ran, and nothing
    has it any more) or not started."""
    epoch: int
    """Epochs done."""
    epochs: int
    """Epochs in all."""
    val_accuracy: float | None
    """Of the last epoch."""
    images_per_second: float | None
    """Of the last epoch, over all ranks."""
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


def members_status(folder: ArrayFolder) -> list[MemberStatus]:
    """The status of each member. SLURM is asked only if a member that was submitted is not finished.

    Raises RunError if SLURM is needed and does not answer.
    """
    runs = folder.runs
    unfinished = [name for name, run in runs.items() if read_status(run).get("state") != "finished"]
    tasks = _tasks(folder)
    present: dict[str, QueueEntry] = {}
    if any(name in tasks for name in unfinished):
        present = _queue(folder)
    return [_member(folder, name, run, tasks.get(name), present) for name, run in runs.items()]


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
            "" if each.seconds_left is None else _duration(each.seconds_left),
            each.node or "",
            str(each.restarts),
            each.message or "",
        )
        for each in members
    ]
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (heads, *rows)]
    counts: dict[str, int] = {}
    for each in members:
        counts[each.state] = counts.get(each.state, 0) + 1
    lines.append(", ".join(f"{count} {state}" for state, count in counts.items()))
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


def _member(
    folder: ArrayFolder, name: str, run: Path, task: str | None, present: dict[str, QueueEntry]
) -> MemberStatus:
    status, attempts = read_status(run), folder.attempts(name)
    entry = present.get(task) if task is not None else None
    state, message = _state(status, entry, submitted=task is not None)
    if state in ("failed", "lost", "not started") and attempts and attempts[-1].sentence:
        state, message = "failed", attempts[-1].sentence
    metrics, timing = read_lines(run / "metrics.jsonl"), read_lines(run / "timing.jsonl")
    epoch, epochs = (metrics[-1]["epoch"] if metrics else 0), int(read_yaml(folder.member_file(name))["epochs"])
    seconds_left = None
    if state == "running" and timing:
        seconds_left = (epochs - epoch) * timing[-1]["seconds"]
    return MemberStatus(
        name=name,
        state=state,
        epoch=epoch,
        epochs=epochs,
        val_accuracy=metrics[-1].get("val", {}).get("accuracy") if metrics else None,
        images_per_second=timing[-1]["images_per_second"] if timing else None,
        seconds_left=seconds_left,
        node=(entry.nodes if entry and entry.nodes else None)
        or (attempts[-1].nodes if attempts else status.get("host")),
        restarts=max(len(attempts) - 1, 0),
        job_id=task,
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
    here = status["host"] == socket.gethostname()
    if state == "running" and (submitted or (here and not Path(f"/proc/{status['pid']}").exists())):
        return "lost", "it ended without a word"
    return state, status.get("message")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
