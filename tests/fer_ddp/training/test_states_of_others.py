"""A state that is not this run's, or a damaged best one, is refused by name where the run is resumed."""

import shutil
from pathlib import Path

import pytest
import torch

from fer_ddp.config.load import load_job
from fer_ddp.errors import RunError
from fer_ddp.evaluation.evaluate import evaluate_run
from fer_ddp.runs.files import read_json
from fer_ddp.runs.folder import RunFolder
from fer_ddp.training.run import train

CPU = torch.device("cpu")


@pytest.fixture
def run(tiny_job: Path) -> RunFolder:
    """A run that ended before its last evaluation."""
    folder = RunFolder(tiny_job.parent / "mine")
    resume(tiny_job)
    (folder.path / "status.json").unlink()
    return folder


def resume(tiny_job: Path, *overrides: str) -> None:
    train(load_job(tiny_job, [f"run={tiny_job.parent}/mine", "epochs=2", *overrides]), CPU)


def test_the_state_of_another_run_is_refused_with_the_key_that_differs(run: RunFolder, tiny_job: Path) -> None:
    train(load_job(tiny_job, [f"run={tiny_job.parent}/other", "epochs=2", "seed=1"]), CPU)
    for name in ("last", "best"):
        shutil.copy(tiny_job.parent / f"other/checkpoints/{name}.safetensors", run.checkpoints)
    with pytest.raises(RunError, match=r"mine/checkpoints/last\.safetensors: belongs to another run \(seed 1, not 0\)"):
        resume(tiny_job)
    job = load_job(run.path / "config.yaml", [])
    with pytest.raises(RunError, match=r"best\.safetensors: belongs to another run \(seed 1, not 0\)"):
        evaluate_run(run, job, CPU, 1)


def test_weights_in_place_of_a_state_are_refused(run: RunFolder, tiny_job: Path) -> None:
    shutil.copy(run.checkpoints / "best.safetensors", run.checkpoints / "last.safetensors")
    with pytest.raises(RunError, match=r"last\.safetensors: holds a model's weights alone"):
        resume(tiny_job)


def test_a_damaged_best_is_refused_before_training_and_the_last_weights_can_be_selected(
    run: RunFolder, tiny_job: Path
) -> None:
    best = run.checkpoints / "best.safetensors"
    best.write_bytes(best.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"best\.safetensors: the checkpoint is damaged .* resume with select=last"):
        resume(tiny_job)
    resume(tiny_job, "select=last")
    assert read_json(run.path / "summary.json")["selected"] == "last"


def test_without_the_best_the_best_of_the_remaining_epochs_is_selected(
    run: RunFolder, tiny_job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.checkpoints / "best.safetensors").unlink()
    resume(tiny_job)
    assert (
        "best.safetensors: is absent; the best of the epochs from here on will be selected" in capsys.readouterr().out
    )
    assert read_json(run.path / "summary.json")["epochs"] == 2
