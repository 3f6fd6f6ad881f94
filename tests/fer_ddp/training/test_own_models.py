"""A run of a user's own model, from its file to an exported folder, and what changed since."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from interrupting import kill_after, resume, same_files, write_job
from launching import ROOT

from fer_ddp.config.load import load_job
from fer_ddp.errors import JobError, RunError
from fer_ddp.evaluation.trained_model import load_trained_model
from fer_ddp.runs.folder import RunFolder
from fer_ddp.training.run import train

CPU = torch.device("cpu")
NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Dropout(0.1), nn.Linear(4, num_classes),
        )
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "face.py").write_text(NET)
    return tmp_path


def trained(job: Path) -> RunFolder:
    train(load_job(job, ["model={name: 'nets/face.py:Net'}", "run=run"]), CPU)
    return RunFolder("run")


def refusal(run: RunFolder) -> str:
    with pytest.raises(JobError) as caught:
        load_trained_model(run, load_job(run.path / "config.yaml", []), CPU)
    return str(caught.value)


def test_a_run_holds_a_copy_of_its_model_and_refuses_another(workplace: Path, tiny_job: Path) -> None:
    run, file = trained(tiny_job), workplace / "nets" / "face.py"
    assert (run.path / "model_source" / "face.py").read_text() == NET
    assert load_trained_model(run, load_job(run.path / "config.yaml", []), CPU).epoch == 1
    file.write_text(NET + "raise SystemExit('a changed file is not executed')\n")
    sentence = (
        "nets/face.py: has changed since run was started with it as nets/face.py:Net; put back what it was, of which "
        "run/model_source/face.py is a copy, or train a new run"
    )
    assert refusal(run) == sentence
    (run.path / "status.json").unlink()  # as if it had been interrupted
    with pytest.raises(JobError) as caught:
        trained(tiny_job)
    assert str(caught.value) == sentence
    record = run.path / "model_source.json"
    record.rename(workplace / "record")
    with pytest.raises(RunError, match=r"model_source\.json: is absent or damaged"):
        trained(tiny_job)
    (workplace / "record").rename(record)
    file.unlink()
    assert refusal(run) == (
        f"run: needs its own model: there is no file nets/face.py; it is looked for from {workplace}; a copy of the "
        "file is run/model_source/face.py"
    )


def test_what_the_model_raises_in_training_and_in_evaluation_is_named_with_its_line(
    workplace: Path, tiny_job: Path
) -> None:
    for name, condition in (("odd", "len(images) > 3"), ("odd_later", "len(images) > 3 and not self.training")):
        code = f"    def forward(self, images):\n        return {{}}['x'] if {condition} else super().forward(images)\n"
        (workplace / "nets" / f"{name}.py").write_text(NET + code)
        with pytest.raises(RunError) as caught:
            train(load_job(tiny_job, [f"model={{name: 'nets/{name}.py:Net'}}", f"run={name}"]), CPU)
        assert str(caught.value) == f"model: nets/{name}.py line 11: KeyError: 'x'"
        assert json.loads(Path(f"{name}/status.json").read_text())["state"] == "failed"


@pytest.mark.long
@pytest.mark.parametrize("by", ["file", "package"])
def test_two_ranks_are_interrupted_continued_to_the_same_bytes_evaluated_and_exported(
    by: str, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "mine_long"
    package.mkdir()
    (package / "face.py").write_text(NET)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{tmp_path}")
    name = f"{package}/face.py:Net" if by == "file" else "mine_long.face:Net"
    job, runs = write_job(tmp_path / "job.yaml", faces, model={"name": name}), tmp_path / "runs"
    resume(job, runs / "whole", 2)
    kill_after(13, job, runs / "killed", 2)
    resume(job, runs / "killed", 2)
    same_files(runs / "killed", runs / "whole")
    command = [sys.executable, "-m", "fer_ddp"]
    summary = json.loads((runs / "killed" / "summary.json").read_text())
    for arguments in (["evaluate", "runs/killed"], ["export", "runs/killed", "--out", "exported"]):
        subprocess.run([*command, *arguments], cwd=tmp_path, env=os.environ, check=True, timeout=200)
    assert json.loads((runs / "killed" / "summary.json").read_text()) == summary
    assert json.loads((tmp_path / "exported" / "config.json").read_text())["members"][0]["model"]["name"] == name
    assert yaml.safe_load((runs / "killed" / "config.yaml").read_text())["model"]["name"] == name
