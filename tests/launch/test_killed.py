"""Whoever is killed, no process of the project stays behind, and the run folder tells what became of the run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import launch.local
from fer_ddp.config.job import Job
from fer_ddp.config.load import load_job
from fer_ddp.errors import Interrupted, JobError, RunError
from fer_ddp.runs.files import read_status
from fer_ddp.runs.folder import RunFolder
from launch.array import load_array
from launch.local import run_local

ROOT = Path(__file__).parents[2]
CHILD = "import os, time; print(os.getpid(), flush=True); time.sleep(100)"
STARTERS = {
    "launch": f"from launch.torchrun import start_ranks; start_ranks(1, ['-c', {CHILD!r}])",
    "bench.scaling": "import sys; from bench.scaling.processes import neighbours\n"
    "sys.executable = sys.argv[1]\n"
    "with neighbours(1, [], 1) as pids: print(*pids, flush=True); __import__('time').sleep(100)",
}
"""Programs that start a process as the command of that name does, print its id and wait."""


def is_gone(pid: int) -> bool:
    """Whether it has ended; nobody waits for an orphan in some containers, where it stays a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited for 30 s"
        time.sleep(0.01)


@pytest.mark.parametrize("program", STARTERS)
def test_what_a_killed_command_has_started_ends_too(program: str, tmp_path: Path) -> None:
    waiting = tmp_path / "python"  # in place of torch, which takes seconds to import
    waiting.write_text("#!/bin/sh\necho begun\nexec sleep 100\n")
    waiting.chmod(0o755)
    words = [sys.executable, "-c", f"{STARTERS[program]}; __import__('time').sleep(100)", str(waiting)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert not is_gone(child)
        process.kill()
    wait_for(lambda: is_gone(child))


def test_a_rank_whose_torchrun_is_killed_is_asked_to_stop(tmp_path: Path) -> None:
    """torchrun itself ends no rank where it is killed."""
    rank = (
        "import argparse, time; from fer_ddp.__main__ import _execute\n"
        "work = lambda _: (print(__import__('os').getpid(), flush=True), time.sleep(100))\n"
        "status = _execute(argparse.Namespace(function=work))\n"
        f"open({str(tmp_path / 'status')!r}, 'w').write(str(status))"
    )
    torchrun = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {rank!r}]).wait()"
    words, variables = [sys.executable, "-c", torchrun], {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "1"}
    with subprocess.Popen(
        words, cwd=ROOT, env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        wait_for(lambda: is_gone(child))
    assert (tmp_path / "status").read_text() == "75"


@pytest.fixture
def ranks_end(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``ranks_end(status, before)``: in place of ranks a process that ends so is started, after ``before(run)``."""

    def set_up(exit_status: int | signal.Signals, before: Callable[[RunFolder], object]) -> None:
        def start(ranks: int, arguments: list[str], **_: object) -> subprocess.Popen[bytes]:
            before(begun(load_job(arguments[3], [])))
            ending = (
                f"kill -{exit_status.value} $$" if isinstance(exit_status, signal.Signals) else f"exit {exit_status}"
            )
            return subprocess.Popen(["sh", "-c", ending])

        monkeypatch.setattr(launch.local, "start_ranks", start)

    return set_up


def begun(job: Job) -> RunFolder:
    """The run folder of a job as it is while it trains."""
    run = RunFolder(job.run)
    run.create()
    run.save_config(job.to_dict())
    run.write_status("running", epoch=1, step=0)
    return run


def nothing(run: RunFolder) -> None:
    """Rank zero writes no more."""


@pytest.mark.parametrize(
    ("exit_status", "message"),
    [
        (signal.SIGKILL, "was killed by SIGKILL; run the same command again to resume"),
        (1, "a rank was killed or hung; run the same command again to resume"),  # as torchrun ends, also on GPUs
    ],
)
def test_the_status_of_a_run_whose_rank_zero_could_not_write_it_is_corrected(
    workplace: Path, ranks_end: Callable[..., None], exit_status: int | signal.Signals, message: str
) -> None:
    ranks_end(exit_status, nothing)
    with pytest.raises(RunError, match="runs/tiny-seed0: "):
        run_local("jobs/tiny.yaml", [], 1)
    status = read_status(Path("runs/tiny-seed0"))
    assert (status["state"], status["message"]) == ("failed", message)


def test_the_status_of_a_run_that_another_process_trains_by_now_is_left(
    workplace: Path, ranks_end: Callable[..., None]
) -> None:
    other = RunFolder("runs/tiny-seed0")
    ranks_end(1, lambda _: other.lock())
    with pytest.raises(RunError):
        run_local("jobs/tiny.yaml", [], 1)
    assert other.status()["state"] == "running"


def test_a_run_that_had_finished_when_its_torchrun_was_stopped_is_finished(
    workplace: Path, ranks_end: Callable[..., None]
) -> None:
    ranks_end(1, lambda run: run.write_status("finished"))  # torchrun's status after any signal
    run_local("jobs/tiny.yaml", [], 2)


def write_array(**changes: object) -> None:
    array = {"jobs": ["../tiny.yaml"], "seeds": [0, 1], **changes}
    Path("jobs/arrays/two.yaml").write_text(yaml.safe_dump(array))


def test_a_member_whose_rank_dies_is_failed_and_the_next_one_starts(
    workplace: Path, ranks_end: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    write_array()
    ranks_end(signal.SIGKILL, nothing)
    with pytest.raises(RunError, match=r"two: 2 of 2 failed \(tiny-seed0, tiny-seed1\)"):
        run_local("jobs/arrays/two.yaml", [], 1)
    assert {read_status(Path(f"runs/two/tiny-seed{seed}"))["state"] for seed in (0, 1)} == {"failed"}
    assert Path("runs/two.launch/logs/tiny-seed0.log").read_text() == "error: tiny-seed0 was killed by SIGKILL\n"


@pytest.mark.parametrize("name", ["status.json", "environment.json"])
def test_a_damaged_member_of_an_array_is_named_and_the_others_are_trained(
    workplace: Path,
    name: str,
    ranks_end: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_array()
    begun(load_array("jobs/arrays/two.yaml", []).members[0].job)
    Path(f"runs/two/tiny-seed0/{name}").write_bytes(b"{")
    monkeypatch.setattr(launch.local, "write_summary", lambda folder: folder)
    ranks_end(0, lambda run: run.write_status("finished"))
    with pytest.raises(RunError, match=r"two: 1 of 2 failed \(tiny-seed0\)"):
        run_local("jobs/arrays/two.yaml", [], 1)
    assert capsys.readouterr().out.splitlines()[:2] == [
        f"tiny-seed0: not started; runs/two/tiny-seed0/{name}: is damaged; remove it to continue without it",
        "tiny-seed1: started",
    ]
    assert read_status(Path("runs/two/tiny-seed1"))["state"] == "finished"


@pytest.mark.parametrize("exit_status", [0, 1, signal.SIGTERM])
@pytest.mark.parametrize(
    ("stopped_at", "ends_with"),
    [("tiny-seed1", None), ("tiny-seed0", "two: the states are saved; 1/2 done")],
)
def test_ctrl_c_while_the_last_member_ends_loses_nothing(
    workplace: Path,
    ranks_end: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    stopped_at: str,
    ends_with: str | None,
    exit_status: int | signal.Signals,
) -> None:
    write_array()
    monkeypatch.setattr(launch.local, "write_summary", lambda folder: folder)

    def finish(run: RunFolder) -> None:
        run.write_status("finished")
        if run.path.name == stopped_at:
            os.kill(os.getpid(), signal.SIGINT)

    ranks_end(exit_status, finish)
    if ends_with is None:
        run_local("jobs/arrays/two.yaml", [], 1)
    else:
        with pytest.raises(Interrupted, match=ends_with):
            run_local("jobs/arrays/two.yaml", [], 1)
    run_local("jobs/arrays/two.yaml", [], 1)
    assert {read_status(Path(f"runs/two/tiny-seed{seed}"))["state"] for seed in (0, 1)} == {"finished"}


def test_the_advice_for_a_member_is_not_the_run_that_an_array_chooses_itself(workplace: Path) -> None:
    write_array()
    begun(load_array("jobs/arrays/two.yaml", []).members[0].job)
    with pytest.raises(JobError) as caught:
        run_local("jobs/arrays/two.yaml", ["optimizer.lr=0.5"], 1)
    assert "tiny-seed0: runs/two/tiny-seed0: was started with another job" in str(caught.value)
    assert "copy the array's file under another name" in str(caught.value)
    assert "run=" not in str(caught.value)
