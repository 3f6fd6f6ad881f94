"""The kinds of faults: each strikes a run, has it restarted as a user or a cluster would, and says how it ended."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from damage import damaged_cache, damaged_data, damaged_reading, damaged_run, damaged_state, names_of, some_file
from file_operations import FULL_DISK, FileOperations
from laboratory import (
    CACHE,
    DATA,
    JOB,
    NOBODY,
    PATIENCE,
    RUN,
    STEPS,
    Ended,
    Failure,
    Fault,
    Start,
    check_refusal,
    no_traceback,
    processes_of,
    real_command,
)
from lying_server import BEHAVIOURS, lying_server
from strikes import interrupt, sends

from fer_ddp.runs.folder import RunFolder

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


def killed(fault: Fault) -> str:
    """SIGKILL, up to three times."""
    for _ in range(fault.random.choice((1, 1, 2, 3))):
        start = fault.struck()
        start.strike = sends(signal.SIGKILL)
        fault.train(start)
    return fault.settle()


def stopped(fault: Fault) -> str:
    """A signal that asks the run to stop, as SLURM, a terminal or a user sends it."""
    start, number = fault.struck(most_operations=False), fault.random.choice(STOP_SIGNALS)
    start.strike = sends(number)
    fault.note(f"with {number.name}")
    ended = fault.train(start)
    if not ended.is_success and 75 not in ended.statuses:
        raise Failure(f"a stopped run ends with another status than 75: {ended}")
    return fault.settle()


def frozen(fault: Fault) -> str:
    """SIGSTOP, and SIGCONT some time later."""
    start = fault.struck(most_operations=False)
    start.strike = sends(signal.SIGSTOP)
    seconds = fault.random.uniform(0.1, 1.0)
    running = fault.start(start)
    process = running.processes[start.on_rank]
    if process.wait_for_stop():
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGCONT)
    ended = running.wait()
    if not ended.is_success:
        raise Failure(f"a frozen run fails: {ended}")
    return fault.settle()


def power_cut(fault: Fault) -> str:
    """The machine loses its power: what was not synced may be lost, half written, or zeros."""
    start = fault.struck()
    start.strike = lambda operations: operations.power_cut(fault.random)
    fault.train(start)
    return fault.settle()


def full_disk(fault: Fault) -> str:
    """No byte can be written any more: the disk, or the user's quota, is full, or the disk fails."""
    start, number = fault.struck(), fault.random.choice(FULL_DISK)

    def strike(operations: FileOperations) -> None:
        operations.error = number

    start.strike = strike
    fault.note(os.strerror(number))
    ended = fault.train(start)
    if ended.is_success:
        fault.check_same(ended)
        return "same bytes"
    check_refusal(ended, (f"{RUN}/", CACHE))
    fault.settle()
    return "refused"


def folder_removed(fault: Fault) -> str:
    """The run folder is moved away while the run trains."""
    start = fault.struck(most_operations=False)

    def strike(operations: FileOperations) -> None:
        if os.path.isdir(RUN):
            shutil.move(RUN, "moved")

    start.strike = strike
    ended = fault.train(start)
    was_moved = (fault.folder / "moved").exists()
    if ended.is_success and was_moved:
        raise Failure(f"ends in status 0 without its folder: {ended}")
    if not ended.is_success:
        check_refusal(ended, (RUN,))
    if was_moved:
        shutil.rmtree(fault.run, ignore_errors=True)
        shutil.move(fault.folder / "moved", fault.run)
    fault.settle()
    return "refused" if was_moved else "same bytes"


def file_removed(fault: Fault) -> str:
    """A file of the run, the cache or the data is removed before the run is resumed."""
    interrupt(fault)
    path = some_file(fault, fault.random.choice((RUN, RUN, f"{RUN}/checkpoints", CACHE, DATA)))
    kept = fault.folder / "kept"
    shutil.move(path, kept)
    ended = fault.train()
    if ended.is_success:
        if fault.difference() and path.name not in ended.output:
            raise Failure(f"loses {', '.join(fault.difference())} in silence: {ended}")
        return "told" if fault.difference() else "same bytes"
    check_refusal(ended, names_of(fault, path))
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(kept, path)
    fault.settle()
    return "refused"


def clock_jump(fault: Fault) -> str:
    """The clock jumps by hours or years, forwards or backwards, and files get dates of then."""
    start, seconds = (
        fault.struck(most_operations=False),
        fault.random.choice((-1, 1)) * 10 ** fault.random.uniform(2, 9),
    )
    start.strike = lambda operations: move_clock(seconds)
    fault.note(f"the clock jumps by {seconds:.0f} s")
    ended = fault.train(start)
    if not ended.is_success:
        raise Failure(f"fails when the clock jumps: {ended}")
    if fault.random.random() < 0.5:  # and a run that is resumed then
        shutil.rmtree(fault.run)
        interrupt(fault)
        for path in fault.folder.rglob("*"):
            os.utime(path, times=(max(time.time() + seconds, 0),) * 2)
    return fault.settle()


def move_clock(seconds: float) -> None:
    """From now on this process's clock is ``seconds`` ahead."""
    import datetime
    import sys

    seconds = max(seconds, 86400 - time.time())
    real_time, real_ns, real = time.time, time.time_ns, datetime.datetime
    time.time, time.time_ns = lambda: real_time() + seconds, lambda: real_ns() + int(seconds * 1e9)

    class Moved(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return real.now(tz) + datetime.timedelta(seconds=seconds)

    for name, module in list(sys.modules.items()):
        if name.startswith("fer_ddp") and vars(module).get("datetime") is real:
            module.datetime = Moved  # type: ignore[attr-defined]


def wandb_server(fault: Fault) -> str:
    """W&B's server hangs, lies or fails."""
    behaviour = fault.random.choice(BEHAVIOURS)
    fault.note(f"the server is {behaviour}")
    with lying_server(behaviour, fault.random.randbytes(200)) as url:

        def prepare() -> None:
            os.environ |= {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40, "HOME": str(fault.folder)}

        ended = fault.train(Start(prepare=prepare), "wandb.mode=online")
        _check_none_left(fault)
    if not ended.is_success:
        raise Failure(f"fails for its tracker: {ended}")
    run = RunFolder(str(fault.run))
    config = run.saved_config()
    assert config is not None
    config["wandb"]["mode"] = "disabled"
    run.save_config(config)
    return fault.settle()


def second_start(fault: Fault) -> str:
    """The same command is started again while the first one is at some point of its work."""
    start = fault.struck(most_operations=False)
    start.strike = sends(signal.SIGSTOP)
    first = fault.start(start)
    process = first.processes[start.on_rank]
    is_stopped = process.wait_for_stop()
    second = fault.start()
    if is_stopped:
        time.sleep(fault.random.uniform(0, 2))
        os.kill(process.pid, signal.SIGCONT)
    ends = [no_traceback(second.wait()), no_traceback(first.wait())]
    for ended in ends:
        if not ended.is_success:
            check_refusal(ended, (RUN,))
    if not any(ended.is_success for ended in ends):
        raise Failure(f"neither start trains: {ends[0]}{ends[1]}")
    fault.settle()
    return "same bytes" if all(ended.is_success for ended in ends) else "refused"


def stranger(fault: Fault) -> str:
    """Another user resumes the run, reads data that are not theirs, or has left links in the run folder."""
    what = fault.random.choice(("resumes", "reads", "links"))
    fault.note(f"a stranger {what}")
    victim = fault.folder / "victim"
    victim.write_text("precious")
    if what == "links" or os.geteuid() != 0:
        interrupt(fault)
        for path in [path for path in fault.run.rglob("*") if path.is_file()]:
            path.with_name(f".{path.name}.tmp").symlink_to(victim)
        fault.train()
        for path in fault.run.rglob(".*.tmp"):  # of files that were not written again
            path.unlink()
        outcome = fault.settle()
        if victim.read_text() != "precious":
            raise Failure("a link beside a file of the run was followed")
        return outcome
    if what == "resumes":
        interrupt(fault)
        before = {path: path.stat().st_mtime_ns for path in fault.run.rglob("*")}
    else:
        fault.folder.chmod(0o777)
        for path in fault.folder.joinpath(DATA).iterdir():
            path.chmod(0o600)
    # Not through the system's check of each path above, which belong to whoever runs this.
    ended = fault.train(Start(prepare=lambda: (os.setgroups([]), os.setgid(NOBODY), os.setuid(NOBODY))))
    if ended.is_success:
        raise Failure(f"a stranger may do it: {ended}")
    check_refusal(ended, (RUN, CACHE, DATA))
    if what == "resumes" and before != {path: path.stat().st_mtime_ns for path in fault.run.rglob("*")}:
        raise Failure(f"a stranger changed the run: {ended}")
    for name in (RUN, CACHE) if what == "reads" else ():
        shutil.rmtree(fault.folder / name, ignore_errors=True)
    fault.settle()
    return "refused"


def launcher(fault: Fault) -> str:
    """``launch local`` on two ranks by torchrun: it, torchrun or a rank is killed or asked to stop."""
    fault.ranks = 2
    process = real_command(fault, "local", "--ranks", "2", JOB)
    step = fault.random.randint(0, STEPS - 2)
    who, number = (
        fault.random.choice(("launcher", "torchrun", "rank")),
        fault.random.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)),
    )
    if step:
        _wait_for_step(fault, step, process)
    else:
        time.sleep(fault.random.uniform(0.5, 4))  # while it starts
    family = [process.pid, *_children(process.pid)]
    target = {"launcher": family[0], "torchrun": family[min(1, len(family) - 1)], "rank": family[-1]}[who]
    fault.note(f"{number.name} to the {who} after step {step}")
    if process.poll() is None:
        os.kill(target, number)
    output = process.communicate(timeout=PATIENCE)[0]
    no_traceback(Ended([process.returncode], output))
    _check_none_left(fault)
    return fault.settle()


def _children(pid: int) -> list[int]:
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [each for child in map(int, listed) for each in (child, *_children(child))]


def _wait_for_step(fault: Fault, step: int, process: object) -> None:
    deadline, path = time.monotonic() + PATIENCE, fault.run / "steps.jsonl"
    while not path.exists() or path.read_bytes().count(b"\n") < step:
        if time.monotonic() > deadline or process.poll() is not None:  # type: ignore[attr-defined]
            return
        time.sleep(0.01)


def _check_none_left(fault: Fault) -> None:
    """Raises Failure if processes of the fault are there after 30 s; they are killed."""
    deadline = time.monotonic() + 30
    while left := processes_of(str(fault.folder)):
        if time.monotonic() > deadline:
            names = [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:120] for pid in left]
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            raise Failure(f"leaves processes: {'; '.join(names)}")
        time.sleep(0.1)


KINDS: dict[str, Callable[[Fault], str]] = {
    kind.__name__: kind
    for kind in (
        killed,
        stopped,
        frozen,
        power_cut,
        full_disk,
        folder_removed,
        file_removed,
        damaged_run,
        damaged_state,
        damaged_data,
        damaged_cache,
        damaged_reading,
        clock_jump,
        second_start,
        stranger,
        wandb_server,
        launcher,
    )
}
TWO_RANKS = ("killed", "stopped", "frozen", "damaged_state")
"""The kinds that also strike runs on two ranks."""
