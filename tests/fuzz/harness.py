"""One generated input: its folder is made, the command runs in a process of its own, and what it did is judged.

The property: the exit status is a documented one, there is no traceback, a message names a file or a key of the input,
nothing outside the folder is created or changed, no process is left, and time and memory are bounded.
"""

import faulthandler
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

STATUSES = (0, 1, 2, 75)
GIB = 1 << 30
MAX_MEMORY = 2 * GIB
"""More than the process had when it started."""
_WAITS = 9
"""How much longer a command may take by the clock, on a machine that others use, than of processor time."""
_WRAPPED = 99
"""The status for an exception that left the command."""


@dataclass(frozen=True)
class Change:
    """One step that makes the input: ``do`` (a function of `changes`) with ``path`` inside the folder and a value."""

    do: Callable[..., None]
    path: str
    value: object = None

    def __repr__(self) -> str:
        shown = repr(self.value)
        return f"{self.do.__name__}({self.path!r}, {shown if len(shown) < 300 else shown[:300] + '...'})"


@dataclass(frozen=True)
class Case:
    """An input: the steps that make its folder, and the arguments of ``fer-ddp`` there."""

    changes: tuple[Change, ...]
    argv: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of an input."""

    case: Case
    problem: str | None
    """What breaks the property; None if it holds."""
    status: int
    output: str
    seconds: float
    """Of processor time."""
    memory: int
    """Bytes more than at the start, at most."""


def build(case: Case, folder: Path, bases: Path) -> None:
    """Make the folder of ``case``; ``bases`` holds whole things that are copied and then changed."""
    folder.mkdir()
    for change in case.changes:
        change.do(folder / change.path, change.value, bases)


def check(case: Case, main: Callable[[list[str]], int], bases: Path, limit_s: float) -> Outcome:
    """Run ``case`` and judge it. ``limit_s``: seconds of processor time after which it hangs."""
    place = Path(tempfile.mkdtemp(prefix="fuzz-"))
    folder, outside = place / "case", place / "outside"
    try:
        outside.mkdir()
        (outside / "precious.txt").write_text("precious")
        build(case, folder, bases)
        before, inside = _listing(place, folder), _names(folder)
        status, seconds, memory, left = _run(case, main, folder, limit_s)
        output = "".join((place / name).read_text(errors="backslashreplace") for name in ("stdout", "stderr"))
        error = (place / "stderr").read_text(errors="backslashreplace")
        for name in ("stdout", "stderr"):
            (place / name).unlink()
        problem = _problem(case, folder, status, output, error, memory, left, inside)
        if problem is None and _listing(place, folder) != before:
            problem = "something outside the folder was created or changed"
        return Outcome(case, problem, status, output, seconds, memory)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _run(
    case: Case, main: Callable[[list[str]], int], folder: Path, limit_s: float
) -> tuple[int, float, int, list[str]]:
    """(exit status, seconds of processor time, bytes of memory, processes left)."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _in_child(case, main, folder, limit_s)
    _, status, usage = os.wait4(child, 0)
    idle = os.fork()  # a fork has not all pages of this process, so it is compared with another fork
    if idle == 0:
        os._exit(0)
    peak = (usage.ru_maxrss - os.wait4(idle, 0)[2].ru_maxrss) * 1024
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, max(peak, 0), _end_group(child)


def _in_child(case: Case, main: Callable[[list[str]], int], folder: Path, limit_s: float) -> None:
    status = _WRAPPED
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        for descriptor, name in ((0, os.devnull), (1, "../stdout"), (2, "../stderr")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT, 0o600), descriptor)
        home = folder.parent / "home"
        home.mkdir()
        os.environ |= {
            "HOME": str(home),
            "TMPDIR": str(home),
            "XDG_CACHE_HOME": str(home),
            "FER_DDP_CACHE": str(home / "cache"),
            "WANDB_MODE": "disabled",
            "COLUMNS": "100",
        }
        tempfile.tempdir = None
        sys.argv = ["fer-ddp", *case.argv]
        for name, number in (("stdout", 1), ("stderr", 2)):  # as `guard_output` leaves them
            setattr(sys, name, open(number, "w", closefd=False, errors="backslashreplace"))  # noqa: SIM115
        limit = _virtual() + MAX_MEMORY + GIB
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        faulthandler.register(signal.SIGXCPU, chain=True)
        spent = int(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (spent + int(limit_s) + 1, spent + int(limit_s) + 60))
        faulthandler.dump_traceback_later(_WAITS * limit_s, exit=True)
        status = main(list(case.argv))
    except SystemExit as stopped:  # argparse
        status = stopped.code if isinstance(stopped.code, int) else 2
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _end_group(group: int) -> list[str]:
    """The command lines of the processes that the command left behind, which are ended."""
    for _ in range(40):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return []
        time.sleep(0.05)  # helpers of multiprocessing end when they see their parent gone
    left = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(entry.name)) == group:
                left.append((entry / "cmdline").read_text().replace("\0", " ").strip())
        except (OSError, ValueError):
            continue
    os.killpg(group, signal.SIGKILL)
    return left


def _problem(
    case: Case, folder: Path, status: int, output: str, error: str, memory: int, left: list[str], inside: set[str]
) -> str | None:
    if status == -signal.SIGXCPU or ("Timeout (" in error and "most recent call first" in error):
        return f"hangs: {_innermost(error)}"
    if "Traceback (most recent call last)" in output or status == _WRAPPED:
        return f"traceback: {_last_frame(output)}"
    if status not in STATUSES:
        return f"status {status}: {_last_line(error)}"
    if memory > MAX_MEMORY:
        return f"memory: {memory / GIB:.1f} GiB"
    if left:
        return f"left processes: {', '.join(left)}"
    if "Warning:" in error or "Exception ignored" in error:
        return f"warning: {next(line for line in error.splitlines() if 'Warning' in line or 'ignored' in line)}"
    if status and not _names_something(case, folder, error):
        return f"names nothing: {_last_line(error)}"
    remains = {name for name in _names(folder) - inside if re.search(r"(^|/)\.partial|\.(tmp|partial)$", name)}
    if remains:
        return f"left files: {', '.join(sorted(remains))}"
    return None


def _names_something(case: Case, folder: Path, error: str) -> bool:
    """Whether the messages name a word of the command line, a file of the folder, or a key of a job or a file."""
    words = {word for word in case.argv if len(word) > 1} | {Path(name).name for name in _names(folder)}
    return any(word and word in error for word in words) or bool(re.search(r"\w[\w.\[\]-]*: ", error))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["nothing was printed"])[-1][:300]


def _last_frame(text: str) -> str:
    """The last frame of a traceback that is in the code under test, and the error."""
    frames = re.findall(r'File "[^"]*/((?:shards|fer_ddp|launch)/[^"]+)", line (\d+), in (\S+)', text)
    where = f"{frames[-1][0]}:{frames[-1][1]} {frames[-1][2]}" if frames else "outside"
    return f"{where}: {_last_line(text[text.rfind('Traceback') :])}"


def _innermost(text: str) -> str:
    frames = re.findall(r'File "[^"]*/((?:shards|fer_ddp|launch)/[^"]+)", line (\d+) in (\S+)', text)
    return ":".join(frames[0][:2]) if frames else "outside"


def _names(folder: Path) -> set[str]:
    return {
        os.path.relpath(os.path.join(root, name), folder)
        for root, dirs, files in os.walk(folder)
        for name in [*dirs, *files]
    }


def _listing(place: Path, folder: Path) -> dict[str, object]:
    """What is outside the folder, with its contents; the home folder of the command is its own."""
    found: dict[str, object] = {}
    for path in sorted(place.rglob("*")):
        if not path.is_relative_to(folder) and not path.is_relative_to(place / "home"):
            found[str(path)] = path.read_bytes() if path.is_file() else path.lstat().st_mode
    return found


def _virtual() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
