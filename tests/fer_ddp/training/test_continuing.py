"""A run that was killed, stopped or damaged resumes with the same command, to the same bytes."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from forking import fork, run_forked
from interrupting import (
    kill_after,
    kill_group,
    local,
    resume,
    same_files,
    start,
    steps_done,
    stopped,
    train_arguments,
    undisturbed_runs,
    wait_until,
    write_job,
)
from launching import command

STEPS = 30
LONG_STEPS = 200


@pytest.fixture(scope="module")
def job(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_job(tmp_path_factory.mktemp("continuing") / "job.yaml", faces)


@pytest.fixture(scope="module")
def long_job(job: Path) -> Path:
    """The same job, 200 steps long."""
    path = job.parent / "long.yaml"
    path.write_text(yaml.safe_dump({"extends": "job.yaml", "epochs": LONG_STEPS // 10}))
    return path


@pytest.fixture(scope="module")
def long_undisturbed(long_job: Path) -> Callable[[int], Path]:
    """The uninterrupted run of the long job, by the number of ranks."""
    return undisturbed_runs(long_job)


@pytest.fixture(scope="module")
def undisturbed(job: Path) -> Callable[[int], Path]:
    """The uninterrupted run of the job, by the number of ranks."""
    return undisturbed_runs(job)


def test_a_run_killed_at_a_random_step_ends_in_the_same_bytes(
    job: Path, undisturbed: Callable[[int], Path], tmp_path: Path
) -> None:
    # On three ranks, whose sums depend on their order; the long form kills two ranks as well.
    run = tmp_path / "run"
    kill_after(random.Random(3).randrange(1, STEPS), job, run, 3)
    resume(job, run, 3)
    same_files(run, undisturbed(3))


def test_a_run_killed_inside_a_checkpoint_write_ends_in_the_same_bytes(
    job: Path, undisturbed: Callable[[int], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    killed = run_forked(2, "tests/support/killed_in_write.py", "5", "0.6", str(job), f"run={run}")
    assert killed.returncode != 0
    assert not (run / "summary.json").exists()
    resume(job, run, 2)
    same_files(run, undisturbed(2))


@pytest.mark.long
@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("step", sorted(random.Random(0).sample(range(1, LONG_STEPS), 20)))
def test_a_long_run_killed_at_a_random_step_ends_in_the_same_bytes(
    long_job: Path, long_undisturbed: Callable[[int], Path], tmp_path: Path, ranks: int, step: int
) -> None:
    run = tmp_path / "run"
    kill_after(step, long_job, run, ranks)
    resume(long_job, run, ranks)
    same_files(run, long_undisturbed(ranks))


@pytest.mark.long
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("moment", range(20))
def test_a_run_whose_states_are_written_by_time_is_killed_at_a_random_moment_and_ends_in_the_same_bytes(
    long_job: Path, long_undisturbed: Callable[[int], Path], tmp_path: Path, ranks: int, moment: int
) -> None:
    random_moment = random.Random(moment)
    by_time = tmp_path / long_job.name  # the summary has the job's name
    by_time.write_text(
        yaml.safe_dump({"extends": str(long_job), "checkpoint": {"every_seconds": 0.2, "every_steps": None}})
    )
    run = tmp_path / "run"
    process = fork(train_arguments(by_time, run), ranks=ranks)
    step = random_moment.randrange(1, LONG_STEPS - 5)
    wait_until(lambda: steps_done(run) >= step, process)
    time.sleep(random_moment.random() / 10)
    kill_group(process)
    assert not (run / "summary.json").exists()
    resume(by_time, run, ranks)
    same_files(run, long_undisturbed(ranks))


@pytest.mark.long
@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("share", [round(random.Random(seed).random(), 3) for seed in range(10)])
def test_a_long_run_killed_at_a_random_byte_of_a_checkpoint_ends_in_the_same_bytes(
    long_job: Path, long_undisturbed: Callable[[int], Path], tmp_path: Path, ranks: int, share: float
) -> None:
    run = tmp_path / "run"
    write = str(random.Random(share).randrange(1, 60))
    killed = run_forked(ranks, "tests/support/killed_in_write.py", write, str(share), str(long_job), f"run={run}")
    assert killed.returncode != 0
    assert not (run / "summary.json").exists()
    resume(long_job, run, ranks)
    same_files(run, long_undisturbed(ranks))


def test_sigterm_to_launch_saves_the_state_and_leaves_no_process(
    job: Path, undisturbed: Callable[[int], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start(local(job, run))
    wait_until(lambda: steps_done(run) >= 5, process)
    output = stopped(process)
    status = json.loads((run / "status.json").read_text())
    assert (process.returncode, status["state"]) == (75, "interrupted"), output
    resume(job, run, 2)
    same_files(run, undisturbed(2))


@pytest.mark.long
def test_sigterm_to_bare_torchrun_saves_the_state_though_its_own_status_is_1(
    job: Path, undisturbed: Callable[[int], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start(command(2, *train_arguments(job, run)))
    wait_until(lambda: steps_done(run) >= 5, process)
    process.terminate()
    process.communicate(timeout=60)
    status = json.loads((run / "status.json").read_text())
    assert (process.returncode, status["state"]) == (1, "interrupted")
    resume(job, run, 2)
    same_files(run, undisturbed(2))


def test_a_damaged_last_checkpoint_is_replaced_by_the_previous_one(
    job: Path, undisturbed: Callable[[int], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    kill_after(14, job, run, 1)
    last = run / "checkpoints" / "last.safetensors"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    done = run_forked(1, *train_arguments(job, run))
    assert (done.returncode, "resuming from the previous checkpoint" in done.stdout) == (0, True)
    same_files(run, undisturbed(1))


def test_a_run_resumes_on_other_numbers_of_ranks_along_the_same_curve(job: Path, tmp_path: Path, faces: Path) -> None:
    in_float64 = "precision=float64"
    resume(job, tmp_path / "one", 1, in_float64)
    run = tmp_path / "run"
    for step, ranks in ((8, 2), (17, 1)):
        kill_after(step, job, run, ranks, in_float64)
    resume(job, run, 4, in_float64)
    curves = [
        [json.loads(line)["loss"] for line in (folder / "steps.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "one", run)
    ]
    assert len(curves[0]) == STEPS
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-9, atol=0)


def test_another_job_under_the_same_name_is_refused_naming_the_keys(
    job: Path, undisturbed: Callable[[int], Path]
) -> None:
    run = undisturbed(1)
    done = run_forked(1, *train_arguments(job, run), "optimizer.lr=0.5", "ema.decay=0.5")
    assert (done.returncode, done.stderr) == (
        2,
        f"error: {run}: was started with another job (ema.decay: 0.9 -> 0.5; optimizer.lr: 0.003 -> 0.5); "
        "choose another run= or put these keys back\n",
    )


def test_a_run_that_another_process_trains_is_refused(job: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = fork([*train_arguments(job, run), "epochs=400"])
    wait_until(lambda: steps_done(run) >= 2, first)
    second = run_forked(1, *train_arguments(job, run), "epochs=400")
    kill_group(first)
    assert (
        second.returncode,
        second.stderr.startswith(f"error: {run}: is being trained by process {first.pid} on "),
    ) == (
        2,
        True,
    )
