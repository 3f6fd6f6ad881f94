"""Runs a job on this machine through torchrun: a rank a GPU, or two on a machine without."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from fer_ddp.config import load_job
from fer_ddp.errors import Interrupted, JobError, RunError
from fer_ddp.run_folder import RunFolder

RANKS_WITHOUT_GPU = 2
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


def run_local(job_path: Path, overrides: list[str], ranks: int | None) -> None:
    """Train ``job_path`` with ``ranks`` ranks (None: as many as GPUs, two without).

    A stop signal to this process is passed on, and the run saves its state. Raises JobError before anything is
    started, RunError if the run failed, Interrupted if it stopped early.
    """
    job = load_job(job_path, overrides)
    gpus = _gpu_count()
    ranks = ranks or gpus or RANKS_WITHOUT_GPU
    if gpus and ranks > gpus:
        raise JobError(f"--ranks {ranks}: this machine has {gpus} GPU{'s' if gpus > 1 else ''}; start one rank a GPU")
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"),
        *("--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2",),
        *("-m", "fer_ddp", "train", str(job_path), *overrides),
    ]
    threads = max(1, len(os.sched_getaffinity(0)) // ranks)
    environment = {"OMP_NUM_THREADS": str(threads)} | os.environ
    # A session of its own: Ctrl-C in the terminal reaches this process alone, which passes it on once.
    process = subprocess.Popen(command, env=environment, start_new_session=True)

    def pass_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(signal.SIGTERM)

    previous = {number: signal.signal(number, pass_on) for number in _STOP_SIGNALS}
    try:
        exit_status = process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if exit_status == 0:
        return
    # torchrun turns every failure of a worker into its own 1; the run folder knows more.
    state = RunFolder(job.run).status()
    if state.get("state") == "interrupted":
        raise Interrupted(f"{job.run}: stopped at step {state['step']}; the same command goes on")
    raise RunError(f"{job.run}: {state.get('error', 'the run failed; its message is above')}")


def _gpu_count() -> int:
    import torch

    return torch.cuda.device_count()
