"""Files that are whole or absent, digests, and the lock."""

import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shards.files import FileLock, append_bytes, atomic_write_bytes, atomic_write_text, sha256_of, write_json
from shards.text import printable


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


@pytest.mark.parametrize("name", [".out.json.tmp", ".out.json.0123456789abcdef.tmp"])
def test_a_link_under_a_temporary_name_is_not_followed(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("whole")
    (tmp_path / name).symlink_to(tmp_path / "mine")
    atomic_write_bytes(tmp_path / "out.json", b"new")
    assert (tmp_path / "mine").read_text() == "whole"
    assert (tmp_path / "out.json").read_bytes() == b"new"


def test_processes_that_write_a_file_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda content: atomic_write_bytes(tmp_path / "out", content), contents * 5))
    assert (tmp_path / "out").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


WRITE = "import os, pathlib, shards.files as f, sys\nf.os.fsync = lambda _: (print(1, flush=True), sys.stdin.read())\n"


def test_what_a_killed_process_had_not_finished_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        f"{WRITE}f.atomic_write_bytes(pathlib.Path(sys.argv[1]), b'x')",
        str(tmp_path / "out"),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"1\n"
        atomic_write_bytes(tmp_path / "out", b"mine")
        assert len(list(tmp_path.iterdir())) == 2
        writer.kill()
    (tmp_path / ".out.txt.0123456789abcdef.tmp").touch()  # of another file
    atomic_write_bytes(tmp_path / "out", b"mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.txt.0123456789abcdef.tmp", "out"]


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


@pytest.mark.parametrize("name", ["pipe", "folder", "device"])
def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/full")
    before = (tmp_path / name).lstat()
    with pytest.raises(OSError, match=f"is a .*{name}, not a file") as caught:
        atomic_write_bytes(tmp_path / name, b"new")
    assert caught.value.filename == str(tmp_path / name)
    assert os.path.samestat((tmp_path / name).lstat(), before)
    assert len(list(tmp_path.iterdir())) == 3


def test_bytes_of_a_name_that_are_no_text_are_written_as_escapes(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    atomic_write_text(tmp_path / "a.csv", f"{name},ü\n")
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "caf\\udce9.png,ü\n"
    write_json(tmp_path / "a.json", {"name": name})
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"name": name}


def test_what_a_killed_writer_has_left_is_removed_and_what_another_writes_is_not(tmp_path: Path) -> None:
    left, other = tmp_path / ".a.json.0123456789abcdef.tmp", tmp_path / ".a.json.fedcba9876543210.tmp"
    left.touch()
    with FileLock(other):
        atomic_write_bytes(tmp_path / "a.json", b"new")
        assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "a.json"]


def test_two_processes_that_write_one_file_at_once_never_meet(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, shards.files as f\n"
        "for _ in range(200): f.atomic_write_bytes(pathlib.Path(sys.argv[1]), sys.argv[2].encode() * 1000)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a"), letter]) for letter in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert (tmp_path / "a").read_bytes() in (b"a" * 1000, b"b" * 1000)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_lock_whose_file_was_removed_is_taken_on_the_new_file(tmp_path: Path) -> None:
    first = FileLock(tmp_path / "lock")
    first.acquire()
    (tmp_path / "lock").unlink()
    second = FileLock(tmp_path / "lock")
    second.acquire(wait=False)
    with pytest.raises(BlockingIOError):
        FileLock(tmp_path / "lock").acquire(wait=False)
    with pytest.raises(BlockingIOError):
        FileLock(tmp_path / "lock", shared=True).acquire(wait=False)


def test_names_in_messages_do_not_control_the_terminal() -> None:
    name = "a\x1b]0;title\x07 \udcff ü\n"  # \udcff is how Python has the byte ff in a file's name
    assert printable(name) == "a\\x1b]0;title\\x07 \\udcff ü\n"


def test_a_line_that_does_not_fit_on_the_disk_is_refused_by_the_files_name(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, before[1]))
    try:
        with pytest.raises(OSError, match="steps.jsonl") as caught:
            append_bytes(path, b"a line\n" * 9)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(path)
