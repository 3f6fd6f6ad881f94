"""Runs a job, or an array of jobs, on this machine."""

import os
import subprocess
import time
from collections import deque
from pathlib import Path

import torch

from fer_ddp.errors import Interrupted, JobError, RunError
from fer_ddp.runs.folder import RunFolder
from fer_ddp.text import plural
from launch.array import JobArray, Member, check_members, is_array, load_array
from launch.folder import ArrayFolder, folder_of, write_summary
from launch.torchrun import SignalForwarder, killed_by, start_ranks

RANKS_WITHOUT_GPU = 2


def run_local(path: Path, overrides: list[str], ranks: int | None) -> None:
    """Train a job with ``ranks`` ranks (None: as many as GPUs, two without), or an array's members, each with ``ranks``
    (None: one a GPU, two without): as many at once as there are GPUs for, one after another without.

    A stop signal to this process is passed on, and what runs saves its state. Raises JobError or shards' DataError
    before anything is started, RunError if a run failed, Interrupted if it stopped early.
    """
    array, gpus = load_array(path, overrides), torch.cuda.device_count()
    if ranks is None:
        ranks = (1 if is_array(path) else gpus) if gpus else RANKS_WITHOUT_GPU
    if ranks < 1:
        raise JobError(f"--ranks {ranks}: there must be 1 or more")
    if gpus and ranks > gpus:
        raise JobError(f"--ranks {ranks}: this machine has {plural(gpus, 'GPU')}; start one rank a GPU")
    check_members(array.members, ranks)
    if is_array(path):
        _run_array(array, ranks, gpus)
    else:
        _run_job(RunFolder(array.members[0].job.run), ["-m", "fer_ddp", "train", str(path), *overrides], ranks)


def _run_job(run: RunFolder, arguments: list[str], ranks: int) -> None:
    before = run.status()
    with SignalForwarder() as pass_on:
        process = start_ranks(ranks, arguments)
        pass_on.to(process)
        exit_status = process.wait()
    if exit_status == 0:
        return
    if exit_status == JobError.exit_status:
        raise JobError(f"{run.path}: nothing was trained; the lines above say why")
    # A signal that ended the agent hides what its ranks said; the run folder knows.
    status = run.status()
    if status != before and status["state"] == "interrupted":
        raise Interrupted(f"{run.path}: the state is saved; the same command goes on")
    if status == before and (pass_on.asked_to_stop or exit_status == Interrupted.exit_status):
        raise Interrupted(f"{run.path}: stopped before there was anything to save; the same command starts it")
    signal_name = killed_by(exit_status)
    if signal_name is not None:
        raise RunError(f"{run.path}: was killed by {signal_name}; the same command goes on")
    raise RunError(f"{run.path}: the run failed; the lines above say how")


def _run_array(array: JobArray, ranks: int, gpus: int) -> None:
    folder = folder_of(array)
    if folder.exists() and folder.cluster is not None:
        raise JobError(f"{folder.path}: is on a cluster; `python -m launch resume {array.name}` goes on with it there")
    folder.write(array, cluster=None)
    slots = deque(_slots(ranks, gpus))
    waiting = deque(member for member in array.members if RunFolder(member.job.run).status().get("state") != "finished")
    if len(waiting) < len(array.members):
        print(f"{array.name}: {len(array.members) - len(waiting)} of {len(array.members)} were finished before")
    running: dict[subprocess.Popen[bytes], tuple[Member, str | None]] = {}
    failed: list[str] = []
    stopped: list[str] = []
    with SignalForwarder() as pass_on:
        while running or (waiting and not pass_on.asked_to_stop):
            while waiting and slots and not pass_on.asked_to_stop:
                member, slot = waiting.popleft(), slots.popleft()
                process = _start(folder, member, ranks, slot)
                running[process] = member, slot
                pass_on.to(process)
                print(f"{member.name}: started", flush=True)
            for process in [process for process in running if process.poll() is not None]:
                member, slot = running.pop(process)
                slots.append(slot)
                state = RunFolder(member.job.run).status().get("state")
                if process.returncode == 0:
                    print(f"{member.name}: finished", flush=True)
                elif state == "interrupted" and not pass_on.asked_to_stop:
                    stopped.append(member.name)
                    print(f"{member.name}: stopped, its state is saved", flush=True)
                elif not pass_on.asked_to_stop:
                    failed.append(member.name)
                    _log_death(folder, member, process.returncode)
                    print(f"{member.name}: failed; {_log(folder, member)} tells how", flush=True)
            time.sleep(0.05)
    if pass_on.asked_to_stop:
        raise Interrupted(f"{array.name}: the states are saved; the same command goes on")
    if len(failed) + len(stopped) < len(array.members):
        print(f"look at {write_summary(folder.path)}", flush=True)
    if failed:
        raise RunError(f"{array.name}: {len(failed)} of {len(array.members)} failed ({', '.join(failed)})")
    if stopped:
        raise Interrupted(f"{array.name}: {', '.join(stopped)} stopped early; the same command goes on")


def _slots(ranks: int, gpus: int) -> list[str | None]:
    """The GPUs of each member that runs at once; one slot without any where the machine has none."""
    if not gpus:
        return [None]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",")[:gpus] if visible else [str(number) for number in range(gpus)]
    return [",".join(names[first : first + ranks]) for first in range(0, gpus - ranks + 1, ranks)]


def _log(folder: ArrayFolder, member: Member) -> Path:
    return folder.logs / f"{member.name}.log"


def _log_death(folder: ArrayFolder, member: Member, exit_status: int) -> None:
    signal_name = killed_by(exit_status)
    if signal_name is not None:
        with open(_log(folder, member), "a", encoding="utf-8") as log:
            log.write(f"error: {member.name} was killed by {signal_name}\n")


def _start(folder: ArrayFolder, member: Member, ranks: int, gpus: str | None) -> subprocess.Popen[bytes]:
    arguments = ["-m", "fer_ddp", "train", str(folder.member_file(member.name))]
    with open(_log(folder, member), "ab") as log:
        environment = {} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}
        return start_ranks(ranks, arguments, environment=environment, output=log)
