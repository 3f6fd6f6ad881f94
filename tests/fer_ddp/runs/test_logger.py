"""What a run prints: a line an epoch, with the time that the run still takes."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fer_ddp.runs import health
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.logger import RunLogger, epoch_line

LINE: dict[str, Any] = {
    "epoch": 1,
    "step": 10,
    "lr": 0.001,
    "train": {"loss": 1.5, "accuracy": 0.25},
    "val": {"loss": 1.25, "accuracy": 0.5},
}
TIMING = {"seconds": 60.0, "images_per_second": 1234.0}


@pytest.mark.parametrize(
    ("epoch", "seconds_left", "end"),
    [(1, 480.0, "60.0 s  1,234 images/s  8 min left"), (9, 0.0, "60.0 s  1,234 images/s"), (1, None, "images/s")],
)
def test_an_epochs_line_ends_with_the_time_left_of_the_run(epoch: int, seconds_left: float | None, end: str) -> None:
    line = epoch_line(LINE | {"epoch": epoch}, 9, TIMING, seconds_left)
    assert line.startswith(f"epoch {epoch}/9  train loss 1.5000 accuracy 0.2500  val loss 1.2500 accuracy 0.5000  lr 1")
    assert line.endswith(end)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """``clock[0]`` is the time."""
    now = [0.0]
    monkeypatch.setattr("fer_ddp.runs.logger.time.perf_counter", lambda: now[0])
    return now


def train_epoch(logger: RunLogger, clock: list[float], epoch: int, first_step: int, step_seconds: float = 3.0) -> None:
    """An epoch that ends at ten steps times ``epoch``: 3 s a step, 6 s of evaluation."""
    logger.begin_epoch(epoch, first_step, 10 * epoch)
    for _ in range(first_step, 10 * epoch):
        clock[0] += step_seconds
        logger.step()
    logger.steps_done()
    clock[0] += 6.0
    logger.epoch(LINE | {"epoch": epoch})


def test_the_time_left_is_that_of_the_steps_left_at_the_pace_of_the_epoch_before(
    tmp_path: Path, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    logger = RunLogger(RunFolder(tmp_path), epochs=3, global_batch_size=4)
    train_epoch(logger, clock, 1, 0)
    train_epoch(logger, clock, 2, 10)
    train_epoch(logger, clock, 3, 20)
    ends = [line.rpartition("images/s")[2].strip() for line in capsys.readouterr().out.splitlines()]
    assert ends == ["72 s left", "36 s left", ""]


def test_a_resumed_epoch_counts_by_its_steps(
    tmp_path: Path, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    logger = RunLogger(RunFolder(tmp_path), epochs=3, global_batch_size=4)
    train_epoch(logger, clock, 1, 6)
    assert capsys.readouterr().out.endswith("  90 s left\n")  # 20 steps at 18 s for 4


def test_an_epoch_whose_evaluation_is_repeated_keeps_its_time_and_speed(
    tmp_path: Path, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    for first_step in (0, 10):
        train_epoch(RunLogger(RunFolder(tmp_path), epochs=3, global_batch_size=4), clock, 1, first_step)
    (timing,) = RunFolder(tmp_path).read_lines("timing.jsonl")
    assert (timing["seconds"], timing["images_per_second"]) == (36.0, 40 / 30)
    assert capsys.readouterr().out.endswith("lr 1.00e-03  6.0 s  evaluated again\n")


def test_lines_that_are_removed_while_the_run_trains_are_reported_once(
    tmp_path: Path, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    logger = RunLogger(RunFolder(tmp_path), epochs=4, global_batch_size=4)
    train_epoch(logger, clock, 1, 0)
    os.truncate(tmp_path / "metrics.jsonl", 0)
    train_epoch(logger, clock, 2, 10)
    train_epoch(logger, clock, 3, 20)
    told = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("epoch")]
    assert told == [f"{tmp_path / 'metrics.jsonl'}: has 1 of 2 lines; the others are lost"]


@pytest.mark.parametrize("is_even", [True, False])
def test_each_epoch_is_looked_at_for_what_may_end_the_run(
    tmp_path: Path,
    clock: list[float],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    is_even: bool,
) -> None:
    monkeypatch.setattr(health.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**30))
    run = RunFolder(tmp_path)
    logger = RunLogger(run, epochs=3, global_batch_size=4, state_bytes=2**28, is_even=is_even)
    run.checkpoints.mkdir()
    run.checkpoint_path("last").touch()
    os.truncate(run.checkpoint_path("last"), 2**29)
    for epoch, seconds in ((1, 3.0), (2, 3.0), (3, 7.0)):
        monkeypatch.setattr(health, "memory_bytes", lambda epoch=epoch: epoch * 2**30)
        train_epoch(logger, clock, epoch, 10 * (epoch - 1), seconds)
    warned = [line.split(": ", 2)[1] for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert [text[:30] for text in warned] == [
        str(tmp_path)[:30],
        "rank 0 has 3.0 GiB of memory a",
        *(["epoch 3 trained at 1 images/s,"] if is_even else []),
    ]
