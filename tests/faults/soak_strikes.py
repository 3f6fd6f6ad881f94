"""What strikes a soak's run of two ranks, and where that run is."""

import contextlib
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from laboratory import CACHE, JOB, ROOT, RUN, Failure, processes_of

STALL_SECONDS = 10
END_SECONDS = 120
"""How long a struck run may take to end: torchrun gives a rank half a minute before it kills it."""


@dataclass
class Soak:
    """The place of a soak, and what is seen there."""

    base: Path
    random: random.Random
    descriptors: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Of each rank's process, how many it had open each time they were counted."""
    log: Path = Path()
    process: subprocess.Popen[bytes] | None = None

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.base / RUN

    def start(self) -> None:
        """Start the run, or resume it: always the same command."""
        self.log = self.base / "logs" / f"{len(list((self.base / 'logs').iterdir())):03}"
        with open(self.log, "wb") as log:
            self.process = self.command(log)

    def command(self, log: int | object) -> subprocess.Popen[bytes]:
        """The command of the run."""
        environment = os.environ | {
            "FER_DDP_CACHE": str(self.base / CACHE),
            "TMPDIR": str(self.base / "tmp"),
            "PYTHONPATH": str(ROOT),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "launch", "local", "--ranks", "2", JOB],
            cwd=self.base,
            env=environment,
            stdout=log,  # type: ignore[arg-type]
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def processes(self, what: str) -> list[int]:
        """The process of the launcher or of torchrun, or of the ranks in their order; none if it is not there."""
        assert self.process is not None
        if what == "launcher":
            return [self.process.pid]
        found = {}
        for pid in processes_of(str(self.base)):
            with contextlib.suppress(OSError):
                variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                rank = next((int(each[5:]) for each in variables if each.startswith(b"RANK=")), None)
                if (what == "ranks" and rank is not None and b"train" in words) or (
                    what == "torchrun" and rank is None and b"launch.torchrun" in words
                ):
                    found[rank or 0] = pid
        return [found[number] for number in sorted(found)]

    def steps(self) -> int:
        """How many steps the run has written."""
        path = self.run / "steps.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def is_steady(self) -> bool:
        """Whether an epoch was done since the start, and the last one was not."""
        found = re.findall(rb"^epoch +(\d+)/(\d+) ", self.log.read_bytes(), re.MULTILINE)
        return bool(found) and found[-1][0] != found[-1][1]

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Wait so long, counting descriptors; returns whether the run has ended or ``until`` holds before that."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None or until():
                return True
            if self.is_steady():
                for pid in self.processes("ranks"):
                    with contextlib.suppress(OSError):
                        self.descriptors[pid].append(len(os.listdir(f"/proc/{pid}/fd")))
            time.sleep(0.5)
        return False


def send(soak: Soak, what: str, number: signal.Signals, rank: int = 0) -> bool:
    """Send a signal; returns whether that process is there, as none but the launcher is while a run starts."""
    with contextlib.suppress(ProcessLookupError, IndexError):
        os.kill(soak.processes(what)[rank], number)
        return True
    return False


def stopped(what: str, number: signal.Signals) -> Callable[[Soak], bool]:
    """A signal to one process; the run ends."""

    def strike(soak: Soak) -> bool:
        return send(soak, what, number, soak.random.randrange(2) if what == "ranks" else 0)

    return strike


def stalled_rank(soak: Soak) -> bool:
    """A rank is stopped for good once it trains: the watchdog ends the run, and torchrun the rank."""
    rank, before = soak.random.randrange(2), soak.steps()
    soak.wait(60, lambda: soak.steps() > before + 5)
    if soak.steps() <= before + 5 or not send(soak, "ranks", signal.SIGSTOP, rank):
        return False
    soak.wait(END_SECONDS)
    if f"rank {rank} does not respond" not in soak.log.read_text(errors="replace"):
        raise Failure(f"a stopped rank {rank} is not named: {soak.log.read_text(errors='replace')[-2000:]}")
    return True


def frozen_job(soak: Soak) -> bool:
    """All processes are stopped, and continued after more than the bound of a stall; the run continues."""
    pids = processes_of(str(soak.base))
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        time.sleep(1.5 * STALL_SECONDS if number == signal.SIGSTOP else 0)
    return False


def no_room(soak: Soak) -> bool:
    """No file of rank zero may grow any more, as on a full disk."""
    with contextlib.suppress(ProcessLookupError, IndexError):
        resource.prlimit(soak.processes("ranks")[0], resource.RLIMIT_FSIZE, (100, 100))
        return True
    return False


def second_start(soak: Soak) -> bool:
    """The same command is given while the run trains: it is refused."""
    with tempfile.TemporaryFile() as log:
        second = soak.command(log)
        status = second.wait(END_SECONDS)
        log.seek(0)
        if status == 0 and soak.process is not None and soak.process.poll() is None:
            raise Failure(f"a second start was not refused: {log.read().decode()}")
    return False


STRIKES: dict[str, Callable[[Soak], bool]] = {
    "SIGTERM to the launcher": stopped("launcher", signal.SIGTERM),
    "SIGINT to the launcher": stopped("launcher", signal.SIGINT),
    "SIGKILL of the launcher": stopped("launcher", signal.SIGKILL),
    "SIGKILL of torchrun": stopped("torchrun", signal.SIGKILL),
    "SIGKILL of a rank": stopped("ranks", signal.SIGKILL),
    "SIGTERM to a rank": stopped("ranks", signal.SIGTERM),
    "SIGSTOP of a rank": stalled_rank,
    "SIGSTOP of all, SIGCONT": frozen_job,
    "no room for files": no_room,
    "a second start": second_start,
}
"""Each returns whether the run ends by it; not where what it strikes is not there yet."""


CONTINUING = ("SIGSTOP of all, SIGCONT", "a second start")
"""After these the run continues."""
