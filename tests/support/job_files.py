"""Job files that tests write, and the message with which one is refused."""

from pathlib import Path

import pytest

from fer_ddp.config.load import load_job
from fer_ddp.errors import JobError

BASE = """\
data: {path: data/fake}
model: {name: plain_cnn, arguments: {channels: [4, 8], hidden: 16}}
optimizer: {name: adam, lr: 1e-3}
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def child(base: Path, text: str, name: str = "child") -> Path:
    return written(base.with_name(f"{name}.yaml"), f"extends: {base.name}\n{text}")


def refusal(path: Path, *overrides: str) -> str:
    """The sentence with which a job is refused, without the folder it lies in."""
    with pytest.raises(JobError) as caught:
        load_job(path, list(overrides))
    return str(caught.value).replace(f"{path.parent}/", "")
