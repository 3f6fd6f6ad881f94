"""A pipe in place of any file of a run: whatever reads it refuses it at once, and never waits for its other end."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from fer_ddp.config.load import load_job
from fer_ddp.errors import RunError
from fer_ddp.evaluation.trained_model import load_trained_model
from fer_ddp.runs.files import SPLITS, saved_step
from fer_ddp.runs.finished import read_runs
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.predictions import read_predictions
from fer_ddp.training.run import train
from launch.folder import ArrayFolder
from launch.logs import logs_text
from launch.status import members_status, run_status
from shards.errors import UserError
from shards.files import sha256_of

READERS: dict[str, Callable[[Path], object]] = {
    "status": run_status,
    "saved step": saved_step,
    "resuming": lambda run: RunFolder(run).load_state({}),
    "evaluate": lambda run: load_trained_model(RunFolder(run), load_job(run / "config.yaml", []), torch.device("cpu")),
    "report": lambda run: read_runs([run]),
    "predictions": lambda run: [read_predictions(run / "predictions" / f"{split}.csv") for split in SPLITS],
}


@pytest.fixture
def impatient() -> Iterator[None]:
    """A read that waits for a pipe is ended by SIGALRM, and with it the tests."""
    signal.alarm(60)
    yield
    signal.alarm(0)


def make_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def refusal(read: Callable[[Path], object], run: Path) -> str | None:
    try:
        read(run)
    except UserError as error:
        return str(error)
    return None


def test_no_reader_of_a_run_waits_for_a_pipe(tiny_job: Path, monkeypatch: pytest.MonkeyPatch, impatient: None) -> None:
    for name in ("plot_confusion_matrix", "plot_per_class", "plot_learning_curves", "plot_worst_errors", "save_figure"):
        monkeypatch.setattr(f"fer_ddp.evaluation.evaluate.{name}", lambda *_, **__: None)
    train(load_job(tiny_job, ["log.every_steps=5"]), torch.device("cpu"))
    run = tiny_job.parent / "run"
    refused: set[tuple[str, str]] = set()
    for path in [path for path in run.rglob("*") if path.is_file() and path.stat().st_size]:
        path.rename(tiny_job.parent / "kept")
        make_pipe(path)
        for name, read in READERS.items():
            message = refusal(read, run)
            assert message is None or str(path) in message, name
            refused |= {(path.name, name)} if message else set()
        path.unlink()
        (tiny_job.parent / "kept").rename(path)
    assert {("last.safetensors", "resuming"), ("best.safetensors", "evaluate"), ("test.csv", "predictions")} < refused


def test_no_reader_of_an_arrays_folder_waits_for_a_pipe(tmp_path: Path, impatient: None) -> None:
    folder = ArrayFolder(tmp_path / "a.launch")
    folder.write("a", runs={"m": str(tmp_path / "m")}, jobs={"m": "epochs: 1\n"}, cluster=None)
    make_pipe(folder.logs / "m.log")
    with pytest.raises(RunError, match=r"m\.log: cannot be read \(is a named pipe, not a file\)"):
        logs_text(folder, None, 10)
    attempts = folder.path / "attempts" / "m.jsonl"
    make_pipe(attempts)
    assert [each.state for each in members_status(folder)] == ["damaged"]
    attempts.unlink()
    for damaged in (b"{\n", b"\xff\n", b"[1]\n", b'{"started": 1}\n'):
        attempts.write_bytes(damaged)
        (member,) = members_status(folder)
        assert member.state == "damaged"
        assert str(member.message).startswith(str(attempts))


def test_the_end_of_a_large_log_is_read(tmp_path: Path) -> None:
    folder = ArrayFolder(tmp_path / "a.launch")
    folder.write("a", runs={"m": str(tmp_path / "m")}, jobs={"m": "epochs: 1\n"}, cluster=None)
    with open(folder.logs / "m.log", "wb") as log:
        log.truncate(1 << 36)
        log.seek(0, os.SEEK_END)
        log.write(b"\nthe end\n")
    assert logs_text(folder, "m", 1).splitlines()[-1] == "the end"


def test_the_digest_of_a_pipe_is_refused(tmp_path: Path, impatient: None) -> None:
    make_pipe(tmp_path / "pipe")
    with pytest.raises(OSError, match="is a named pipe, not a file"):
        sha256_of(tmp_path / "pipe")
