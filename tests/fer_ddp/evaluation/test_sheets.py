"""``figures``, ``inspect --job`` and ``report --figures``, as a user types them."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

import fer_ddp
from fer_ddp.__main__ import main
from fer_ddp.errors import JobError
from fer_ddp.report.write import write_report


@pytest.fixture
def run(tiny_job: Path) -> Path:
    """A finished run."""
    return fer_ddp.train(fer_ddp.load_job(tiny_job), "cpu").folder


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
