"""Decoded splits on the machine's disk: made once, whole or not at all, and checked."""

import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fer_ddp.data.cache
from fer_ddp import FERDataset
from fer_ddp.data.cache import cached_split
from fer_ddp.data.cache_folder import cache_folder
from fer_ddp.errors import Interrupted, RunError
from fer_ddp.signals import StopFlag
from shards.errors import DataError
from shards.files import FileLock
from shards.manifest import read_manifest
from shards.reading.reader import read_split
from shards.reading.split_index import write_index


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("FER_DDP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a line for each time that a split is decoded, in this process or a fork of it."""
    log = tmp_path / "decoded.txt"
    log.touch()

    def logged(folder: Path, split: str, *more: Any, **options: Any) -> None:
        with open(log, "a") as file:
            file.write(f"{split}\n")
        time.sleep(0.2)  # long enough for the others to arrive
        write_index(folder, split, *more, **options)

    monkeypatch.setattr(fer_ddp.data.cache, "write_index", logged)
    return log


def cached(own_cache: Path, name: str) -> Path:
    (found,) = own_cache.glob(f"*/train/{name}")
    return found


def test_a_second_opening_does_not_decode_again(faces: Path, own_cache: Path, decoded: Path) -> None:
    FERDataset(faces, "train")
    FERDataset(faces, "train")
    assert decoded.read_text() == "train\n"


def open_in_eight_processes(folder: Path, split: str) -> tuple[list[int], list[int]]:
    """Open a split in eight processes at once: (the sums of their pixels, the exit codes of those that failed)."""
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(8), context.SimpleQueue()

    def open_at_once() -> None:
        start.wait()
        results.put(int(FERDataset(folder, split).images.sum()))

    processes = [context.Process(target=open_at_once) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=30)
    failed = [process.exitcode for process in processes if process.exitcode != 0]
    return [results.get() for _ in range(8 - len(failed))], failed


def test_eight_processes_that_open_at_once_decode_once(faces: Path, own_cache: Path, decoded: Path) -> None:
    sums = open_in_eight_processes(faces, "train")
    assert sums == ([int(read_split(faces, "train").images.sum())] * 8, [])
    assert decoded.read_text() == "train\n"


def test_if_the_process_that_decodes_is_killed_another_starts_again(
    faces: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = tmp_path / "killed"

    def killed_halfway(*arguments: Any, **options: Any) -> None:
        write_index(*arguments, **options)
        if not killed.exists():
            killed.touch()
            os.truncate(arguments[3] / "images.npy", 100_000)
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(fer_ddp.data.cache, "write_index", killed_halfway)
    sums = open_in_eight_processes(faces, "train")
    assert sums == ([int(read_split(faces, "train").images.sum())] * 7, [-signal.SIGKILL])
    assert list(own_cache.glob("*/train.tmp")) == []


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "keys.jsonl"])
def test_a_damaged_cache_is_decoded_again(faces: Path, own_cache: Path, decoded: Path, name: str) -> None:
    FERDataset(faces, "train")
    path = cached(own_cache, name)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    time.sleep(0.02)  # the times of files are no finer than some milliseconds
    path.write_bytes(content)
    again, split = FERDataset(faces, "train"), read_split(faces, "train")
    assert decoded.read_text() == "train\ntrain\n"
    assert np.array_equal(again.images.numpy(), split.images)
    assert (again.labels.tolist(), again.keys) == (split.labels.tolist(), split.keys)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "keys.jsonl", "checked.json"])
def test_a_cache_with_a_file_missing_is_decoded_again(faces: Path, own_cache: Path, decoded: Path, name: str) -> None:
    FERDataset(faces, "train")
    cached(own_cache, name).unlink()
    assert len(FERDataset(faces, "train")) == 240


def test_files_that_were_touched_are_checked_again_and_used(faces: Path, own_cache: Path, decoded: Path) -> None:
    FERDataset(faces, "train")
    os.utime(cached(own_cache, "images.npy"))
    before = cached(own_cache, "checked.json").read_text()
    FERDataset(faces, "train")
    after = cached(own_cache, "checked.json").read_text()
    FERDataset(faces, "train")
    assert (decoded.read_text(), before != after) == ("train\n", True)
    assert cached(own_cache, "checked.json").read_text() == after


def test_files_are_checked_again_after_a_reboot(faces: Path, own_cache: Path, decoded: Path) -> None:
    FERDataset(faces, "train")
    path = cached(own_cache, "checked.json")
    checked = json.loads(path.read_text())
    checked["state"][0] = "another start"
    checked["sha256"]["images.npy"] = "what a crash left"
    path.write_text(json.dumps(checked))
    FERDataset(faces, "train")
    assert decoded.read_text() == "train\ntrain\n"


def test_a_full_disk_is_reported(
    faces: Path, own_cache: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    with (
        pytest.raises(RunError, match="the decoded split can't be kept there \\(File too large\\); set FER_DDP_CACHE"),
        full_disk(),
    ):
        FERDataset(faces, "val")


def test_where_images_are_is_cached_without_their_pixels(faces: Path, own_cache: Path) -> None:
    index, split = cached_split(faces, "val", read_manifest(faces), pixels=False), read_split(faces, "val")
    assert (index.keys(), index.labels().tolist()) == (split.keys, split.labels.tolist())
    assert sorted(path.name for path in index.path.iterdir()) == [
        "checked.json",
        "index.json",
        "keys.jsonl",
        "labels.npy",
        "members.npy",
    ]


def test_another_data_set_has_a_cache_of_its_own(faces: Path, own_cache: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(faces, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["class_names"][0] = "furious"
    (other / "manifest.json").write_text(json.dumps(manifest))
    names = [FERDataset(folder, "val").class_names[0] for folder in (faces, other)]
    assert (names, len(list(own_cache.iterdir()))) == (["angry", "furious"], 2)


def test_changing_the_tensors_does_not_change_the_cache(faces: Path, own_cache: Path, decoded: Path) -> None:
    dataset = FERDataset(faces, "train")
    dataset.images.zero_()
    dataset.labels.zero_()
    again = FERDataset(faces, "train")
    assert again.images.any()
    assert again.labels.any()
    assert decoded.read_text() == "train\n"


def test_a_cache_that_cannot_be_written_is_refused_with_another_choice(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FER_DDP_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(RunError) as caught:
        FERDataset(faces, "val")
    assert str(caught.value) == (
        f"{tmp_path}/file/cache: decoded splits can't be kept there (Not a directory); "
        f"set FER_DDP_CACHE to a folder with room on a local disk"
    )


def test_a_truncated_tar_is_refused_by_its_name_and_leaves_no_cache(
    faces: Path, own_cache: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(faces, folder)
    tar = folder / "train-000000.tar"
    tar.write_bytes(tar.read_bytes()[:5000])
    with pytest.raises(DataError, match=f"{tar}: has 5000 bytes"):
        FERDataset(folder, "train")
    assert list(own_cache.glob("*/train")) == []


@pytest.mark.parametrize("kind", ["link", "writable by others", "of another user"])
def test_a_default_folder_that_others_could_have_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.delenv("FER_DDP_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / f"fer_ddp-{os.getuid()}"
    if kind == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    elif kind == "writable by others":
        folder.mkdir()
        folder.chmod(0o777)
    else:
        folder.mkdir(mode=0o700)
        other = os.getuid() + 1
        monkeypatch.setattr(os, "getuid", lambda: other)
        folder.rename(tmp_path / f"fer_ddp-{other}")
    with pytest.raises(RunError, match="set FER_DDP_CACHE to a folder of your own"):
        cache_folder()


def test_the_default_folder_is_made_for_its_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FER_DDP_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cache_folder().stat().st_mode & 0o777 == 0o700
    assert cache_folder() == cache_folder()


def test_a_run_that_waits_for_another_process_to_decode_can_be_stopped(faces: Path, own_cache: Path) -> None:
    FERDataset(faces, "val")
    (lock,) = own_cache.glob("*/val.lock")
    with FileLock(lock), StopFlag():
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(Interrupted, match="stopped by SIGUSR1 while waiting for another process"):
            FERDataset(faces, "val")


def test_no_room_is_made_for_what_only_the_manifest_says(
    faces: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(faces, tmp_path / "lying")
    manifest = read_manifest(tmp_path / "lying")
    os.truncate(tmp_path / "lying" / manifest.splits["train"].shards[0].name, 512)
    monkeypatch.setattr(fer_ddp.data.cache, "make_room", lambda *_: pytest.fail("made room"))
    with pytest.raises(DataError, match="has 512 bytes, the manifest says"):
        cached_split(tmp_path / "lying", "train", manifest, pixels=True)
