"""The SLURM commands that launch uses, and what they print."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from fer_ddp.errors import JobError, RunError

SECONDS = 30
"""How long a SLURM command may take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueEntry:
    """A task that SLURM has: waiting, running or ending."""

    state: str
    """Such as PENDING, RUNNING, COMPLETING."""
    reason: str
    """Why it waits, such as Priority; None as text if it doesn't."""
    nodes: str


def require(command: str) -> None:
    """Raises JobError if this machine has no such command."""
    if shutil.which(command) is None:
        raise JobError(f"{command}: there is no such command here; run this on a login node of the cluster")


def queue(job_ids: Iterable[str]) -> dict[str, QueueEntry]:
    """What SLURM still has of these jobs, a task each, by ``JOB_TASK`` (``JOB`` of a job that is not an array).

    Raises RunError if SLURM does not respond.
    """
    wanted = set(job_ids)
    lines = _run("squeue", "--noheader", "--array", "--format=%i|%T|%r|%N", f"--user={os.getuid()}").splitlines()
    entries = {}
    for line in lines:
        task, state, reason, nodes = line.split("|")
        if task.partition("_")[0] in wanted:
            entries[task] = QueueEntry(state=state, reason=reason, nodes=nodes)
    return entries


def has_decided(task: str, restarts: int) -> bool:
    """Whether SLURM has already requeued or cancelled a task that started ``restarts`` times before.

    A task that is signalled and then ends by itself is for SLURM simply over, unless one of these two was the reason.
    Raises RunError if SLURM does not respond.
    """
    words = _run("scontrol", "show", "job", "--oneliner", task).split()
    job = dict(word.split("=", 1) for word in words if "=" in word)
    if int(job["Restarts"]) > restarts:
        return True
    ended_by_limit_or_preemption = job["Reason"] == "TimeLimit" or job.get("PreemptTime", "None") != "None"
    return job["JobState"] == "COMPLETING" and not ended_by_limit_or_preemption


def requeue(task: str) -> None:
    """Put a running task back into the queue. Raises RunError if SLURM refuses."""
    _run("scontrol", "requeue", task)


def cancel(job_ids: list[str]) -> None:
    """Take jobs out of the queue; those that run are signalled and save their state. Raises RunError."""
    _run("scancel", *job_ids)


def first_host(nodes: str) -> str:
    """The first name of a list such as ``node[1-4]``. Raises RunError."""
    return _run("scontrol", "show", "hostnames", nodes).split()[0]


def _run(*command: str) -> str:
    require(command[0])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise RunError(f"{command[0]}: SLURM did not respond in {SECONDS} seconds; try again") from None
    if done.returncode != 0:
        raise RunError(f"{' '.join(command)}: {_last_line(done.stderr) or f'exit status {done.returncode}'}")
    return done.stdout


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
