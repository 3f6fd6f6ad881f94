"""An array on this machine: one member after another, and again only what is not finished."""

import csv
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from forking import fork, run_forked
from interrupting import children, wait_until
from launching import ROOT

from fer_ddp.runs.folder import RunFolder
from launch.local import _slots


def local(workplace: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the array; what its members do is all that matters, so they are forked as well."""
    words = ["-P", str(ROOT / "tests/support/launch_forked.py"), "local", "jobs/arrays/four.yaml", "--ranks", "1"]
    return run_forked(1, *words, *arguments, cwd=workplace, timeout=300)


def test_a_failed_member_does_not_hide_the_others_and_the_same_command_does_what_is_left(workplace: Path) -> None:
    array = {"jobs": ["../tiny.yaml"], "seeds": [0, 1], "overrides": {"epochs": 1}}
    (workplace / "jobs/arrays/four.yaml").write_text(yaml.safe_dump(array))
    first = local(workplace)
    assert (first.returncode, re.sub(r"\d+\.\d+|\d+(?= s left)", "N", first.stdout).splitlines()) == (
        0,
        [
            "tiny-seed0: started",
            "tiny-seed0: finished; 1/2 done, best val N, N s left (1 not started)",
            "tiny-seed1: started",
            "tiny-seed1: finished; 2/2 done, best val N",
            "look at runs/four.launch/report.html",
        ],
    ), first.stderr
    run = workplace / "runs/four/tiny-seed0"
    RunFolder(run).write_status("interrupted")
    (run / "checkpoints/last.safetensors").write_bytes(b"damaged")
    second = local(workplace)
    assert (second.returncode, re.sub(r"\d+\.\d+", "N", second.stdout).splitlines(), second.stderr) == (
        1,
        [
            "four: 1 of 2 were finished before",
            "tiny-seed0: started",
            "tiny-seed0: failed, see runs/four.launch/logs/tiny-seed0.log; 1/2 done, best val N (1 failed)",
            "look at runs/four.launch/report.html",
        ],
        "error: four: 1 of 2 failed (tiny-seed0)\n",
    )
    rows = csv.DictReader((workplace / "runs/four.launch/report.csv").read_text().splitlines())
    assert [(row["run"], bool(row["left_out"])) for row in rows] == [
        ("runs/four/tiny-seed1", False),
        ("runs/four/tiny-seed0", True),
    ]


def test_a_killed_run_of_one_rank_is_reported(workplace: Path) -> None:
    words = ["-P", "-m", "launch", "local", "jobs/tiny.yaml", "--ranks", "1", "epochs=400"]
    process = fork(words, cwd=workplace)
    run = workplace / "runs/tiny-seed0"
    wait_until(lambda: (run / "metrics.jsonl").exists(), process)
    (trainer,) = children(process.pid)
    os.kill(trainer, signal.SIGKILL)
    output = process.communicate(timeout=60)[0]
    assert (process.returncode, output.splitlines()[-1]) == (
        1,
        "error: runs/tiny-seed0: was killed by SIGKILL; run the same command again to resume",
    )


def test_a_run_that_is_stopped_before_it_starts_is_interrupted(workplace: Path) -> None:
    words = ["-P", "-m", "launch", "local", "jobs/tiny.yaml", "--ranks", "1"]
    process = fork(words, cwd=workplace)
    wait_until(lambda: any(b"train" in arguments(pid) for pid in children(process.pid)), process)
    process.terminate()
    output = process.communicate(timeout=60)[0]
    assert (process.returncode, output) == (
        75,
        "interrupted: runs/tiny-seed0: stopped before there was anything to save\n"
        "to resume: python -m launch local jobs/tiny.yaml --ranks 1\n",
    )


def arguments(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def test_one_rank_does_not_wait_for_the_ranks_of_a_variable_left_over(workplace: Path) -> None:
    words = ["-P", "-m", "launch", "local", "jobs/tiny.yaml", "--ranks", "1", "epochs=1"]
    left_over = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    done = run_forked(1, *words, cwd=workplace, environment=left_over, timeout=100)
    assert done.returncode == 0, done.stderr


def test_a_member_that_is_stopped_alone_leaves_the_array_unfinished(workplace: Path) -> None:
    array = {"jobs": ["../tiny.yaml"], "seeds": [0], "overrides": {"epochs": 400}}
    (workplace / "jobs/arrays/one.yaml").write_text(yaml.safe_dump(array))
    words = ["-P", "-m", "launch", "local", "jobs/arrays/one.yaml", "--ranks", "1"]
    process = fork(words, cwd=workplace)
    wait_until(lambda: (workplace / "runs/one/tiny-seed0/metrics.jsonl").exists(), process)
    (trainer,) = children(process.pid)
    os.kill(trainer, signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    lines = output.splitlines()
    assert (process.returncode, lines[1].partition(";")[0], lines[-2:]) == (
        75,
        "tiny-seed0: stopped, its state is saved",
        [
            "interrupted: one: tiny-seed0 stopped early",
            "to resume: python -m launch local jobs/arrays/one.yaml --ranks 1",
        ],
    )


@pytest.mark.parametrize(
    ("visible", "ranks", "slots"),
    [
        (None, 1, ["0", "1", "2"]),
        (None, 2, ["0,1"]),
        ("4,5,7", 1, ["4", "5", "7"]),
        ("GPU-a,GPU-b,GPU-c", 2, ["GPU-a,GPU-b"]),
    ],
)
def test_members_get_the_gpus_that_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, ranks: int, slots: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert _slots(ranks, 3) == slots
