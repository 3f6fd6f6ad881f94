"""What SLURM runs for one member of an array: `run_member` on each of its nodes, then `after` in the batch script.

The two share nothing but the array's folder and an exit status:

    0    the run is finished
    75   SLURM warned (SIGUSR2: time limit, preemption), the state is saved; `after` requeues
    143  SIGTERM alone (scancel, or SLURM requeues by itself), the state is saved; left to SLURM
    2    the job or its data is wrong; doing it again would not help
    else the work failed or was killed; `after` requeues, unless it failed three times at the same step
"""

import os
import signal
import socket
import sys
from pathlib import Path

from fer_ddp.config import load_job
from fer_ddp.errors import Interrupted, JobError, RunError
from fer_ddp.run_folder import RunFolder
from launch import slurm_commands
from launch.array_folder import ArrayFolder
from launch.torchrun import PassOn, start_torchrun
from shards.errors import DataError
from shards.scan import manifest_of

REQUEUE, LEFT_TO_SLURM = Interrupted.exit_status, 128 + signal.SIGTERM
FAILURES_AT_ONE_STEP = 3


def run_member(folder: str, member: str, nodes: int, ranks: int) -> None:
    """Train ``member`` with ``ranks`` ranks on this node; the other ``nodes`` do the same. Ends the process."""
    array = ArrayFolder(Path(folder))
    is_head = os.environ["SLURM_NODEID"] == "0"
    with PassOn() as pass_on:  # in place of submitit's own handlers
        if is_head:
            array.start_attempt(member, task_id(), os.environ["SLURM_JOB_NODELIST"])
        job_file = array.member_file(member)
        try:
            manifest_of(Path(load_job(job_file, []).data.path))
        except (JobError, DataError) as error:
            sentence = f"on {socket.gethostname()}: {error}"
            array.explain_attempt(member, sentence)
            print(f"error: {sentence}", file=sys.stderr, flush=True)
            sys.exit(JobError.exit_status)
        process = start_torchrun(
            ranks, ["-m", "fer_ddp", "train", str(job_file)], rendezvous=_rendezvous(nodes) if nodes > 1 else None
        )
        pass_on.to(process)
        exit_status = process.wait()
    if exit_status == 0 or (pass_on.asked_to_stop and not is_head):
        sys.exit(0)  # else --kill-on-bad-exit would end the head before it has said what happened
    if not pass_on.asked_to_stop:
        sys.exit(exit_status if exit_status in (1, 2) else 1)
    warned = any(number in (signal.SIGUSR1, signal.SIGUSR2) for number in pass_on.signals)
    sys.exit(REQUEUE if warned else LEFT_TO_SLURM)


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
    """In the batch script, once ``run_member`` has ended on all nodes: write down how, and requeue if that helps."""
    array, task = ArrayFolder(folder), task_id()
    if exit_status in (128 + signal.SIGUSR1, 128 + signal.SIGUSR2):  # warned before anything listened
        exit_status = REQUEUE
    member = array.submissions[submission]["members"][int(os.environ.get("SLURM_ARRAY_TASK_ID", 0))]
    attempt = array.end_attempt(member, task, os.environ["SLURM_JOB_NODELIST"], exit_status)
    if attempt.sentence is None and exit_status not in (0, REQUEUE, LEFT_TO_SLURM):
        array.explain_attempt(member, _sentence(array.runs[member], exit_status))
    if exit_status in (0, JobError.exit_status, LEFT_TO_SLURM):
        return
    here = [each for each in array.attempts(member) if each.job_id == task][-FAILURES_AT_ONE_STEP:]
    if [each.failed and each.saved_step == attempt.saved_step for each in here] == [True] * FAILURES_AT_ONE_STEP:
        print(
            f"{member}: failed {FAILURES_AT_ONE_STEP} times at step {attempt.saved_step}, so it is not tried again; "
            f"`python -m launch resume {array.name}` does",
            file=sys.stderr,
        )
        return
    try:
        slurm_commands.requeue(task)
    except RunError as error:
        print(f"{member}: can't be requeued ({error}); `python -m launch resume {array.name}` goes on", file=sys.stderr)


def _sentence(run: RunFolder, exit_status: int) -> str:
    """Why it failed, as far as anyone knows."""
    status = run.status()
    if status.get("state") == "failed":
        return str(status["message"])
    killed_by = {128 + number: number.name for number in signal.Signals}.get(exit_status)
    return f"killed by {killed_by}" if killed_by else f"ended with exit status {exit_status}; the log tells how"


if __name__ == "__main__":
    after(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
