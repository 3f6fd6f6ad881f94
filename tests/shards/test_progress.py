"""Progress bars: on a terminal only, and wiped before anything else is written there."""

import os
import pty
import shutil
import subprocess
import sys
import termios
from pathlib import Path

ROOT = Path(__file__).parents[2]


def stderr_on_a_terminal(*arguments: object) -> str:
    """What ``python -m shards`` writes to stderr if that is a terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    command = [sys.executable, "-m", "shards", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        try:
            while read := os.read(ours, 65536):
                written += read
        except OSError:  # how Linux says that the other side is closed
            pass
    os.close(ours)
    assert process.returncode in (0, 1)
    return written.decode()


def visible(written: str) -> str:
    """What is left on the terminal: of each line what was written after its last carriage return, if anything."""
    return "".join(line.rstrip("\r").rpartition("\r")[2] for line in written.split("\n"))


def test_packing_and_leakage_show_bars_and_wipe_them(small_csv: Path, tmp_path: Path) -> None:
    written = stderr_on_a_terminal("pack", small_csv, tmp_path / "out")
    assert "reading rows:   0%" in written
    assert "writing:   0%" in written
    assert visible(written).strip() == ""
    written = stderr_on_a_terminal("leakage", tmp_path / "out")
    assert "comparing images:   0%" in written
    assert visible(written).strip() == ""


def test_a_bar_is_wiped_before_an_error_is_printed(small_set: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_set, tmp_path / "damaged"))
    (folder / "train-000002.tar").write_bytes(b"")
    written = stderr_on_a_terminal("verify", folder)
    assert "verifying train" in written
    assert visible(written).startswith(f"shards verify: {folder}/train-000002.tar: has 0 bytes")


def test_nothing_is_shown_where_stderr_is_a_pipe(small_csv: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "shards", "pack", str(small_csv), str(tmp_path / "out")]
    assert subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60).stderr == b""
