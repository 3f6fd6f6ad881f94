"""Runs a job on this machine through torchrun: a rank a GPU, or two on a machine without."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import torch

from fer_ddp.config import load_job
from fer_ddp.errors import Interrupted, JobError, RunError
from fer_ddp.job_checks import check_run
from fer_ddp.run_folder import RunFolder
from fer_ddp.signals import STOP_SIGNALS
from shards.scan import manifest_of

RANKS_WITHOUT_GPU = 2


def run_local(job_path: Path, overrides: list[str], ranks: int | None) -> None:
    """Train ``job_path`` with ``ranks`` ranks (None: as many as GPUs, two without).

    A stop signal to this process is passed on, and the run saves its state. Raises JobError or shards' DataError
    before anything is started, RunError if the run failed, Interrupted if it stopped early.
    """
    job = load_job(job_path, overrides)
    gpus = torch.cuda.device_count()
    if ranks is None:
        ranks = gpus or RANKS_WITHOUT_GPU
    if ranks < 1:
        raise JobError(f"--ranks {ranks}: there must be 1 or more")
    if gpus and ranks > gpus:
        raise JobError(f"--ranks {ranks}: this machine has {gpus} GPU{'s' if gpus > 1 else ''}; start one rank a GPU")
    run = RunFolder(job.run)
    check_run(run, job, manifest_of(Path(job.data.path)), ranks)
    before = run.status()
    exit_status = _torchrun(ranks, "-m", "fer_ddp", "train", str(job_path), *overrides)
    if exit_status == 0:
        return
    # torchrun turns every failure of a worker into its own 1; the run folder knows more.
    status = run.status()
    if status != before and status["state"] == "interrupted":
        raise Interrupted(f"{run.path}: the state is saved; the same command goes on")
    raise RunError(f"{run.path}: the run failed; the lines above say how")


def _torchrun(ranks: int, *arguments: str) -> int:
    """Run ``python ARGUMENTS`` on ``ranks`` ranks; returns torchrun's exit status."""
    command = [
        *(sys.executable, "-m", "launch.quiet_torchrun", "--standalone", f"--nproc-per-node={ranks}"),
        *arguments,
    ]
    threads = max(1, len(os.sched_getaffinity(0)) // ranks)
    environment = {"OMP_NUM_THREADS": str(threads)} | os.environ
    process: subprocess.Popen[bytes] | None = None
    asked_to_stop = False

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True
        if process is not None:
            process.send_signal(signal.SIGTERM)

    previous = {number: signal.signal(number, pass_on) for number in STOP_SIGNALS}
    try:
        # A session of its own: Ctrl-C in the terminal reaches this process alone, which passes it on once.
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        if asked_to_stop:
            process.send_signal(signal.SIGTERM)
        return process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
