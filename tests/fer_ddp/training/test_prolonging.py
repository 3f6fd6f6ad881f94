"""Another number of epochs for a run that is there: as if it had been started with that, or refused."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from interrupting import same_files
from launching import run_files
from stop_after import FlagAt

from fer_ddp import distributed
from fer_ddp.config.job import Job
from fer_ddp.config.load import load_job
from fer_ddp.errors import Interrupted, JobError
from fer_ddp.evaluation import evaluate
from fer_ddp.runs.checkpoint import save_checkpoint
from fer_ddp.runs.folder import RunFolder
from fer_ddp.training.checks import check_same
from fer_ddp.training.run import train

FREE = ["schedule={name: plateau, patience_epochs: 0, monitor: val_loss}", "early_stopping.patience_epochs=2"]
FREE += ["ema.decay=0.9", "global_batch_size=80", "log.every_steps=1", "optimizer.lr=0.01"]


@pytest.fixture(autouse=True)
def no_figures_of_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The learning curves are drawn; the other figures take most of the time, and are of the same predictions."""
    monkeypatch.setattr(evaluate, "_draw", lambda *arguments: None)


def trained(job: Path, run: Path, *overrides: str) -> Path:
    train(load_job(job, [*FREE, f"run={run}", *overrides]), torch.device("cpu"))
    return run


def test_a_run_with_other_epochs_than_it_was_begun_with_ends_in_the_bytes_of_one_begun_with_them(
    tiny_job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three = trained(tiny_job, tmp_path / "three", "epochs=3")
    finished = trained(tiny_job, tmp_path / "finished", "epochs=1")
    stale = finished / "evaluations" / "0123"
    stale.mkdir(parents=True)
    (finished / "figures" / "grad_cam_val.png").write_bytes(b"of the weights before")
    assert run_files(finished) != run_files(three)
    trained(tiny_job, finished, "epochs=3")
    same_files(finished, three)
    assert (RunFolder(finished).status()["state"], stale.exists()) == ("finished", False)
    assert f"{finished}: finished with 1 epochs, now trained for 3" in capsys.readouterr().out
    assert (RunFolder(finished).saved_config() or {})["epochs"] == 3
    with patch.object(distributed, "StopConsensus", lambda: FlagAt(5)), pytest.raises(Interrupted):
        trained(tiny_job, tmp_path / "interrupted", "epochs=9")
    trained(tiny_job, tmp_path / "interrupted", "epochs=3")
    same_files(tmp_path / "interrupted", three)


def test_a_run_that_stopped_early_stops_there_again(tiny_job: Path, tmp_path: Path) -> None:
    still = ["schedule.name=constant", "optimizer.lr=1e-9", "early_stopping.patience_epochs=1"]
    run = trained(tiny_job, tmp_path / "run", *still, "epochs=4")
    before = run_files(run)
    trained(tiny_job, run, *still, "epochs=9")
    changed = [name for name, content in run_files(run).items() if content != before[name]]
    assert (len(RunFolder(run).read_lines("metrics.jsonl")), changed) == (2, ["config.yaml"])


def refusal(run: RunFolder, tiny_job: Path, epochs: int, *overrides: str, **state: Any) -> str:
    """Why a run begun with 7 epochs, its last state and its best at ``state``, can't have ``epochs``."""
    run.create()
    for name, epoch in state.items():
        save_checkpoint(run.checkpoints / f"{name}.safetensors", {"step": 10 * epoch, "epoch": epoch})
    saved, job = (load_job(tiny_job, [*overrides, f"epochs={number}"]) for number in (7, epochs))
    with pytest.raises(JobError) as refused:
        check_same(run, saved, job, "digest")
    return str(refused.value)


@pytest.mark.parametrize(
    ("key", "overrides"),
    [
        ("schedule.name=onecycle", ["schedule.name=onecycle"]),
        ("schedule.name=cosine", ["schedule.name=cosine"]),
        ("image_size.sides", ["image_size.sides=[32]"]),
        ("augment.mixing_until", ["augment={mixup_alpha: 1, mixing_until: 0.5}"]),
    ],
)
def test_what_spans_the_whole_run_is_refused_with_the_way_that_there_is(
    tiny_job: Path, tmp_path: Path, key: str, overrides: list[str]
) -> None:
    run = RunFolder(tmp_path / "run")
    assert refusal(run, tiny_job, 9, *overrides, last=6) == (
        f"{run.path}: epochs: 7 -> 9: {key} spans the whole run, so with another number of epochs every step would "
        f"have been different; train it again under another run=, or start a new run from its weights: "
        f"from={run.path} run=NAME"
    )


@pytest.mark.parametrize(("state", "where"), [("finished", "is finished with"), ("interrupted", "is in")])
def test_fewer_epochs_than_were_begun_are_refused(tiny_job: Path, tmp_path: Path, state: str, where: str) -> None:
    run = RunFolder(tmp_path / "run")
    run.create()
    run.write_status(state)
    assert refusal(run, tiny_job, 4, last=4) == (
        f"{run.path}: epochs: 7 -> 4: the run {where} epoch 5; give 5 or more, or choose another run="
    )


def test_a_best_epoch_that_a_longer_run_would_not_have_evaluated_is_refused(tiny_job: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert refusal(run, tiny_job, 9, "evaluate.every_epochs=3", last=6, best=7).startswith(
        f"{run.path}: epochs: 7 -> 9: epoch 7, which evaluate.every_epochs=3 leaves out, was evaluated as the last one"
    )
    jobs: list[Job] = [load_job(tiny_job, ["evaluate.every_epochs=3", f"epochs={epochs}"]) for epochs in (7, 9)]
    save_checkpoint(run.checkpoints / "best.safetensors", {"step": 60, "epoch": 6})
    check_same(run, *jobs, "digest")


def test_other_keys_that_differ_are_named_with_the_epochs(tiny_job: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    saved, job = load_job(tiny_job, ["epochs=7"]), load_job(tiny_job, ["epochs=9", "optimizer.lr=0.5"])
    with pytest.raises(JobError, match=r"with another job \(epochs: 7 -> 9; optimizer.lr: 0.001 -> 0.5\)"):
        check_same(run, saved, job, "digest")
