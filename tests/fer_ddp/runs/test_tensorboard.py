"""TensorBoard's files and ``metrics.csv``: of the run's own lines, whole after an interruption, never in the way."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fer_ddp.runs import tensorboard_process
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.tracking import Tracker


def epoch(number: int, **more: Any) -> dict[str, Any]:
    """A line of metrics.jsonl; val every second epoch."""
    val = {"val": {"loss": None, "accuracy": 0.25}} if number % 2 == 0 else {}
    return {"epoch": number, "step": 10 * number, "lr": 0.1, "train": {"loss": 1 / number}} | val | more


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Two epochs, and steps."""
    folder = RunFolder(tmp_path / "run")
    folder.create()
    for number in (1, 2):
        folder.append_line("metrics.jsonl", epoch(number))
        folder.append_line("timing.jsonl", {"epoch": number, "seconds": 1.0, "images_per_second": 9.0})
        folder.append_line("steps.jsonl", {"step": 10 * number, "loss": 0.5, "lr": 0.1})
    return folder


def scalars(run: RunFolder) -> dict[str, list[tuple[int, float]]]:
    """By tag, (step, value), as TensorBoard reads them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    return {tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def follow(run: RunFolder) -> None:
    """Start and end the process that follows ``run``, as a training does."""
    tracker = Tracker(run.path, "disabled", tensorboard=True)
    tracker.start()
    tracker.close()


def test_a_resumed_run_has_every_point_once(run: RunFolder, capfd: pytest.CaptureFixture[str]) -> None:
    follow(run)
    assert scalars(run)["train/loss"] == [(1, 1.0), (2, 0.5)]
    run.cut_back(step=10, epoch=1)  # resumed from the state of epoch 1
    for number in (2, 3):
        run.append_line("metrics.jsonl", epoch(number, train={"loss": 8.0}))
    (run.path / "status.json").write_text(json.dumps({"state": "finished"}))
    (run.path / "summary.json").write_text(json.dumps({"epochs": 3, "test": {"n": 4, "accuracy": 0.75}}))
    follow(run)
    assert capfd.readouterr().out == ""
    assert len(list((run.path / "tensorboard").iterdir())) == 1
    found = scalars(run)
    assert found["train/loss"] == [(1, 1.0), (2, 8.0), (3, 8.0)]
    assert found["val/accuracy"] == [(2, 0.25)]
    assert "val/loss" not in found
    assert found["step/loss"] == [(10, 0.5)]
    assert found["images_per_second"][0] == (1, 9.0)
    assert found["summary/test/accuracy"] == [(3, 0.75)]


@pytest.mark.parametrize("problem", ["absent", "damaged"])
def test_without_tensorboard_and_with_a_damaged_file_it_says_so_and_ends_well(
    run: RunFolder, problem: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("fer_ddp.runs.tensorboard_process.select.select", lambda *_: ([sys.stdin], [], []))
    monkeypatch.setattr("signal.alarm", lambda _: 0)
    if problem == "absent":
        monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    else:
        pytest.importorskip("tensorboard")
        (run.path / "metrics.jsonl").write_text("{\n")
    assert tensorboard_process.main(run.path) == 0
    said = capsys.readouterr().out
    assert said.startswith("TensorBoard: ")
    assert said.endswith(f"; nothing is lost: {run.path}/metrics.csv has every epoch\n")
    assert ("pip install 'fer-ddp[tensorboard]'" if problem == "absent" else "line 1: is damaged") in said


def test_the_table_has_a_row_an_epoch_and_is_cut_back_with_the_lines(run: RunFolder) -> None:
    def table() -> list[dict[str, str]]:
        return list(csv.DictReader((run.path / "metrics.csv").read_text().splitlines()))

    run.cut_back(step=20, epoch=2)  # a run of an earlier version, resumed
    assert table() == [
        {"epoch": "1", "step": "10", "lr": "0.1", "train_loss": "1.0", "val_loss": "", "val_accuracy": ""},
        {"epoch": "2", "step": "20", "lr": "0.1", "train_loss": "0.5", "val_loss": "", "val_accuracy": "0.25"},
    ]
    run.cut_back(step=10, epoch=1)
    assert [row["epoch"] for row in table()] == ["1"]
    run.cut_back(step=0, epoch=0)
    assert table() == []
