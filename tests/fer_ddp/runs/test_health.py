"""What a run warns of, once: memory that grows, a full disk, a falling speed."""

import mmap
from pathlib import Path
from typing import Any

import pytest

from fer_ddp.runs import health
from fer_ddp.runs.health import Disk, Memory, Speed, memory_bytes

GIB = 2**30


def test_memory_that_has_doubled_since_the_first_epoch_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = Memory()
    for epoch, used in enumerate([1.0, 1.9, 2.1, 3.0], start=5):
        monkeypatch.setattr(health, "memory_bytes", lambda used=used: int(used * GIB))
        memory.epoch(epoch)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("warning: rank 0 has 2.1 GiB of memory after epoch 7, and had 1.0 GiB after epoch 5; ")


def test_a_small_process_may_double(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    memory = Memory()
    for used in (0.1, 0.3):
        monkeypatch.setattr(health, "memory_bytes", lambda used=used: int(used * GIB))
        memory.epoch(1)
    assert capsys.readouterr().out == ""


def test_a_process_knows_its_memory() -> None:
    before = memory_bytes()
    content = mmap.mmap(
        -1, 2**27, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    )  # from the system, and not from what earlier tests have freed
    content.write(bytes(2**27))
    after = memory_bytes()
    assert before is not None
    assert after is not None
    assert 2**26 < after - before < 2**28
    content.close()


def test_a_disk_without_room_for_three_states_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def usage(folder: Path) -> Any:
        return type("Usage", (), {"free": GIB})

    monkeypatch.setattr(health.shutil, "disk_usage", usage)
    disk = Disk(tmp_path)
    for size in (0, GIB // 3, GIB // 2, GIB):
        disk.check(size)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"warning: {tmp_path}: its disk has 1.0 GiB left, and a state takes 512.0 MiB; make room")


def test_an_epoch_at_less_than_half_the_usual_speed_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    speed = Speed()
    for epoch, rate in enumerate([100.0, 1000.0, 1000.0, 400.0, 300.0], start=1):
        speed.epoch(epoch, rate, seconds=1.0 if rate == 100.0 else 60.0)  # the first is too short to tell
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("warning: epoch 4 trained at 400 images/s, less than half of the 1,000 of the epochs before")
