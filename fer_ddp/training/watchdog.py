"""Ends a run that stalls, whatever stalls, with a message and the stacks of all threads of all ranks.

The training loop and evaluations count their steps and batches. A thread of each rank looks at the counters of all
ranks: while one of them grows, the run makes progress, also where the others wait for that rank. It counts only time in
which it ran itself, in short parts, so a suspended machine or a job that is stopped and continued has not stalled.
"""

import json
import os
import re
import sys
import sysconfig
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from fer_ddp import distributed
from fer_ddp.errors import RunError, os_error_message
from fer_ddp.runs.folder import RunFolder
from shards.files import atomic_write_text

KEY = "stall_seconds"
STACKS = "stall.txt"
"""In the run folder: the stacks of all threads of all ranks."""
FIRST_STEP_SECONDS = 1800
"""A shorter ``stall_seconds`` does not hold before the first step is done, which may compile and allocate."""
_LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_OWN = str(Path(__file__).parents[2])
_PACKAGES = tuple(f"{_OWN}{os.sep}{package}{os.sep}" for package in ("fer_ddp", "shards", "launch"))


@dataclass
class Report:
    """Where a rank is when the run stalls."""

    place: str
    """The innermost line of the training thread that is not a library's."""
    is_waiting: bool
    """Whether it waits for other ranks."""
    stacks: str


class Watchdog:
    """Watches over the thread that enters it as a context, from there to its exit.

    With ``ends_process``, and always among several ranks, a stalled run is recorded as failed in ``run`` and its
    processes end with status 1; otherwise, as in a notebook, a message is printed once. ``seconds``: how long no rank
    may make progress; None or 0 watches nothing.
    """

    def __init__(self, run: RunFolder, seconds: float | None, *, ends_process: bool) -> None:
        self._run, self._seconds = run, seconds or 0.0
        self._ends_process = ends_process or distributed.world_size() > 1
        self._tick = min(2.0, self._seconds / 10)
        self._beats = 0
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._thread = 0
        # Written by the exchange of the ranks alone, and replaced as a whole.
        self._others: dict[int, str] = {}
        self._reports: dict[int, str] = {}
        self._is_told = False
        # And what it sends.
        self._report: Report | None = None
        self._tells = False

    def beat(self) -> None:
        """Count a step, or a batch of an evaluation."""
        self._beats += 1

    def __enter__(self) -> "Watchdog":
        distributed.wait_without_end()
        if self._seconds:
            self._thread = threading.get_ident()
            works = [self._watch] if distributed.world_size() == 1 else [self._watch, self._exchange]
            self._threads = [threading.Thread(target=work, name="watchdog", daemon=True) for work in works]
            for thread in self._threads:
                thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(5)  # unless a store that is gone keeps it

    def _watch(self) -> None:
        idle, last = 0.0, time.monotonic()
        before: tuple[int, dict[int, str]] = (0, {})
        reported = None
        while not self._ended.wait(self._tick):
            now = time.monotonic()
            passed, last = min(now - last, 2 * self._tick), now
            if is_debugged(self._thread):
                self._beats += 1
            seen = (self._beats, self._others)
            idle, before = (0.0 if seen != before else idle + passed), seen
            limit = self._seconds if self._beats else max(self._seconds, FIRST_STEP_SECONDS)
            if (idle >= limit or self._reports) and seen != reported:
                reported = seen
                self._stalled(idle)

    def _exchange(self) -> None:
        """Tell the other ranks how far this one is, and see how far they are; a report when one of them asks."""
        board = None
        while not self._ended.wait(self._tick):
            try:
                board = board or distributed.Board("watchdog")
                board.post("beats", str(self._beats))
                self._others = board.read("beats")
                if self._report is None and board.read("report"):
                    self._report = self._own_report()
                if self._report is not None:
                    board.post("report", json.dumps(vars(self._report)))
                    self._reports = board.read("report")
                if self._tells:
                    board.post("told", "")
                self._is_told = self._tells or bool(board.read("told"))
            except distributed.StoreError:  # whoever held it is gone, which ends this rank as well
                board = None

    def _own_report(self) -> Report:
        frames = {ident: frame for ident, frame in sys._current_frames().items() if ident != threading.get_ident()}
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        stacks = "".join(
            f"\nthread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
            for ident, frame in sorted(frames.items(), key=lambda item: item[0] != self._thread)
            if names.get(ident) != "watchdog"
        )
        frame = frames.get(self._thread)
        if frame is None:
            return Report("its end", False, stacks)
        return Report(place_of(frame), distributed.is_waiting_in(frame.f_code.co_filename), stacks)

    def _stalled(self, idle: float) -> None:
        ranks = distributed.world_size()
        if self._ends_process:
            # Printing and writing may hang where the run does.
            end = threading.Timer(30 + 10 * self._tick, os._exit, [RunError.exit_status])
            end.daemon = True
            end.start()
        self._report = self._report or self._own_report()
        for _ in range(6 if ranks > 1 else 0):  # the others have ticks of their own
            if len(self._reports) < ranks:
                time.sleep(self._tick)
        reports = {number: Report(**json.loads(text)) for number, text in self._reports.items()}
        reports |= {distributed.rank(): self._report}
        if min(reports) == distributed.rank():
            self._tell(reports, idle)
        if not self._ends_process:
            self._report = None
            return
        # Who tells ends last: torchrun ends all ranks as soon as one has ended, and rank zero may hold the store.
        self._tells = min(reports) == distributed.rank()
        for _ in range(6 if ranks > 1 else 0):
            if self._tells or not self._is_told:
                time.sleep(self._tick)
        os._exit(RunError.exit_status)

    def _tell(self, reports: dict[int, Report], idle: float) -> None:
        path = self._run.path / STACKS
        message = (
            f"no progress for {max(idle, self._seconds):.0f} s: {who_stalled(reports, distributed.world_size())}; the "
            f"stacks of all threads are in {path}. "
        )
        if self._ends_process:
            message += "Run the same command again to resume from the last state; "
        message += f"if a step or a read may take this long, set a larger {KEY}, or {KEY}=null for no limit"
        # First, since the disk may be what stalls.
        print(f"error: {message}", file=sys.stderr, flush=True)
        texts = [f"rank {number}: {report.place}\n{report.stacks}" for number, report in sorted(reports.items())]
        try:
            atomic_write_text(path, "\n".join(texts))
            if self._ends_process:
                self._run.write_status("failed", message=message)
        except OSError as error:  # such as on a full disk, or on a machine without the run folder
            print(f"error: {os_error_message(error)}", file=sys.stderr, flush=True)


def who_stalled(reports: dict[int, Report], ranks: int) -> str:
    """Which of so many ranks hold up the run, then which wait for them, and where they are."""
    if ranks == 1:
        return f"the run is at {reports[0].place}"
    silent = "does not respond (it is stopped, or its machine is lost)"
    shown = [f"rank {number} {silent}" for number in range(ranks) if number not in reports]
    for verb in ("is", "waits"):
        alike = sorted(number for number, report in reports.items() if report.is_waiting == (verb == "waits"))
        shown += [f"rank {number} {verb} at {reports[number].place}" for number in alike]
    return "; ".join(shown[:8]) + ("; ..." if len(shown) > 8 else "")


def place_of(frame: FrameType) -> str:
    """File, line and function of the innermost frame of a stack that is not a library's."""
    innermost: FrameType | None = frame
    while innermost is not None and _is_library(innermost.f_code.co_filename):
        innermost = innermost.f_back
    found = innermost or frame
    path = Path(found.f_code.co_filename)
    root = next((root for root in (Path.cwd(), Path(_OWN)) if path.is_relative_to(root)), None)
    return f"{path.relative_to(root) if root else path} line {found.f_lineno}, in {found.f_code.co_name}"


def _is_library(file: str) -> bool:
    if file.startswith(_PACKAGES):
        return file in distributed.WAITING  # of a rank that waits, the line that made it wait tells more
    return file.startswith((*_LIBRARIES, "<"))


def is_debugged(thread: int) -> bool:
    """Whether a debugger is attached: pdb at its prompt in ``thread``, another one of Python's, or one of processes."""
    trace = threading.gettrace()
    if trace is not None and not str(getattr(trace, "__module__", "")).startswith("coverage"):
        return True
    if hasattr(sys, "monitoring") and sys.monitoring.get_tool(sys.monitoring.DEBUGGER_ID) is not None:
        return True
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_globals.get("__name__") == "bdb":
            return True
        frame = frame.f_back
    with suppress(OSError):  # Linux alone has it
        return re.search(r"^TracerPid:\t[1-9]", Path("/proc/self/status").read_text(), re.MULTILINE) is not None
    return False
