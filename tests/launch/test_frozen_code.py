"""What is edited after a submission does not change what was frozen with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fer_ddp.errors import JobError
from launch.frozen_code import environment, freeze_code


def shown(code: str, target: Path) -> str:
    """What ``code`` prints in a task of the array whose code was frozen in ``target``."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment(target),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_model_of_the_users_own_is_frozen_with_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("nets/face.py", "mine_frozen/inside/net.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("text = 'as submitted'\n")
    freeze_code(tmp_path / "code", ["plain_cnn", "nets/face.py:Net", "mine_frozen.inside.net:Net", "torch.nn:Linear"])
    for name in ("nets/face.py", "mine_frozen/inside/net.py"):
        (tmp_path / name).write_text("text = 'edited'\n")
    finding = "from fer_ddp.models.own_code import load_module; print(load_module({!r}, 'text').text)"
    for place in ("nets/face.py", "mine_frozen.inside.net"):
        assert shown(finding.format(place), tmp_path / "code") == "as submitted\n"
    assert not (tmp_path / "code" / "torch").exists()


def test_a_model_that_is_not_there_is_refused_before_a_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JobError, match="there is no file nets/face.py"):
        freeze_code(tmp_path / "code", ["nets/face.py:Net"])
