"""Submits an array to SLURM through submitit: one task a member, one torchrun a node."""

import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, suppress
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fer_ddp.errors import JobError, RunError
from fer_ddp.text import plural
from launch import slurm_commands
from launch.array import check_members, load_array
from launch.cluster import Cluster, cluster_from_dict, load_cluster
from launch.folder import ArrayFolder, write_summary
from launch.frozen_code import environment, freeze_code
from launch.slurm_task import run_member
from launch.status import MemberStatus, members_status
from shards.reading.scan import load_or_scan_manifest

ENDING_SECONDS = 90
"""SLURM kills what does not end by itself 30 seconds after the signal, unless the site sets another time."""


def submit_array(job: str, overrides: list[str], cluster_name: str) -> str:
    """Submit a job or an array to a cluster, each by path or name; returns a line on what was submitted.

    Raises JobError or shards' DataError before anything is written, RunError if SLURM refuses, and then nothing is
    left behind.
    """
    cluster = load_cluster(cluster_name)
    array = load_array(job, overrides)
    for error in check_members(array.members, cluster.world_size).values():
        raise error
    folder = array.folder
    _check_path(folder)
    slurm_commands.require("sbatch")
    if folder.exists():
        raise JobError(
            f"{folder.path}: {array.name} was started already; run `fer-ddp launch resume {array.name}`, "
            f"or remove the folder to start it under this name again"
        )
    made = [parent for parent in folder.path.parents if not parent.exists()]
    try:
        freeze_code(folder.code, [member.job.model.name for member in array.members])
        array.write(cluster.to_dict())
        return _submit(folder, cluster, [member.name for member in array.members])
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # something else is in it by now
                parent.rmdir()
        raise


def resume_array(folder: ArrayFolder, *, new_code: bool) -> str:
    """Submit the members that are neither finished nor in the queue; returns a line on which.

    They run the code that was frozen when the array was submitted, or, with ``new_code``, the present one. Raises
    JobError if the array was not submitted to a cluster, RunError if SLURM refuses.
    """
    if folder.cluster is None:
        raise JobError(f"{folder.name}: ran on this machine; run `fer-ddp launch local` again to resume")
    _check_path(folder)
    slurm_commands.require("sbatch")
    cluster = cluster_from_dict(folder.cluster, f"{folder.path / 'array.json'}: cluster")
    members = _once_none_is_ending(folder)
    missing = [each.name for each in members if each.can_be_resumed]
    if not missing:
        return f"{folder.name}: nothing to resume; every member is finished or in the queue"
    if new_code:
        freeze_code(folder.code, folder.model_names())
    return _submit(folder, cluster, missing)


def _once_none_is_ending(folder: ArrayFolder) -> list[MemberStatus]:
    """The status once what was cancelled a moment ago has left its nodes, but after `ENDING_SECONDS` in any case."""
    given_up = time.monotonic() + ENDING_SECONDS
    while True:
        members = members_status(folder)
        if time.monotonic() > given_up or all(each.state != "ending" for each in members):
            return members
        time.sleep(1)


def cancel_array(folder: ArrayFolder) -> str:
    """Cancel what SLURM has of an array; what runs saves its state. Returns a line on how many.

    Raises JobError if the array was not submitted to a cluster.
    """
    if folder.cluster is None:
        raise JobError(f"{folder.name}: ran on this machine; Ctrl-C in its terminal interrupts it")
    present = slurm_commands.queue(folder.job_ids())
    if present:
        slurm_commands.cancel(sorted({task.partition("_")[0] for task in present}))
    return f"{folder.name}: cancelled {plural(len(present), 'task')}; to resume: fer-ddp launch resume {folder.name}"


def dry_run(job: str, overrides: list[str], cluster_name: str, images_per_second: float | None) -> str:
    """What `submit_array` would submit, as text: the members, the sbatch file, the GPU hours. Writes nothing.

    Where the data are not here, the members are not checked against them, and a line reports that.
    """
    cluster = load_cluster(cluster_name)
    array = load_array(job, overrides)
    absent = sorted({member.job.data.path for member in array.members if not Path(member.job.data.path).exists()})
    check_members(tuple(m for m in array.members if m.job.data.path not in absent), cluster.world_size)
    folder = array.folder
    _check_path(folder)
    ranks = "1 rank" if cluster.world_size == 1 else f"{cluster.world_size} ranks"
    lines = [f"{array.name}: {plural(len(array.members), 'run')}, each on {ranks}"]
    lines += [f"  {task:>3}  {member.job.run}" for task, member in enumerate(array.members)]
    unit = "GPU" if cluster.gpus_per_node else "rank"
    if images_per_second is not None:
        images = sum(
            member.job.epochs * load_or_scan_manifest(Path(member.job.data.path)).splits["train"].samples
            for member in array.members
        )
        hours = images / images_per_second * cluster.world_size / 3600
        lines.append(f"{images:,} images at {images_per_second:,.0f} a second and run: {hours:,.1f} {unit} hours")
    lines += [f"{path}: there is no such folder here, so the jobs were not checked against it" for path in absent]
    lines += ["", sbatch_text(folder, cluster, len(array.members))]
    return "\n".join(lines)


def sbatch_text(folder: ArrayFolder, cluster: Cluster, members: int) -> str:
    """The file that submitit gives to sbatch, from a submission to commands that do nothing."""
    with TemporaryDirectory() as temporary:
        commands, logs = Path(temporary).resolve() / "bin", Path(temporary).resolve() / "logs"
        commands.mkdir()
        for name in ("sbatch", "srun"):  # submitit looks for both
            (commands / name).write_text("#!/bin/sh\necho Submitted batch job 0\n")
            (commands / name).chmod(0o755)
        path = os.environ["PATH"]
        os.environ["PATH"] = f"{commands}{os.pathsep}{path}"
        try:
            _sbatch(logs, [partial(int)] * members, _parameters(folder, cluster, 0))
        finally:
            os.environ["PATH"] = path
        (script,) = logs.glob("*_submission.sh")
        return script.read_text().replace(str(logs), str(folder.logs_of(0).resolve()))


def _check_path(folder: ArrayFolder) -> None:
    """sbatch's own lines can't be quoted, SLURM replaces ``%j`` in them, and submitit writes the folder unquoted.

    Raises JobError.
    """
    path = str(folder.path.resolve())
    if not re.fullmatch(r"[\w.+=,:@/-]+", path):
        raise JobError(
            f"{path!r}: can't be written into a SLURM script; give the array's file, its run and the folders above "
            f"names of letters, digits and . + = , : @ _ - only"
        )


def _submit(folder: ArrayFolder, cluster: Cluster, members: list[str]) -> str:
    calls = [partial(run_member, str(folder.path), member, cluster.nodes, cluster.ranks) for member in members]
    submission = folder.begin_submission(members)
    job_ids: list[str] = []
    try:
        job_ids += [_sbatch(folder.logs_of(submission), calls, _parameters(folder, cluster, submission))]
        summary = partial(write_summary, folder.path)
        job_ids += [_sbatch(folder.logs_of(submission), [summary], _summary_parameters(folder, cluster, job_ids[0]))]
    except BaseException:
        if job_ids:
            slurm_commands.cancel(job_ids)
        folder.drop_submission(submission)
        raise
    folder.end_submission(submission, *job_ids)
    submitted = f"{plural(len(members), 'run')} submitted as job {job_ids[0]}"
    return f"{folder.name}: {submitted}; to watch: fer-ddp launch status {folder.name}"


def _sbatch(logs: Path, calls: Sequence[Callable[[], Any]], parameters: dict[str, Any]) -> str:
    """Submit one task a call; returns SLURM's number of the job. Raises RunError if SLURM refuses."""
    import submitit

    executor = submitit.SlurmExecutor(logs.resolve())
    executor.update_parameters(**parameters)
    try:
        with redirect_stderr(StringIO()), executor.batch():  # submitit prints there what the error repeats
            jobs = [executor.submit(call) for call in calls]
    except submitit.core.utils.FailedJobError as error:
        why = [line.removeprefix("sbatch: error: ") for line in str(error).splitlines() if line.strip()]
        raise RunError(f"sbatch refused: {'; '.join(why)}") from None
    return str(jobs[0].job_id).partition("_")[0]


def _parameters(folder: ArrayFolder, cluster: Cluster, submission: int) -> dict[str, Any]:
    """submitit's names for the keys of the profile."""
    after = f"{shlex.quote(sys.executable)} -m launch.slurm_task {shlex.quote(str(folder.path))} {submission}"
    parameters: dict[str, Any] = {
        "job_name": folder.name,
        "time": cluster.time_minutes,
        "nodes": cluster.nodes,
        "ntasks_per_node": 1,
        "cpus_per_task": cluster.cpus_per_node,
        "signal_delay_s": cluster.signal_seconds,
        "array_parallelism": cluster.array_parallelism,
        "setup": [*cluster.setup, *_exports(folder)],
        # `after` may put this very task back into the queue, which ends this script.
        "teardown": ["exit_status=$?", f"{after} $exit_status", "exit $exit_status"],
        "srun_args": [f"--cpus-per-task={cluster.cpus_per_node}", "--kill-on-bad-exit=1"],
        "stderr_to_stdout": True,
    }
    if cluster.gpus_per_node:
        parameters["gpus_per_node"] = cluster.gpus_per_node
    if cluster.memory_gb is not None:
        parameters["mem"] = f"{round(cluster.memory_gb * 1024)}M"
    return parameters | _place(cluster, {"requeue": True})


def _summary_parameters(folder: ArrayFolder, cluster: Cluster, job_id: str) -> dict[str, Any]:
    return {
        "job_name": f"{folder.name}-summary",
        "time": 30,
        "cpus_per_task": 1,
        "dependency": f"afterany:{job_id}",
        "setup": [*cluster.setup, *_exports(folder)],
        "stderr_to_stdout": True,
    } | _place(cluster, {})


def _place(cluster: Cluster, more: dict[str, Any]) -> dict[str, Any]:
    """Where the profile wants it, and its own options of sbatch beside ``more``."""
    names = ("partition", "account", "qos", "constraint")
    place = {name: getattr(cluster, name) for name in names if getattr(cluster, name) is not None}
    return place | {"additional_parameters": more | dict(cluster.sbatch)}


def _exports(folder: ArrayFolder) -> list[str]:
    return [f"export {name}={shlex.quote(value)}" for name, value in environment(folder.code).items()]
