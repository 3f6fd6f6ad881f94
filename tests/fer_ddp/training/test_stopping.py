"""A run that is asked to stop saves its state; an error on one rank ends all ranks with a message."""

import json
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
from forking import run_forked
from interrupting import (
    children,
    listening_addresses,
    local,
    resume,
    same_files,
    start,
    steps_done,
    stopped,
    undisturbed_runs,
    wait_until,
    write_job,
)

from fer_ddp.data.dataset import FERDataset
from fer_ddp.runs.files import saved_step
from shards.packing.packer import pack
from shards.sources.synthetic_faces import Faces, scan_faces


@pytest.fixture(scope="module")
def job(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_job(tmp_path_factory.mktemp("stopping") / "job.yaml", faces)


@pytest.fixture(scope="module")
def long_evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job that trains two steps and then validates on 1,000 faces, which takes a while."""
    folder = tmp_path_factory.mktemp("long_evaluation")
    pack(partial(scan_faces, Faces(train=48, val=1000, test=7)), folder / "data")
    model = {"name": "plain_cnn", "arguments": {"channels": [32, 64], "hidden": 64}}
    return write_job(folder / "job.yaml", folder / "data", model=model, epochs=1)


def state_of(run: Path) -> str:
    return str(json.loads((run / "status.json").read_text())["state"])


@pytest.mark.long
def test_an_evaluation_that_sigterm_stops_is_repeated(long_evaluation: Path, tmp_path: Path) -> None:
    run, undisturbed = tmp_path / "run", undisturbed_runs(long_evaluation)
    process = start(local(long_evaluation, run))
    wait_until(lambda: saved_step(run) == 2, process)
    output = stopped(process)
    assert (process.returncode, (run / "metrics.jsonl").exists()) == (75, False), output
    assert "stopped by SIGTERM during an evaluation, which will be repeated" in output
    resume(long_evaluation, run, 2)
    same_files(run, undisturbed(2))


def test_a_killed_rank_ends_the_others_with_a_message(job: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(local(job, run))
    wait_until(lambda: steps_done(run) >= 3, process)
    assert listening_addresses(children(process.pid)) == {"127.0.0.1"}  # others on the network cannot connect
    ranks = [pid for pid in children(process.pid) if b"RANK=1" in environment(pid)]
    os.kill(ranks[0], signal.SIGKILL)
    output = process.communicate(timeout=30)[0]
    assert (process.returncode, "Traceback" in output) == (1, False), output
    assert "error: rank 1 was killed by SIGKILL" in output


def environment(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def test_a_damaged_shard_on_one_rank_ends_all_ranks_with_its_name(job: Path, faces: Path, tmp_path: Path) -> None:
    FERDataset(faces, "train")  # rank zero has them decoded, and does not read the shards again
    data = tmp_path / "faces"
    shutil.copytree(faces, data)
    shard = data / "train-000000.tar"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    support = "tests/support/other_cache_on_rank_one.py"
    ended = run_forked(2, support, str(tmp_path / "cache"), str(job), f"data.path={data}", f"run={tmp_path / 'run'}")
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: rank 1: {shard}: its sha256 is not the manifest's")
    assert (ended.returncode, state_of(tmp_path / "run")) == (1, "failed")


def test_a_rank_that_is_out_of_memory_reports_what_to_set(faces: Path, tmp_path: Path) -> None:
    model = {"name": "plain_cnn", "arguments": {"channels": [256, 4], "hidden": 16}}
    job = write_job(tmp_path / "job.yaml", faces, model=model, global_batch_size=240)
    ended = run_forked(2, "tests/support/little_memory_on_rank_one.py", str(job), f"run={tmp_path / 'run'}")
    assert "error: rank 1 is out of memory with 120 images at once; set micro_batch_size=60" in ended.stderr
    assert (ended.returncode, state_of(tmp_path / "run")) == (1, "failed")
