"""A time instead of a number of epochs."""

import dataclasses
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from interrupting import same_files
from stop_after import FlagAt

from fer_ddp import distributed
from fer_ddp.augment.image_size import ImageSizeConfig
from fer_ddp.config.load import load_job
from fer_ddp.errors import Interrupted, JobError
from fer_ddp.evaluation import evaluate
from fer_ddp.runs.folder import RunFolder
from fer_ddp.training import time_limit
from fer_ddp.training.run import train

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_figures_of_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "_draw", lambda *arguments: None)


def saved_epochs(run: Path) -> int:
    return int((RunFolder(run).saved_config() or {})["epochs"])


def test_a_run_with_a_time_limit_is_the_run_of_the_epochs_that_fit_also_when_it_was_interrupted(
    tiny_job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["schedule.name=onecycle", "global_batch_size=80"]
    limited = load_job(tiny_job, [*options, "time_limit_s=31", f"run={tmp_path / 'limited'}"])
    interrupted = dataclasses.replace(limited, run=str(tmp_path / "interrupted"))
    with patch.object(time_limit, "_step_seconds", lambda trainer, device: 3.0):  # 9 s an epoch, and its evaluation
        train(limited, CPU)
        with patch.object(distributed, "StopConsensus", lambda: FlagAt(2)), pytest.raises(Interrupted):
            train(interrupted, CPU)
    assert "time_limit_s=31: 3 epochs of 9" in capsys.readouterr().out
    train(interrupted, CPU)  # would measure another number
    assert saved_epochs(tmp_path / "interrupted") == saved_epochs(tmp_path / "limited") == 3
    train(load_job(tiny_job, [*options, "epochs=3", f"run={tmp_path / 'plain'}"]), CPU)
    same_files(tmp_path / "limited", tmp_path / "plain")
    same_files(tmp_path / "interrupted", tmp_path / "plain")


def test_another_time_limit_is_another_job(tiny_job: Path, tmp_path: Path) -> None:
    options = [f"run={tmp_path / 'run'}"]
    train(load_job(tiny_job, [*options, "time_limit_s=0.001"]), CPU)
    assert saved_epochs(tmp_path / "run") == 1
    with pytest.raises(JobError, match="time_limit_s: 0.001 -> 0.002"):
        train(load_job(tiny_job, [*options, "time_limit_s=0.002"]), CPU)


def test_a_limit_in_which_the_warm_up_does_not_fit_is_refused(tiny_job: Path, tmp_path: Path) -> None:
    options = [
        "epochs=9",
        "schedule.name=cosine",
        "schedule.warmup_epochs=2",
        "time_limit_s=0.001",
        f"run={tmp_path / 'run'}",
    ]
    with pytest.raises(JobError, match=r"1 epoch of .* s, and schedule\.warmup_epochs is 2; lower it, or allow more$"):
        train(load_job(tiny_job, options), CPU)


def test_an_epochs_time_is_that_of_its_image_sizes_by_their_shares() -> None:
    assert list(time_limit._shares(ImageSizeConfig())) == [(None, 1.0)]
    shares = dict(time_limit._shares(ImageSizeConfig(sides=(32, 40), until=0.6)))
    assert shares == pytest.approx({32: 0.3, 40: 0.3, None: 0.4})
