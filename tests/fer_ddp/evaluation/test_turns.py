"""Two evaluations that write into one folder take turns, and the one that waits can be stopped."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from fer_ddp import evaluate
from fer_ddp.config.load import load_job
from fer_ddp.errors import Interrupted
from fer_ddp.evaluation import evaluate as module
from fer_ddp.evaluation.evaluate import EVALUATE_LOCK, evaluate_run
from fer_ddp.evaluation.trained_model import TrainedModel
from fer_ddp.runs.files import read_json
from fer_ddp.runs.folder import RunFolder
from fer_ddp.training.run import train
from shards.files import FileLock


@pytest.fixture
def run(tiny_job: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    for name in ("plot_confusion_matrix", "plot_per_class", "plot_learning_curves", "plot_worst_errors", "save_figure"):
        monkeypatch.setattr(module, name, lambda *_, **__: None)
    job = load_job(tiny_job, [])
    train(job, torch.device("cpu"))
    return RunFolder(job.run)


def test_two_evaluations_at_once_take_turns(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most, write = [0], [0], module.write_predictions
    load, loading = module.load_trained_model, threading.Lock()

    def load_alone(*arguments: Any) -> TrainedModel:
        with loading:  # the threads of this process share torch's random generator
            return load(*arguments)

    def slowly(*arguments: object) -> str:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.3)
        inside[0] -= 1
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_predictions", slowly)
    monkeypatch.setattr(module, "load_trained_model", load_alone)
    before = read_json(run.path / "summary.json")
    with ThreadPoolExecutor(2) as pool:
        for result in [pool.submit(evaluate, run.path) for _ in range(2)]:
            result.result()
    assert most == [1]
    assert read_json(run.path / "summary.json") == before


def test_an_evaluation_that_waits_for_its_turn_reports_it_and_can_be_stopped(
    run: RunFolder, tiny_job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop() -> None:
        if "waiting" in capsys.readouterr().out:
            raise Interrupted("stopped")

    with FileLock(run.path / EVALUATE_LOCK), pytest.raises(Interrupted):
        evaluate_run(run, load_job(run.path / "config.yaml", []), torch.device("cpu"), 1, stop)
