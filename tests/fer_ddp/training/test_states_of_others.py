"""What is not this run's, damaged or gone when it is resumed is refused or reported by name."""

import shutil
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from stop_after import FlagAt

from fer_ddp import distributed
from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.errors import Interrupted, RunError
from fer_ddp.evaluation import evaluate
from fer_ddp.evaluation.evaluate import evaluate_run
from fer_ddp.evaluation.trained_model import load_trained_model
from fer_ddp.runs.checkpoint import load_checkpoint, save_checkpoint
from fer_ddp.runs.files import LINES, read_json
from fer_ddp.runs.folder import RunFolder
from fer_ddp.training.run import train
from fer_ddp.training.setup import build_trainer, resolve_auto

CPU = torch.device("cpu")


@pytest.fixture
def run(tiny_job: Path) -> RunFolder:
    """A run that ended before its last evaluation."""
    folder = RunFolder(tiny_job.parent / "mine")
    resume(tiny_job)
    (folder.path / "status.json").unlink()
    return folder


@pytest.fixture
def untrained(tiny_job: Path) -> RunFolder:
    """A run with its initial weights as the best."""
    folder, job = RunFolder(tiny_job.parent / "untrained"), load_job(tiny_job, [])
    dataset = FERDataset(job.data.path, "train")
    job = resolve_auto(job, dataset.manifest, CPU)
    folder.create()
    folder.save_config(job.to_dict())
    save_checkpoint(folder.checkpoint_path("best"), build_trainer(job, dataset, 1, CPU).state.weights())
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


@pytest.mark.parametrize("damage", ["removed", "zeros"])
def test_lines_that_are_gone_are_reported_by_the_name_of_their_file(
    tiny_job: Path, damage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "_draw", lambda *arguments: None)  # which takes most of the time
    overrides = ["epochs=3", "log.every_steps=1"]
    run = RunFolder(tiny_job.parent / "mine")
    with patch.object(distributed, "StopConsensus", lambda: FlagAt(25)), pytest.raises(Interrupted):
        resume(tiny_job, *overrides)
    for name in LINES:
        path = run.path / name
        content = path.read_bytes()
        path.unlink() if damage == "removed" else path.write_bytes(content[:-20] + bytes(20))
    resume(tiny_job, *overrides)
    steps, epochs = (0, 0) if damage == "removed" else (24, 1)
    output = capsys.readouterr().out
    assert f"{run.path}/steps.jsonl: holds {steps} of the 25 lines up to step 25; the others are lost\n" in output
    for name in ("metrics", "timing"):
        assert f"{run.path}/{name}.jsonl: holds {epochs} of the 2 lines up to epoch 2; the others are lost\n" in output
    assert [len(run.read_lines(name)) for name in LINES] == [steps + 5, epochs + 1, epochs + 1]


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("identity", "[", "does not name its run as fer-ddp does"),
        ("identity", {"seed": torch.zeros(0)}, "does not name its run as fer-ddp does"),
        ("network", torch.zeros(3), "network: is [3]; it should be keys and values"),
        ("network", {"a": 1}, "network.a: is 1; it should be a list"),
        ("class_names", [1], "class_names[0]: is 1; it should be text"),
        ("image_shape", [1, 10**9, 10**9], "image_shape[1]: is 1000000000; it should be 4096 or less"),
        ("epoch", None, "epoch: is null; it should be a whole number"),
    ],
)
def test_weights_of_another_shape_with_a_right_digest_are_refused_by_the_key(
    untrained: RunFolder, key: str, value: object, problem: str
) -> None:
    best = untrained.checkpoint_path("best")
    save_checkpoint(best, load_checkpoint(best) | {key: value})
    with pytest.raises(RunError) as refused:
        load_trained_model(untrained, load_job(untrained.path / "config.yaml", []), CPU)
    assert f"{best}: {problem}" in str(refused.value)


def test_a_config_that_was_edited_is_refused_by_the_keys_that_the_weights_were_trained_with(
    untrained: RunFolder,
) -> None:
    job = load_job(untrained.path / "config.yaml", [])
    for changed in ({"views": {"flip": True}}, {"data": {"mean": [0.25]}}):
        (section,) = changed
        config = job.to_dict()
        config[section] |= changed[section]
        (key,) = changed[section]
        untrained.save_config(config)
        with pytest.raises(RunError, match=rf"best\.safetensors: belongs to another run \({section}\.{key} "):
            load_trained_model(untrained, load_job(untrained.path / "config.yaml", []), CPU)
