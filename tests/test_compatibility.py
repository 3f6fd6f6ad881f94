"""What commit 35d5d40 computed and wrote, before the modules moved, is still computed and read."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forking import run_forked
from PIL import Image

from fer_ddp.config.load import load_job
from fer_ddp.runs.files import read_json
from fer_ddp.training.run import train
from shards.files import sha256_of
from shards.packing.packer import pack
from shards.sources.synthetic_faces import Faces, scan_faces

RECORDED = Path(__file__).parent / "data"
ROOT = Path(__file__).parents[1]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_twenty_steps_of_smoke_have_the_losses_recorded_before(tmp_path: Path) -> None:
    pack(partial(scan_faces, Faces(train=960, val=96, test=96)), tmp_path / "data")
    overrides = ["epochs=2", "precision=float64", "memory_format=contiguous", "log.every_steps=1"]
    overrides += [f"data.path={tmp_path}/data", f"run={tmp_path}/run", "wandb.mode=disabled"]
    train(load_job(ROOT / "jobs" / "smoke.yaml", overrides), torch.device("cpu"))
    found, recorded = lines(tmp_path / "run" / "steps.jsonl"), lines(RECORDED / "smoke_float64_35d5d40.jsonl")
    assert len(recorded) == 20
    for key in ("step", "lr", "loss"):
        np.testing.assert_allclose(
            [line[key] for line in found], [line[key] for line in recorded], rtol=1e-12, atol=0, err_msg=key
        )


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with ``data/fake`` and the recorded ``runs/``, as they were when 35d5d40 trained there."""
    shutil.copytree(RECORDED / "runs_35d5d40", tmp_path / "runs")
    pack(partial(scan_faces, Faces(train=224, val=64, test=64)), tmp_path / "data" / "fake")
    return tmp_path


def command(folder: Path, *arguments: str) -> str:
    done = run_forked(1, "-m", "fer_ddp", *arguments, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_run_interrupted_before_continues_along_the_curve_of_the_undisturbed_one(runs: Path) -> None:
    output = command(runs, "train", "runs/interrupted/config.yaml")
    assert "resuming from step 11 (epoch 1 done)" in output
    for name in ("steps.jsonl", "metrics.jsonl"):
        found, recorded = lines(runs / "runs" / "interrupted" / name), lines(runs / "runs" / "finished" / name)
        assert [line["step"] for line in found] == [line["step"] for line in recorded]
    interrupted, finished = (lines(runs / "runs" / run / "steps.jsonl") for run in ("interrupted", "finished"))
    losses = [line["loss"] for line in interrupted], [line["loss"] for line in finished]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-12, atol=0)


def test_a_run_finished_before_is_evaluated_predicted_with_and_reported(runs: Path) -> None:
    before = read_json(runs / "runs" / "finished" / "summary.json")
    command(runs, "evaluate", "runs/finished")
    summary = read_json(runs / "runs" / "finished" / "summary.json")
    for split in ("val", "test"):
        assert summary[split].pop("predictions_sha256") == sha256_of(runs / f"runs/finished/predictions/{split}.csv")
    assert summary == {"schema_version": 1} | before
    Image.new("L", (60, 60), 128).save(runs / "face.png")
    assert command(runs, "predict", "runs/finished", "face.png").startswith("face.png: ")
    command(runs, "report", "runs/finished", "--out", "report.html")
    assert "tiny" in (runs / "report.html").read_text()
