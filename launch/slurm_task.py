"""What SLURM runs for one member of an array: `run_member` on each of its nodes, then `after` in the batch script.

The two share nothing but the array's folder and an exit status: 0 the run is finished; 75 a signal ended it, the state
is saved; 2 the job or its data is wrong, so that a retry would not help; anything else it failed or was killed.
"""

import os
import signal
import socket
import sys
from pathlib import Path

from fer_ddp.errors import Interrupted, JobError, RunError
from fer_ddp.runs.files import read_status
from launch import slurm_commands
from launch.folder import ArrayFolder
from launch.torchrun import SignalForwarder, start_ranks
from shards.errors import UserError
from shards.reading.scan import load_or_scan_manifest

WARNINGS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)
FAILURES_AT_ONE_STEP = 3
ENDS_AT_ONE_STEP = 10
"""A run that is interrupted so often and gets no further has too short a time limit."""


def run_member(folder: str, member: str, nodes: int, ranks: int) -> None:
    """Train ``member`` with ``ranks`` ranks on this node; the other ``nodes`` do the same. Ends the process."""
    array = ArrayFolder(Path(folder))
    is_head = os.environ["SLURM_NODEID"] == "0"
    with SignalForwarder() as forwarder:  # in place of submitit's own handlers
        if is_head:
            array.start_attempt(member, task_id(), os.environ["SLURM_JOB_NODELIST"])
        job_file = array.member_file(member)
        try:
            load_or_scan_manifest(Path(array.read_member(member)["data"]["path"]))
        except UserError as error:
            message = f"on {socket.gethostname()}: {error}"
            array.explain_attempt(member, message)
            print(f"error: {message}", file=sys.stderr, flush=True)
            sys.exit(JobError.exit_status)
        process = start_ranks(
            ranks, ["-m", "fer_ddp", "train", str(job_file)], rendezvous=_rendezvous(nodes) if nodes > 1 else None
        )
        forwarder.to(process)
        exit_status = process.wait()
    if exit_status == 0 or (forwarder.asked_to_stop and not is_head):
        sys.exit(0)  # else --kill-on-bad-exit would end the head before it has printed what happened
    if forwarder.asked_to_stop:
        sys.exit(Interrupted.exit_status)
    sys.exit(exit_status if exit_status > 0 else 128 - exit_status)  # below 0 a signal killed it


def _rendezvous(nodes: int) -> list[str]:
    """torchrun's options that bring the agents of all nodes together, without anything but SLURM's variables."""
    head = slurm_commands.first_host(os.environ["SLURM_JOB_NODELIST"])
    port = 20000 + int(os.environ["SLURM_JOB_ID"]) % 10000
    return [
        f"--nnodes={nodes}",
        f"--node-rank={os.environ['SLURM_NODEID']}",
        "--rdzv-backend=static",
        f"--master-addr={head}",
        f"--master-port={port}",
    ]


def task_id() -> str:
    """What SLURM calls this task: ``7_2``, or ``7`` where it is no array."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]


def after(folder: Path, submission: int, exit_status: int) -> None:
    """In the batch script, once ``run_member`` has ended on all nodes: write down how, and requeue if that helps.

    SLURM never requeues what ended by itself, not even in the grace before a preemption.
    """
    if exit_status in (*WARNINGS, *(128 + number for number in WARNINGS)):  # before anything listened
        exit_status = Interrupted.exit_status
    array, task = ArrayFolder(folder), task_id()
    member = array.submissions[submission]["members"][int(os.environ.get("SLURM_ARRAY_TASK_ID", 0))]
    attempt = array.end_attempt(member, task, os.environ["SLURM_JOB_NODELIST"], exit_status)
    if attempt.message is None and exit_status not in (0, Interrupted.exit_status):
        array.explain_attempt(member, _reason(array.runs[member], exit_status))
    if exit_status in (0, JobError.exit_status):
        return
    here = [each for each in array.attempts(member) if each.job_id == task and each.saved_step == attempt.saved_step]
    failures = sum(each.failed for each in here)
    if failures >= FAILURES_AT_ONE_STEP or len(here) >= ENDS_AT_ONE_STEP:
        what = f"failed {failures}" if failures >= FAILURES_AT_ONE_STEP else f"ended {len(here)}"
        print(
            f"{member}: {what} times at step {attempt.saved_step}, so it is not retried; "
            f"`fer-ddp launch resume {array.name}` does",
            file=sys.stderr,
        )
        return
    try:
        if not slurm_commands.has_decided(task, restarts=int(os.environ.get("SLURM_RESTART_COUNT", 0))):
            slurm_commands.requeue(task)
    except RunError as error:
        print(f"{member}: can't be requeued ({error}); run `fer-ddp launch resume {array.name}`", file=sys.stderr)


def _reason(run: Path, exit_status: int) -> str:
    """Why it failed, as far as anyone knows."""
    status = read_status(run)
    if status.get("state") == "failed":
        return str(status["message"])
    killed_by = {128 + number: number.name for number in signal.Signals}.get(exit_status)
    return f"killed by {killed_by}" if killed_by else f"ended with exit status {exit_status}; see its log"


if __name__ == "__main__":
    after(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
