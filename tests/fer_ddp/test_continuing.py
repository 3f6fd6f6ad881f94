"""A run that was killed, stopped or damaged goes on with the same command, to the same bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from launching import ROOT, command, run_files, torchrun

STEPS = 30
LONG_STEPS = 200


@pytest.fixture(scope="module")
def job(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job of 30 small steps in three epochs, every mechanism in it, a state every 3 steps."""
    path = tmp_path_factory.mktemp("continuing") / "job.yaml"
    model = {"channels": [4, 8], "hidden": 16, "batch_norm": True, "block_dropout": 0.1}
    path.write_text(
        yaml.safe_dump(
            {
                "data": {"path": str(faces)},
                "model": {"name": "plain_cnn", "arguments": model},
                "optimizer": {"name": "adamw", "lr": 0.003, "gradient_clip_norm": 1.0},
                "schedule": {"name": "onecycle"},
                "augment": {"flip": 0.5, "rotation_degrees": 10.0, "erasing_probability": 0.3, "mixup_alpha": 0.2},
                "ema": {"decay": 0.9},
                "epochs": 3,
                "global_batch_size": 24,
                "precision": "float32",
                "memory_format": "contiguous",
                "log": {"every_steps": 1},
                "checkpoint": {"every_steps": 3},
                "wandb": {"mode": "disabled"},
            }
        )
    )
    return path


@pytest.fixture(scope="module")
def long_job(job: Path) -> Path:
    """The same job, 200 steps long."""
    path = job.parent / "long.yaml"
    path.write_text(yaml.safe_dump({"extends": "job.yaml", "epochs": LONG_STEPS // 10}))
    return path


@pytest.fixture(scope="module")
def long_undisturbed(long_job: Path) -> Callable[[int], Path]:
    """The run of the long job that nothing disturbed, by the number of ranks."""
    return undisturbed_runs(long_job)


@pytest.fixture(scope="module")
def undisturbed(job: Path) -> Callable[[int], Path]:
    """The run of the job that nothing disturbed, by the number of ranks."""
    return undisturbed_runs(job)


def undisturbed_runs(job: Path) -> Callable[[int], Path]:
    runs: dict[int, Path] = {}

    def finished(ranks: int) -> Path:
        if ranks not in runs:
            runs[ranks] = job.parent / f"undisturbed-{job.stem}-{ranks}" / "run"
            go_on(job, runs[ranks], ranks)
        return runs[ranks]

    return finished


def words(job: Path, run: Path) -> list[str]:
    return ["-m", "fer_ddp", "train", str(job), f"run={run}"]


def go_on(job: Path, run: Path, ranks: int, *overrides: str) -> None:
    done = torchrun(ranks, *words(job, run), *overrides)
    assert done.returncode == 0, done.stderr


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "waited for two minutes"
        time.sleep(0.01)


def steps_done(run: Path) -> int:
    path = run / "steps.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def kill_after(step: int, job: Path, run: Path, ranks: int) -> None:
    """Start the run, or go on with it, and SIGKILL all of its processes once ``step`` steps are logged."""
    process = start(command(ranks, *words(job, run)))
    wait_until(lambda: steps_done(run) >= step, process)
    kill_group(process)


def kill_group(process: subprocess.Popen[str]) -> None:
    """SIGKILL torchrun and its ranks, which are in sessions of their own."""
    for pid in [*children(process.pid), process.pid]:
        os.kill(pid, signal.SIGKILL)
    process.communicate()


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [grandchild for child in map(int, listed) for grandchild in (*children(child), child)]


def same_files(run: Path, expected: Path) -> None:
    found, wanted = run_files(run), run_files(expected)
    del found["config.yaml"], wanted["config.yaml"]  # each names its own folder
    assert sorted(found) == sorted(wanted)
    assert [name for name in wanted if found[name] != wanted[name]] == []


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_run_killed_at_random_steps_ends_in_the_same_bytes(
    job: Path, undisturbed: Callable[[int], Path], tmp_path: Path, ranks: int
) -> None:
    run = tmp_path / "run"
    for step in sorted(random.Random(ranks).sample(range(1, STEPS), 2)):
        kill_after(step, job, run, ranks)
    go_on(job, run, ranks)
    same_files(run, undisturbed(ranks))


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_run_killed_inside_a_checkpoint_write_ends_in_the_same_bytes(
    job: Path, undisturbed: Callable[[int], Path], tmp_path: Path, share: float
) -> None:
    run = tmp_path / "run"
    killed = torchrun(2, "tests/support/killed_in_write.py", "5", str(share), str(job), f"run={run}")
    assert killed.returncode != 0
    assert not (run / "summary.json").exists()
    go_on(job, run, 2)
    same_files(run, undisturbed(2))


@pytest.mark.long
@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("step", sorted(random.Random(0).sample(range(1, LONG_STEPS), 20)))
def test_a_long_run_killed_at_a_random_step_ends_in_the_same_bytes(
    long_job: Path, long_undisturbed: Callable[[int], Path], tmp_path: Path, ranks: int, step: int
) -> None:
    run = tmp_path / "run"
    kill_after(step, long_job, run, ranks)
    go_on(long_job, run, ranks)
    same_files(run, long_undisturbed(ranks))


@pytest.mark.long
@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("share", [round(random.Random(place).random(), 3) for place in range(10)])
def test_a_long_run_killed_at_a_random_byte_of_a_checkpoint_ends_in_the_same_bytes(
    long_job: Path, long_undisturbed: Callable[[int], Path], tmp_path: Path, ranks: int, share: float
) -> None:
    run = tmp_path / "run"
    write = str(random.Random(share).randrange(1, 60))
    killed = torchrun(ranks, "tests/support/killed_in_write.py", write, str(share), str(long_job), f"run={run}")
    assert killed.returncode != 0
    assert not (run / "summary.json").exists()
    go_on(long_job, run, ranks)
    same_files(run, long_undisturbed(ranks))


def test_a_damaged_last_state_gives_way_to_the_one_before_it(
    job: Path, undisturbed: Callable[[int], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    kill_after(14, job, run, 1)
    last = run / "checkpoints" / "last.safetensors"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    done = torchrun(1, *words(job, run))
    assert (done.returncode, "the one before it serves" in done.stdout) == (0, True)
    same_files(run, undisturbed(1))


def test_a_run_goes_on_with_other_numbers_of_ranks_along_the_same_curve(job: Path, tmp_path: Path, faces: Path) -> None:
    in_float64 = "precision=float64"
    go_on(job, tmp_path / "one", 1, in_float64)
    run = tmp_path / "run"
    for step, ranks in ((8, 2), (17, 1)):
        process = start([*command(ranks, *words(job, run)), in_float64])
        wait_until(lambda step=step: steps_done(run) >= step, process)  # type: ignore[misc]
        kill_group(process)
    go_on(job, run, 4, in_float64)
    curves = [
        [json.loads(line)["loss"] for line in (folder / "steps.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "one", run)
    ]
    assert len(curves[0]) == STEPS
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-9, atol=0)


def test_sigterm_to_launch_saves_the_state_and_leaves_no_process(
    job: Path, undisturbed: Callable[[int], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start([sys.executable, "-m", "launch", "local", "--ranks", "2", str(job), f"run={run}"])
    wait_until(lambda: steps_done(run) >= 5, process)
    family = children(process.pid)
    process.terminate()
    output = process.communicate(timeout=60)[0]
    assert (process.returncode, "Traceback" in output) == (75, False), output
    assert [pid for pid in family if Path(f"/proc/{pid}").exists()] == []
    assert json.loads((run / "status.json").read_text())["state"] == "interrupted"
    go_on(job, run, 2)
    same_files(run, undisturbed(2))


def test_a_killed_rank_ends_the_others_with_a_sentence(job: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start([sys.executable, "-m", "launch", "local", "--ranks", "2", str(job), f"run={run}"])
    wait_until(lambda: steps_done(run) >= 3, process)
    ranks = [pid for pid in children(process.pid) if b"RANK=1" in environment(pid)]
    os.kill(ranks[0], signal.SIGKILL)
    output = process.communicate(timeout=30)[0]
    assert (process.returncode, "Traceback" in output) == (1, False), output
    assert "error: rank 1 was killed by SIGKILL" in output


def environment(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def test_another_job_under_the_same_name_is_refused_naming_the_keys(
    job: Path, undisturbed: Callable[[int], Path]
) -> None:
    run = undisturbed(1)
    done = torchrun(1, *words(job, run), "optimizer.lr=0.5", "ema.decay=0.5")
    assert (done.returncode, done.stderr) == (
        2,
        f"error: {run}: was started with another job (ema.decay: 0.9 -> 0.5; optimizer.lr: 0.003 -> 0.5); "
        "choose another run= or put these keys back\n",
    )


def test_a_run_that_another_process_trains_is_refused(job: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = start([*command(1, *words(job, run)), "epochs=400"])
    wait_until(lambda: steps_done(run) >= 2, first)
    second = torchrun(1, *words(job, run), "epochs=400")
    kill_group(first)
    assert (
        second.returncode,
        second.stderr.startswith(f"error: {run}: is being trained by process {first.pid} on "),
    ) == (
        2,
        True,
    )
