"""``python tests/faults/soak.py 30 --seed 0``: two ranks, struck every 20 to 60 s and restarted, for so many minutes.

A run is started by ``launch local`` and struck; where that ends it, the same command starts again, as on a cluster.
Once it is finished its files are compared with the undisturbed run's, and the next run begins. Nothing may be left.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":  # before torch is loaded: small models are fastest on one thread
    os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "agg"}
    sys.path[:0] = [
        *map(str, (Path(__file__).parents[2], Path(__file__).parents[1] / "support", Path(__file__).parent))
    ]

from laboratory import CACHE, Failure, processes_of, repeatable_files, write_job
from soak_strikes import CONTINUING, END_SECONDS, STALL_SECONDS, STRIKES, Soak
from table import table_text

FINISH_SECONDS = 1200
"""How long a run may take from its last strike to its end."""


def write_setting(base: Path, epochs: int) -> None:
    """The data, and a job that saves every 5 s."""
    for name in ("logs", "tmp"):
        (base / name).mkdir()
    changes = {"epochs": epochs, "ema": {"decay": 0.99}, "checkpoint": {"every_seconds": 5}}
    write_job(base, (960, 240, 240), channels=[8, 16], hidden=16, stall_seconds=STALL_SECONDS, **changes)


def check_ended(soak: Soak) -> int:
    """Wait until the run has ended by a strike; returns its status. Raises Failure if it or a process of it remains."""
    if not soak.wait(END_SECONDS):
        raise Failure(f"does not end within {END_SECONDS} s: {soak.log.read_text(errors='replace')[-2000:]}")
    assert soak.process is not None
    deadline = time.monotonic() + END_SECONDS
    while left := processes_of(str(soak.base)):
        if time.monotonic() > deadline:
            raise Failure(f"leaves processes {left}")
        time.sleep(0.2)
    text = soak.log.read_text(errors="replace")
    if "Traceback" in text or soak.process.returncode not in (0, 1, 75, -signal.SIGKILL):
        raise Failure(f"ends with status {soak.process.returncode}: {text[-3000:]}")
    return soak.process.returncode


def unused_shared_memory(before: set[str]) -> list[str]:
    """Shared memory that was not there before, and that no process has mapped."""
    mapped = set()
    for path in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            mapped |= {
                line.split("/dev/shm/")[1].split()[0] for line in path.read_text().splitlines() if "/shm/" in line
            }
    return sorted(set(os.listdir("/dev/shm")) - before - mapped)


def leaks(soak: Soak, cached: set[str]) -> list[str]:
    """What a finished run has left: temporary files, files of the cache that it did not have, open descriptors."""
    # torch makes one folder a user, which stays.
    temporary = [path for path in (soak.base / "tmp").iterdir() if not path.name.startswith("torchinductor_")]
    found = [f"temporary file {path.name}" for path in temporary]
    found += [f"in the run: {path.name}" for path in soak.run.rglob("*") if path.name.endswith((".tmp", ".partial"))]
    found += [f"in the cache: {name}" for name in sorted(names_in(soak.base / CACHE) - cached)]
    for counts in soak.descriptors.values():
        growth = max(counts[len(counts) // 2 :]) - min(counts[: max(1, len(counts) // 2)])
        if growth > 8:  # a few files are open while a state is written
            found.append(f"{growth} more open files in a rank of {len(counts) / 2:.0f} s")
    soak.descriptors.clear()
    return found


def names_in(folder: Path) -> set[str]:
    """All files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@dataclass
class Count:
    """Of a kind of strike."""

    strikes: int = 0
    ended: int = 0
    seconds: float = 0.0
    """Until nothing of the run was left, of those that ended it."""


@dataclass
class Undisturbed:
    """What a run without a strike has written: its files that repeat, and what it left in the cache."""

    files: dict[str, bytes]
    cached: set[str]


@dataclass
class Tally:
    """What a soak has counted."""

    counts: dict[str, Count] = field(default_factory=lambda: {kind: Count() for kind in STRIKES})
    waiting: list[str] = field(default_factory=list)
    """The kinds that have their turn before any comes again."""
    failures: list[str] = field(default_factory=list)
    starts: int = 0
    runs: int = 0
    """Those that are finished."""


def soak_for(minutes: float, seed: int, epochs: int, base: Path) -> int:
    """Soak; prints the tables, returns the number of failures."""
    soak, tally = Soak(base, random.Random(seed)), Tally()
    write_setting(base, epochs)
    shared = set(os.listdir("/dev/shm"))
    began = time.monotonic()
    undisturbed = run_undisturbed(soak)
    deadline = time.monotonic() + 60 * minutes
    while time.monotonic() < deadline or soak.run.exists():  # the last one is finished as well
        soak.start()
        tally.starts += 1
        ended_by_strike = strike_until_ended(soak, tally, began, deadline)
        if (soak.run / "status.json").exists() and '"finished"' in (soak.run / "status.json").read_text():
            check_finished(soak, tally, undisturbed)
        elif soak.process is not None and soak.process.poll() == 0:
            raise Failure(f"ends with 0 unfinished: {soak.log.read_text(errors='replace')[-2000:]}")
        elif not ended_by_strike:
            raise Failure(f"ends without a strike: {soak.log.read_text(errors='replace')[-2000:]}")
    tally.failures += [f"shared memory {name}" for name in unused_shared_memory(shared)]
    print(table(tally.counts))
    print(f"{(time.monotonic() - began) / 60:.1f} minutes, {tally.starts} starts, {tally.runs} runs finished")
    nothing = "same bytes each time; no process, file, descriptor, socket or shared memory is left"
    print("\n".join(tally.failures) or nothing)
    return len(tally.failures)


def run_undisturbed(soak: Soak) -> Undisturbed:
    """Run once without a strike, and remove the run. Raises Failure if that fails."""
    began = time.monotonic()
    soak.start()
    soak.wait(FINISH_SECONDS)
    if check_ended(soak) != 0:
        raise Failure(f"the undisturbed run fails: {soak.log.read_text(errors='replace')[-2000:]}")
    undisturbed = Undisturbed(repeatable_files(soak.run), names_in(soak.base / CACHE))
    left = leaks(soak, undisturbed.cached) or "nothing left"
    print(f"{soak.base}: undisturbed {time.monotonic() - began:.0f} s, {left}", flush=True)
    shutil.rmtree(soak.run)
    return undisturbed


def strike_until_ended(soak: Soak, tally: Tally, began: float, deadline: float) -> bool:
    """Strike a run every 20 to 60 s until it has ended; returns whether a strike ended it. None after the deadline."""
    while True:
        has_time = time.monotonic() < deadline
        if soak.wait(soak.random.uniform(20, 60) if has_time else FINISH_SECONDS):
            return False
        if not has_time:
            raise Failure(f"does not finish within {FINISH_SECONDS} s")
        tally.waiting = tally.waiting or soak.random.sample(list(STRIKES), len(STRIKES))
        kind = tally.waiting.pop()
        at = f"{time.monotonic() - began:5.0f} s  run {tally.runs + 1} step {soak.steps():<5}"
        try:
            what, has_ended = strike_once(soak, kind, tally.counts[kind])
        except Failure as failure:
            tally.failures.append(f"{kind}: {failure}")
            end_all(soak)
            what, has_ended = f"FAILED: {failure}", True
        print(f"{at} {kind}: {what}", flush=True)
        if has_ended:
            return True


def strike_once(soak: Soak, kind: str, count: Count) -> tuple[str, bool]:
    """(what came of a strike, whether it ended the run). Raises Failure if that is not what should have come of it."""
    struck = time.monotonic()
    if STRIKES[kind](soak):
        status = check_ended(soak)
        seconds = time.monotonic() - struck
        count.strikes += 1
        count.ended += 1
        count.seconds += seconds
        return f"ended after {seconds:.1f} s with {status}", True
    if kind not in CONTINUING:
        return "nothing to strike yet", False
    count.strikes += 1
    if soak.process is not None and soak.process.poll() not in (None, 0):
        raise Failure(f"the run ends: {soak.log.read_text(errors='replace')[-2000:]}")
    return "continues", False


def check_finished(soak: Soak, tally: Tally, undisturbed: Undisturbed) -> None:
    """Compare a finished run with the undisturbed one, and remove it."""
    check_ended(soak)
    found = repeatable_files(soak.run)
    names = sorted(undisturbed.files | found)
    other = [name for name in names if undisturbed.files.get(name) != found.get(name)]
    left = leaks(soak, undisturbed.cached)
    tally.runs += 1
    tally.failures += [f"run {tally.runs} ends in other bytes of {name}" for name in other]
    tally.failures += [f"run {tally.runs} leaves {each}" for each in left]
    print(f"run {tally.runs} is finished: {other or 'same bytes'}, {left or 'nothing left'}", flush=True)
    shutil.rmtree(soak.run)


def end_all(soak: Soak) -> None:
    """Kill what a failed strike has left, so that the next start finds the run free."""
    for pid in processes_of(str(soak.base)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert soak.process is not None
    soak.process.wait(30)


def table(counts: dict[str, Count]) -> str:
    """A line for each kind of strike."""
    rows = [("strike", "number", "ended the run", "seconds until nothing was left")]
    for kind, count in counts.items():
        mean = f"{count.seconds / count.ended:.1f}" if count.ended else "-"
        rows.append((kind, str(count.strikes), str(count.ended), mean))
    return table_text(rows)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=30, help="of each run")
    options = parser.parse_args(arguments)
    base = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        failures = soak_for(options.minutes, options.seed, options.epochs, base)
    except Failure as failure:
        print(f"FAILED: {failure}")
        failures = 1
    for pid in processes_of(str(base)):
        os.kill(pid, signal.SIGKILL)
    if failures:
        print(f"the folder is kept: {base}")
    else:
        shutil.rmtree(base)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
