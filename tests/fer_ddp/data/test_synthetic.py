"""A job without data trains on synthetic faces in the cache folder, if it asks for synthetic faces."""

from pathlib import Path

import pytest

from fer_ddp.data.dataset import DataConfig
from fer_ddp.data.synthetic import drawn_if_missing


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FER_DDP_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_synthetic_faces_are_drawn_once_and_a_line_says_where(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces = DataConfig(path=str(folder / "cache/synthetic-faces"))
    assert [drawn_if_missing(DataConfig(path="data/fake")) for _ in range(2)] == [faces, faces]
    assert capsys.readouterr().out.splitlines() == [
        f"data/fake: there is no such folder; drawing 2,000 synthetic faces in {faces.path}",
        f"data/fake: there is no such folder; using the synthetic faces in {faces.path}",
    ]
    assert (Path(faces.path) / "manifest.json").exists()


def test_faces_that_are_there_are_used(folder: Path) -> None:
    (folder / "data/fake").mkdir(parents=True)
    assert drawn_if_missing(DataConfig(path="data/fake")) == DataConfig(path="data/fake")


def test_no_other_data_are_replaced(folder: Path) -> None:
    assert drawn_if_missing(DataConfig(path="data/fer2013")) == DataConfig(path="data/fer2013")
    assert not (folder / "cache").exists()
