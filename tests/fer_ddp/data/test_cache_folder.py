"""What the cache holds is listed, and does not grow for ever; what is in use stays."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from fer_ddp import FERDataset
from fer_ddp.__main__ import main
from fer_ddp.data import cache_folder as module
from fer_ddp.data.cache_folder import cache_entries, hold_entry, prune_cache
from fer_ddp.errors import RunError
from shards.files import FileLock

DAY = 86400


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; what earlier tests opened counts as closed."""
    monkeypatch.setenv("FER_DDP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_HELD", {})
    return tmp_path / "cache"


def keep(number: int, *, days: float = 0, size: int = 1000, data: Path | None = None) -> Path:
    """An entry that was last used so many days ago and is not in use."""
    entry = hold_entry(str(number) * 64, data or Path(f"data{number}"))
    module._HELD.pop(entry).release()
    (entry / "train").mkdir(exist_ok=True)
    (entry / "train" / "images.npy").write_bytes(bytes(size))
    used = time.time() - days * DAY
    os.utime(entry / "used.lock", (used, used))
    return entry


def names(entries: list[module.CacheEntry]) -> list[str]:
    return [entry.path.name[0] for entry in entries]


def test_what_is_kept_is_listed_with_its_size_its_last_use_and_whether_the_data_exist(
    folder: Path, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = Path(shutil.copytree(faces, tmp_path / "moved"))
    FERDataset(faces, "val")
    keep(1, days=3, data=moved)
    shutil.rmtree(moved)
    assert main(["cache"]) == 0
    head, titles, first, second = capsys.readouterr().out.splitlines()
    assert head.startswith(f"{folder}: 2 data sets, 0.")
    assert titles.split() == ["size", "last", "used", "data", "set"]
    assert first.split()[:2] == ["0.2", "MiB"]
    assert f"  {faces}, in " in first
    assert f"  {moved} (no longer there), in 1111" in second


def test_what_was_unused_for_long_is_removed_and_then_the_oldest_until_the_rest_fits(folder: Path) -> None:
    for number, days in ((1, 91), (2, 89), (3, 5), (4, 1)):
        keep(number, days=days, size=100_000)
    assert names(prune_cache(folder)) == ["1"]
    assert names(prune_cache(folder, max_bytes=250_000)) == ["2"]
    assert names(prune_cache(folder, days=4)) == ["3"]
    assert names(cache_entries(folder)) == ["4"]
    assert names(prune_cache(folder, days=0)) == ["4"]
    assert list(folder.iterdir()) == []


def test_prune_also_removes_what_data_sets_that_are_gone_have_left(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(1, data=tmp_path)
    keep(2)
    assert main(["cache", "--prune"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"removed from the cache: {Path('data2').absolute()} (0.0 MiB)\n{folder}: 1 data set, ")
    assert main(["cache", "--prune", "--older-than", "0"]) == 0
    assert capsys.readouterr().out.endswith(f"{folder}: 0 data sets, 0.0 MiB\n")


def test_what_is_in_use_here_or_in_another_process_is_not_removed(folder: Path, faces: Path) -> None:
    FERDataset(faces, "val")
    assert prune_cache(folder, days=0) == []
    module._HELD.popitem()[1].release()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        FERDataset(faces, "val")
        os.write(writing, b"1")
        signal.pause()
    os.read(reading, 1)
    assert prune_cache(folder, days=0) == []
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert len(prune_cache(folder, days=0)) == 1
    assert len(FERDataset(faces, "val")) == 70


def test_another_data_set_makes_room_for_itself_and_a_line_names_what_went(
    folder: Path, faces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(1, days=100)
    keep(2, days=2, size=10_000)
    keep(3, days=1)
    disk = shutil.disk_usage(folder)._replace(total=4 * (70 * 48 * 48 + 5000))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk)
    FERDataset(faces, "val")
    there = [Path(f"data{number}").absolute() for number in (1, 2)]
    assert capsys.readouterr().out == (
        f"removed from the cache: {there[0]} and {there[1]} (0.0 MiB); `fer-ddp cache` lists the others\n"
    )
    assert "3" in names(cache_entries(folder))
    FERDataset(faces, "val")
    assert capsys.readouterr().out == ""


def test_who_opens_an_entry_while_it_is_removed_makes_a_new_one(folder: Path) -> None:
    entry = keep(1)
    reading, writing = os.pipe()
    pid = os.fork()  # before the lock is taken, of which it would hold a copy
    if pid == 0:
        signal.alarm(20)
        os.read(reading, 1)
        hold_entry("1" * 64, Path("data1"))  # waits
        os._exit(0 if (entry / "used.lock").exists() else 1)
    lock = FileLock(entry / "used.lock")
    lock.acquire()
    os.write(writing, b"1")
    time.sleep(0.2)
    shutil.rmtree(entry)
    lock.release()
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize(
    ("limit", "right"),
    [
        (["--older-than", "3"], "needs --prune, which removes what is older or more"),
        (["--prune", "--max-size", "-1"], "should be 0 or more"),
        (["--prune", "--older-than", "nan"], "should be 0 or more"),
    ],
)
def test_a_limit_that_cannot_be_meant_is_refused(
    folder: Path, limit: list[str], right: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", *limit]) == 2
    assert f"error: {limit[-2]} {float(limit[-1]):g}: {right}" in capsys.readouterr().err


def test_an_entry_that_others_can_write_to_is_refused_also_where_another_was_opened_before(
    folder: Path, faces: Path
) -> None:
    FERDataset(faces, "val")
    (entry,) = folder.iterdir()
    entry.rename(folder / "moved")
    shutil.copytree(folder / "moved", entry)
    entry.chmod(0o777)
    with pytest.raises(RunError, match=rf"^{entry}: .* can be written by one"):
        FERDataset(faces, "val")
