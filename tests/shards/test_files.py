"""Files that are whole or absent, digests, and the lock."""

import subprocess
import sys
from pathlib import Path

import pytest

from shards.files import FileLock, atomic_write_bytes, sha256_of


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        atomic_write_bytes(tmp_path / "a.json", content)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.json": b"new"}


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder") as caught:
        atomic_write_bytes(tmp_path / "folder", b"")
    assert caught.value.filename == str(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_link_under_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("whole")
    (tmp_path / ".out.json.tmp").symlink_to(tmp_path / "mine")
    atomic_write_bytes(tmp_path / "out.json", b"new")
    assert (tmp_path / "mine").read_text() == "whole"
    assert (tmp_path / "out.json").read_bytes() == b"new"


def test_the_digest_is_that_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


HOLD = (
    "import sys, pathlib, shards.files as f; l = f.FileLock(pathlib.Path(sys.argv[1])); l.acquire(); print(1, flush=1)"
)


def test_a_lock_is_free_again_when_the_process_that_holds_it_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"{HOLD}; sys.stdin.read()", str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"1\n"
        with pytest.raises(BlockingIOError):
            FileLock(tmp_path / "lock").acquire(wait=False)
        holder.kill()
    with FileLock(tmp_path / "lock"):
        pass


def test_no_module_needs_fcntl_or_resource_to_be_imported() -> None:
    """Windows has neither."""
    code = (
        "import sys; sys.modules['fcntl'] = sys.modules['resource'] = None\n"
        "import shards.__main__, shards.packing.packer, shards.reading.sample_workers, shards.verify"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
