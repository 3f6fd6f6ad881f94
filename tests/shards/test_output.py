"""A closed pipe and a full disk behind standard output: no traceback, and work is done to its end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORK = """
import argparse, pathlib, sys
from shards.output import execute, guard_output
guard_output()
def work():
    for number in range(20_000):
        print("line", number)
    print("bar", file=sys.stderr)
    pathlib.Path(sys.argv[2]).touch()
    return 0
raise SystemExit(execute(argparse.Namespace(execute=lambda _: work(), is_result=sys.argv[1] == "result")))
"""


@pytest.mark.parametrize(("kind", "status", "is_done"), [("work", 0, True), ("result", 141, False)])
def test_a_closed_pipe_ends_a_command_that_only_prints_and_no_other(
    kind: str, status: int, is_done: bool, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", WORK, kind, str(tmp_path / "done")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"line 0\n"
        process.stdout.close()
        errors = process.stderr.read()
        assert (process.wait(), (tmp_path / "done").exists(), errors) == (status, is_done, b"bar\n" if is_done else b"")


@pytest.mark.parametrize(("kind", "status", "is_done"), [("work", 0, True), ("result", 1, False)])
def test_a_full_disk_is_reported_once(kind: str, status: int, is_done: bool, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORK, kind, str(tmp_path / "done")]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    line = "stdout: No space left on device; what follows is not printed\n"
    assert (ended.returncode, (tmp_path / "done").exists()) == (status, is_done)
    assert ended.stderr == line + ("bar\n" if is_done else "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-", "> /dev/full 2> /dev/full"])
def test_streams_that_are_closed_from_the_start_are_no_error(closed: str, tmp_path: Path) -> None:
    words = [sys.executable, "-c", WORK, "work", str(tmp_path / "done")]
    ended = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *words], cwd=ROOT, capture_output=True, check=False)
    assert (ended.returncode, (tmp_path / "done").exists()) == (0, True)


def test_a_name_that_the_terminal_cannot_show_is_escaped() -> None:
    code = "from shards.output import guard_output; guard_output(); print('caf\\xe9 \\udcff')"
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout
    assert printed == b"caf\\xe9 \\udcff\n"


def test_a_working_folder_that_was_removed_is_reported(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    code = "import os, sys; os.rmdir(os.getcwd()); from shards.__main__ import main; sys.exit(main(['verify', 'x']))"
    ended = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path / "gone",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    message = "error: the working folder was removed; change into another one, such as: cd ~\n"
    assert (ended.returncode, ended.stderr) == (2, message)
