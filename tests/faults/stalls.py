"""Small trainings that stall, and some that only seem to; prints what was wrong, and ends with 1 if something was."""

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":  # before torch is loaded: small models are fastest on one thread
    os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "agg"}
    sys.path[:0] = [
        *map(str, (Path(__file__).parents[2], Path(__file__).parents[1] / "support", Path(__file__).parent))
    ]

from file_operations import FileOperations
from forking import load_everything
from laboratory import Ended, Failure, Fault, Start, copy_setting, undisturbed, write_setting

SECONDS = 1.5
KEY = f"stall_seconds={SECONDS}"


def loop_for_ever(operations: FileOperations) -> None:
    """As a user's own model may."""
    while True:
        time.sleep(0.01)


def stop(operations: FileOperations) -> None:
    """The process stops, and nothing continues it."""
    os.kill(os.getpid(), signal.SIGSTOP)


def endless_loop(fault: Fault) -> None:
    """A step that does not end, on one rank."""
    check_stall(fault, fault.start(Start(at_step=5, strike=loop_for_ever), KEY).wait(), "stalls.py line ", "the run is")


def looping_rank(fault: Fault) -> None:
    """The same on the second of two ranks."""
    start = Start(at_step=5, strike=loop_for_ever, on_rank=1)
    check_stall(fault, fault.start(start, KEY).wait(), "rank 1 is at ", "in loop_for_ever", "rank 0 waits at fer_ddp/")


def stopped_rank(fault: Fault, rank: int = 1) -> None:
    """SIGSTOP, which that rank does not notice."""
    running = fault.start(Start(at_step=5, strike=stop, on_rank=rank), KEY)
    stopped, other = running.processes[rank], running.processes[1 - rank]
    stopped.wait_for_stop()
    deadline = time.monotonic() + 60
    while other.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(stopped.pid, signal.SIGKILL)  # as torchrun does half a minute later
    ended = running.wait()
    check_stall(fault, Ended([other.status or 0], ended.output), f"rank {rank} does not respond", f"rank {1 - rank} wa")


def stopped_rank_zero(fault: Fault) -> None:
    """The same of the rank that holds the store, and that prints for all."""
    stopped_rank(fault, 0)


def hanging_evaluation(fault: Fault) -> None:
    """Rank zero evaluates for ever, and the other one waits for it."""

    def prepare() -> None:
        from fer_ddp.evaluation.evaluator import Evaluator

        Evaluator._probabilities = lambda self, *_: loop_for_ever(self)  # type: ignore[assignment,method-assign]

    check_stall(fault, fault.start(Start(prepare=prepare), KEY).wait(), "rank 0 is at ", "rank 1 waits at fer_ddp/")


def long_evaluation(fault: Fault) -> None:
    """Rank zero evaluates for longer than the bound, batch by batch, and the other one waits for it."""

    def prepare() -> None:
        from fer_ddp.evaluation.evaluator import Evaluator

        real, wait = Evaluator._probabilities, iter([0.7, 0.7])
        Evaluator._probabilities = lambda *all: (time.sleep(next(wait, 0)), real(*all))[1]  # type: ignore
        import fer_ddp.evaluation.evaluator as module

        module.CPU_BATCH_SIZE = 8

    check_same(fault, fault.start(Start(prepare=prepare), KEY).wait())


def stopped_job(fault: Fault) -> None:
    """A cluster suspends the whole job, and continues it after more than the bound."""
    running = fault.start(Start(at_step=5, strike=stop), KEY)
    if running.processes[0].wait_for_stop():
        for number in (signal.SIGSTOP, signal.SIGCONT):
            os.kill(running.processes[1].pid, number)
            time.sleep(2 * SECONDS if number == signal.SIGSTOP else 0)
        os.kill(running.processes[0].pid, signal.SIGCONT)
    check_same(fault, running.wait())


def check_stall(fault: Fault, ended: Ended, *texts: str) -> None:
    """Raises Failure unless ``ended`` is one message with these texts, a file of stacks and a failed run."""
    messages = [line for line in ended.output.splitlines() if line.startswith("error: ")]
    status = json.loads((fault.run / "status.json").read_text())
    if any(each != 1 for each in ended.statuses) or len(messages) != 1 or "Traceback" in ended.output:
        raise Failure(f"ends otherwise: {ended}")
    for text in (*texts, "no progress for ", "set a larger stall_seconds", "run/stall.txt"):
        if text not in messages[0]:
            raise Failure(f"does not tell {text!r}: {messages[0]}")
    if (status["state"], f"error: {status['message']}") != ("failed", messages[0]):
        raise Failure(f"leaves the status {status}")
    if "thread MainThread:\n  File " not in (fault.run / "stall.txt").read_text():
        raise Failure("leaves no stacks")
    fault.settle()


def check_same(fault: Fault, ended: Ended) -> None:
    """Raises Failure unless nothing has disturbed the run."""
    if not ended.is_success:
        raise Failure(f"was ended: {ended}")
    if fault.difference() != ["config.yaml"]:  # which has the bound
        raise Failure(f"ends in other bytes of {', '.join(fault.difference())}: {ended}")


STALLS: dict[Callable[[Fault], None], int] = {
    endless_loop: 1,
    looping_rank: 2,
    stopped_rank: 2,
    stopped_rank_zero: 2,
    hanging_evaluation: 2,
    long_evaluation: 2,
    stopped_job: 2,
}
"""How many ranks each has."""


def main(names: list[str]) -> int:
    load_everything()
    failed = False
    with tempfile.TemporaryDirectory(prefix="stalls-") as name:
        base = Path(name)
        (base / "setting").mkdir()
        write_setting(base / "setting")
        chosen = {stall: ranks for stall, ranks in STALLS.items() if stall.__name__ in names or not names}
        expected = {
            ranks: undisturbed(base / "setting", base / f"undisturbed{ranks}", ranks)[0]
            for ranks in sorted(set(chosen.values()))
        }
        for stall, ranks in chosen.items():
            began, used = time.monotonic(), sum(os.times()[:4])
            folder = base / stall.__name__
            copy_setting(base / "setting", folder)
            outcome = "as it should"
            try:
                stall(Fault(folder, random.Random(0), expected, {}, folder, ranks))
            except Failure as failure:
                outcome, failed = f"FAILED: {failure}", True
            cpu = sum(os.times()[:4]) - used
            print(f"{stall.__name__:<20} {time.monotonic() - began:5.1f} s  {cpu:4.1f} s of CPU  {outcome}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
