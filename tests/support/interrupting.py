"""Interrupts real runs, and compares what they ended in."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from forking import Forked, fork, run_forked
from launching import ROOT, run_files


def write_job(path: Path, data: Path, **changes: Any) -> Path:
    """A job of 30 small steps in three epochs on the test faces, every mechanism in it, a state every 3 steps."""
    model = {"channels": [4, 8], "hidden": 16, "batch_norm": True, "block_dropout": 0.1}
    job = {
        "data": {"path": str(data)},
        "model": {"name": "plain_cnn", "arguments": model},
        "optimizer": {"name": "adamw", "lr": 0.003, "gradient_clip_norm": 1.0},
        "schedule": {"name": "onecycle"},
        "augment": {"flip": 0.5, "rotation_degrees": 10.0, "erasing_probability": 0.3, "mixup_alpha": 0.2},
        "ema": {"decay": 0.9},
        "epochs": 3,
        "global_batch_size": 24,
        "precision": "float32",
        "memory_format": "channels_last",
        "log": {"every_steps": 1},
        "checkpoint": {"every_steps": 3},
        "wandb": {"mode": "disabled"},
    }
    path.write_text(yaml.safe_dump(job | changes))
    return path


def undisturbed_runs(job: Path) -> Callable[[int], Path]:
    runs: dict[int, Path] = {}

    def finished(ranks: int) -> Path:
        if ranks not in runs:
            runs[ranks] = job.parent / f"undisturbed-{job.stem}-{ranks}" / "run"
            resume(job, runs[ranks], ranks)
        return runs[ranks]

    return finished


def train_arguments(job: Path, run: Path) -> list[str]:
    return ["-m", "fer_ddp", "train", str(job), f"run={run}"]


def resume(job: Path, run: Path, ranks: int, *overrides: str) -> None:
    done = run_forked(ranks, *train_arguments(job, run), *overrides)
    assert done.returncode == 0, done.stderr


def start(arguments: list[str], cwd: Path = ROOT) -> subprocess.Popen[str]:
    """Start a real process."""
    return subprocess.Popen(
        arguments, cwd=cwd, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str] | Forked) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "waited for two minutes"
        time.sleep(0.01)


def steps_done(run: Path) -> int:
    path = run / "steps.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def kill_after(step: int, job: Path, run: Path, ranks: int, *overrides: str) -> None:
    """Start or resume the run, and SIGKILL all of its processes once ``step`` steps are logged."""
    process = fork([*train_arguments(job, run), *overrides], ranks=ranks)
    wait_until(lambda: steps_done(run) >= step, process)
    kill_group(process)


def kill_group(process: subprocess.Popen[str] | Forked) -> None:
    """SIGKILL what starts ranks and its ranks, which are in sessions of their own."""
    for pid in [*children(process.pid), process.pid]:
        os.kill(pid, signal.SIGKILL)
    process.communicate()


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [grandchild for child in map(int, listed) for grandchild in (*children(child), child)]


def listening_addresses(pids: list[int]) -> set[str]:
    """The addresses at which these processes take TCP connections; ``any`` is every address of the machine."""
    own = {os.readlink(link) for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir()}
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            address, state, inode = words[1].partition(":")[0], words[3], words[9]
            if state == "0A" and f"socket:[{inode}]" in own:  # 0A: listens
                addresses.add("127.0.0.1" if address == "0100007F" else "any" if not int(address, 16) else address)
    return addresses


def same_files(run: Path, expected: Path) -> None:
    found, wanted = run_files(run), run_files(expected)
    del found["config.yaml"], wanted["config.yaml"]  # each names its own folder
    assert sorted(found) == sorted(wanted)
    assert [name for name in wanted if found[name] != wanted[name]] == []


def local(job: Path, run: Path) -> list[str]:
    """The command ``launch local`` with two ranks."""
    return [sys.executable, "-m", "launch", "local", "--ranks", "2", str(job), f"run={run}"]


def stopped(process: subprocess.Popen[str]) -> str:
    """Terminate it; returns its output, once it and all processes that it started are gone."""
    family = children(process.pid)
    process.terminate()
    output = process.communicate(timeout=60)[0]
    assert [pid for pid in family if Path(f"/proc/{pid}").exists()] == []
    assert "Traceback" not in output
    return output
