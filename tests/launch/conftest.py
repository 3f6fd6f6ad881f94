"""What the tests of ``launch`` share: a folder to work in, with a small job and an array of it."""

from pathlib import Path

import pytest
import yaml


@pytest.fixture
def workplace(tiny_job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with ``jobs/tiny.yaml`` and ``jobs/arrays/four.yaml``: two learning rates, two seeds."""
    monkeypatch.chdir(tmp_path)
    job = yaml.safe_load(tiny_job.read_text()) | {"epochs": 2}
    del job["run"]
    (tmp_path / "jobs" / "arrays").mkdir(parents=True)
    (tmp_path / "jobs" / "tiny.yaml").write_text(yaml.safe_dump(job, sort_keys=False))
    array = {"jobs": ["../tiny.yaml"], "seeds": [0, 1], "grid": {"optimizer.lr": [0.001, 0.01]}}
    (tmp_path / "jobs" / "arrays" / "four.yaml").write_text(yaml.safe_dump(array, sort_keys=False))
    return tmp_path
