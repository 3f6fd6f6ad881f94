"""``figures``, ``inspect --job`` and ``report --figures``, as a user types them."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_runs import write_run
from PIL import Image

import fer_ddp
from fer_ddp.__main__ import main
from fer_ddp.data.dataset import with_statistics
from fer_ddp.errors import JobError
from fer_ddp.report.write import write_report
from fer_ddp.runs.checkpoint import save_checkpoint
from fer_ddp.runs.folder import RunFolder
from fer_ddp.training.setup import build_trainer
from shards.reading.reader import read_split


@pytest.fixture
def run(tiny_job: Path, faces: Path) -> Path:
    """A finished run as `train` leaves it, of an untrained model and made-up predictions."""
    job, data = fer_ddp.load_job(tiny_job), fer_ddp.FERDataset(faces, "train")
    job = dataclasses.replace(job, data=with_statistics(job.data, data.manifest))
    folder = RunFolder(job.run)
    splits = {split: read_split(faces, split) for split in ("val", "test")}
    random = np.random.default_rng(0)
    write_run(
        folder.path,
        {split: (each.labels, random.dirichlet(np.ones(7), len(each.labels))) for split, each in splits.items()},
        classes=data.class_names,
        digest=data.manifest.digest,
        keys={split: each.keys for split, each in splits.items()},
    )
    folder.create()
    folder.save_config(job.to_dict())
    trainer = build_trainer(job, data, 1, torch.device("cpu"))
    save_checkpoint(folder.checkpoints / "best.safetensors", trainer.state.weights())
    return folder.path


def test_a_run_gets_three_sheets_and_the_report_shows_them(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(JobError, match="--figures: there are none yet; `fer-ddp figures .*run` draws them"):
        write_report([run], tmp_path / "report.html", figures=True, leaking={})
    capsys.readouterr()
    assert main(["figures", str(run)]) == 0
    names = [f"{name}_val.png" for name in ("grad_cam", "calibration", "embedding")]
    assert capsys.readouterr().out == f"look at {', '.join(str(run / 'figures' / name) for name in names)}\n"
    for name in names:
        assert min(Image.open(run / "figures" / name).size) > 500
    page = write_report([run], tmp_path / "report.html", figures=True, leaking={}).page.read_text()
    assert page.count('<img src="data:image/png;base64,') == 3
    shutil.rmtree(run / "predictions")
    assert main(["figures", str(run)]) == 2
    assert capsys.readouterr().err == f"error: {run}: has no predictions yet; `fer-ddp evaluate {run}` makes them\n"


def test_a_batch_is_drawn_as_a_job_augments_it(
    tiny_job: Path, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["inspect", str(faces), "--figures", str(tmp_path), "--job", str(tiny_job), "augment.mixup_alpha=1"]
    assert main(words) == 0
    path = tmp_path / "tiny-augmented.png"
    assert capsys.readouterr().out == f"look at {path}\n"
    assert min(Image.open(path).size) > 1000
    assert main(["inspect"]) == 2
    assert capsys.readouterr().err.endswith(" inspect: give the folder of a data set\n")
