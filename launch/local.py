"""Runs a job, or an array of jobs, on this machine."""

import os
import subprocess
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from fer_ddp.config.recipe_files import find_job
from fer_ddp.data.synthetic import drawn_if_missing
from fer_ddp.errors import Interrupted, JobError, RunError
from fer_ddp.runs.folder import RunFolder
from fer_ddp.text import plural
from launch.array import JobArray, Member, check_members, is_array, load_array
from launch.folder import ArrayFolder, write_summary
from launch.status import members_status, progress
from launch.torchrun import SignalForwarder, killed_by, start_ranks
from shards.files import append_bytes, open_to_append

RANKS_WITHOUT_GPU = 2


def run_local(name: str, overrides: list[str], ranks: int | None) -> None:
    """Train a job with ``ranks`` ranks (None: as many as GPUs, two without), or an array's members, each with ``ranks``
    (None: one a GPU, two without): as many at once as there are GPUs for, one after another without.

    ``name`` is a path or a recipe's name. A stop signal to this process is forwarded, and what runs saves its state.
    Raises JobError or shards' DataError before anything is started, RunError if a run failed, Interrupted if it stopped
    early.
    """
    array, gpus, alone = load_array(name, overrides), torch.cuda.device_count(), not is_array(find_job(name))
    if ranks is None:
        ranks = (gpus if alone else 1) if gpus else RANKS_WITHOUT_GPU
    if ranks < 1:
        raise JobError(f"--ranks {ranks}: there must be 1 or more")
    if gpus and ranks > gpus:
        raise JobError(f"--ranks {ranks}: this machine has {plural(gpus, 'GPU')}; start one rank a GPU")
    given, array = array, _with_data(array)
    damaged = check_members(array.members, ranks)
    if alone:
        if damaged:
            raise next(iter(damaged.values()))
        job = array.members[0].job
        drawn = [f"data.path={job.data.path}"] if array != given else []
        _run_job(RunFolder(job.run), ["-m", "fer_ddp", "train", name, *overrides, *drawn], ranks)
    else:
        _run_array(array, ranks, gpus, damaged)


def _with_data(array: JobArray) -> JobArray:
    """``array`` on the synthetic faces of the cache folder where its members name some that are not there."""
    drawn = {data: drawn_if_missing(data) for data in {member.job.data for member in array.members}}
    members = (replace(each, job=replace(each.job, data=drawn[each.job.data])) for each in array.members)
    return replace(array, members=tuple(members))


def _run_job(run: RunFolder, arguments: list[str], ranks: int) -> None:
    before = run.status()
    with SignalForwarder() as forwarder:
        process = start_ranks(ranks, arguments)
        forwarder.to(process)
        exit_status = process.wait()
    if exit_status == 0:
        return
    if exit_status == JobError.exit_status:
        raise JobError(f"{run.path}: nothing was trained; see the message above")
    # A signal that ended the agent hides how its ranks ended; the run folder knows.
    status = run.status()
    if status != before and status["state"] == "finished":
        return
    if status != before and status["state"] == "interrupted":
        raise Interrupted(f"{run.path}: the state is saved")
    if status == before and (forwarder.asked_to_stop or exit_status == Interrupted.exit_status):
        raise Interrupted(f"{run.path}: stopped before there was anything to save")
    _record_death(run, exit_status)
    signal_name = killed_by(exit_status)
    if signal_name is not None:
        raise RunError(f"{run.path}: was killed by {signal_name}; run the same command again to resume")
    raise RunError(f"{run.path}: the run failed; see the message above")


def _record_death(run: RunFolder, exit_status: int) -> None:
    """Where rank zero could not write how the run ended, as when it was killed, write that it failed."""
    if not run.path.is_dir() or run.status().get("state") != "running":
        return
    try:
        run.lock()
    except JobError:  # it is another process's
        return
    try:
        signal_name = killed_by(exit_status)
        what = f"was killed by {signal_name}" if signal_name else "a rank was killed or hung"
        run.write_status("failed", message=f"{what}; run the same command again to resume")
    finally:
        run.unlock()


def _run_array(array: JobArray, ranks: int, gpus: int, damaged: dict[str, RunError]) -> None:
    if array.folder.exists() and array.folder.cluster is not None:
        raise JobError(f"{array.folder.path}: is on a cluster; resume it there: fer-ddp launch resume {array.name}")
    folder = array.write(cluster=None)
    slots = deque(_slots(ranks, gpus))
    at_once = len(slots)
    waiting: deque[Member] = deque()
    for member in array.members:
        try:
            if member.name not in damaged and not _is_finished(member):
                waiting.append(member)
        except RunError as error:
            damaged = damaged | {member.name: error}
    for name, damage in damaged.items():
        print(f"{name}: not started; {damage}", flush=True)
    finished = len(array.members) - len(waiting) - len(damaged)
    if finished:
        print(f"{array.name}: {finished} of {len(array.members)} were finished before")
    running: dict[subprocess.Popen[bytes], tuple[Member, str | None]] = {}
    failed: list[str] = [*damaged]
    stopped: list[str] = []
    with SignalForwarder() as forwarder:
        while running or (waiting and not forwarder.asked_to_stop):
            while waiting and slots and not forwarder.asked_to_stop:
                member, slot = waiting.popleft(), slots.popleft()
                process = _start(folder, member, ranks, slot)
                running[process] = member, slot
                forwarder.to(process)
                print(f"{member.name}: started", flush=True)
            for process in [process for process in running if process.poll() is not None]:
                member, slot = running.pop(process)
                slots.append(slot)
                state = _state(member)
                ended = "finished"
                if process.returncode == 0 or (state == "finished" and _is_finished(member)):  # or stopped just then
                    finished += 1
                elif state == "interrupted":
                    stopped.append(member.name)
                    ended = "stopped, its state is saved"
                elif not forwarder.asked_to_stop:
                    failed.append(member.name)
                    _log_death(folder, member, process.returncode)
                    ended = f"failed, see {_log(folder, member)}"
                if not forwarder.asked_to_stop:
                    print(f"{member.name}: {ended}; {progress(members_status(folder), at_once)}", flush=True)
            time.sleep(0.05)
    if forwarder.asked_to_stop and finished + len(failed) < len(array.members):
        raise Interrupted(f"{array.name}: the states are saved; {progress(members_status(folder), at_once)}")
    if len(failed) + len(stopped) < len(array.members):
        print(f"look at {write_summary(folder.path)}", flush=True)
    if failed:
        raise RunError(f"{array.name}: {len(failed)} of {len(array.members)} failed ({', '.join(failed)})")
    if stopped:
        raise Interrupted(f"{array.name}: {', '.join(stopped)} stopped early")


def _state(member: Member) -> str | None:
    try:
        state: str | None = RunFolder(member.job.run).status().get("state")
    except RunError:  # the process has told
        return None
    return state


def _is_finished(member: Member) -> bool:
    run = RunFolder(member.job.run)
    saved = run.saved_config() or {}  # with more epochs than those, it is trained further
    return run.status().get("state") == "finished" and saved.get("epochs", member.job.epochs) == member.job.epochs


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
    with suppress(RunError):  # a damaged status.json, which `fer-ddp launch status` names
        _record_death(RunFolder(member.job.run), exit_status)
    signal_name = killed_by(exit_status)
    if signal_name is not None:
        append_bytes(_log(folder, member), f"error: {member.name} was killed by {signal_name}\n".encode())


def _start(folder: ArrayFolder, member: Member, ranks: int, gpus: str | None) -> subprocess.Popen[bytes]:
    arguments = ["-m", "fer_ddp", "train", str(folder.member_file(member.name))]
    with open_to_append(_log(folder, member)) as log:
        environment = {} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}
        return start_ranks(ranks, arguments, environment=environment, output=log)
