"""Small trainings that are struck, restarted and compared with the undisturbed one."""

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from file_operations import FileOperations

ROOT = Path(__file__).parents[2]
RUN, JOB, DATA, CACHE = "run", "job.yaml", "data", "cache"
"""In a fault's folder."""
NOT_REPEATABLE = ("environment.json", "timing.jsonl", "status.json", "stall.txt", ".lock")
"""The files of a run that tell when and where it ran, and where it stalled."""
PATIENCE = 90
"""Seconds after which a process hangs."""
EPOCHS, STEPS = 3, 12
NOBODY = 65534
"""The user id of a stranger."""

Strike = Callable[[FileOperations], None]


class Failure(Exception):
    """A fault that ended neither in the undisturbed bytes nor in a refusal."""


@dataclass
class Ended:
    """How the processes of a start ended."""

    statuses: list[int]
    """Of each rank, negative for a signal."""
    output: str

    @property
    def is_success(self) -> bool:
        return not any(self.statuses)

    def __str__(self) -> str:
        return f"statuses {self.statuses}\n{self.output}"


@dataclass
class Start:
    """What a start of the program is to meet."""

    strike: Strike = lambda operations: None
    at_operation: int = 0
    """Strike before this change of a file, from 1."""
    at_step: int = 0
    """Strike before this training step, from 1."""
    on_rank: int = 0
    prepare: Callable[[], None] = lambda: None
    """Called in the process before the program."""


@dataclass
class Process:
    """A rank that is running."""

    pid: int
    status: int | None = None

    def poll(self) -> int | None:
        """Its exit status once it has ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def wait_for_stop(self) -> bool:
        """Wait until it is stopped or has ended; returns whether it is stopped."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self.status = os.waitstatus_to_exitcode(status)
        return False


@dataclass
class Running:
    """A started program, of one process a rank."""

    processes: list[Process]
    log: Path

    def wait(self, patience: float = PATIENCE) -> Ended:
        """Wait for all. Raises Failure if one hangs, also after another has ended."""
        deadline = time.monotonic() + patience
        while any(process.poll() is None for process in self.processes):
            if time.monotonic() > deadline:
                for process in self.processes:
                    if process.poll() is None:
                        os.kill(process.pid, signal.SIGKILL)
                        os.waitpid(process.pid, 0)
                raise Failure(f"hangs after {patience:.0f} s\n{self.log.read_text(errors='replace')}")
            time.sleep(0.01)
        statuses = [process.status for process in self.processes if process.status is not None]
        return Ended(statuses, self.log.read_text(errors="replace"))


@dataclass
class Fault:
    """One fault, in a folder of its own with its own data, cache and run; it is decided by ``random`` alone."""

    folder: Path
    random: random.Random
    expected: dict[int, dict[str, bytes]]
    """The files of the undisturbed runs, by their number of ranks."""
    operations: dict[int, int]
    """How many changes of files the undisturbed run's rank zero makes, by the number of ranks."""
    finished: Path
    """The folder of the undisturbed run on one rank, with its data and cache."""
    ranks: int = 1
    notes: list[str] = field(default_factory=list)
    """What was done, for the report of a failure."""

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / RUN

    def note(self, text: str) -> None:
        """Tell what is done."""
        self.notes.append(text)

    def start(self, start: Start | None = None, *overrides: str, command: Sequence[str] = ()) -> Running:
        """Start the training, or another command, as torchrun would start its ranks."""
        start = start or Start()
        words = list(command) or ["train", JOB, *overrides]
        log = self.folder / f"log{len(list(self.folder.glob('log*')))}"
        log.touch()
        port = _free_port()
        ranks = 1 if command else self.ranks
        ranked = partial(_environment, ranks=ranks, port=port)
        processes = []
        for rank in range(ranks):
            chosen = start if rank == start.on_rank else Start()
            body = partial(_run_program, self.folder, words, log, ranked(rank=rank), chosen)
            processes.append(Process(forked(body)))
        return Running(processes, log)

    def train(self, start: Start | None = None, *overrides: str) -> Ended:
        """Start the training, or resume it, and wait for its end. Raises Failure for a traceback, or if it hangs."""
        ended = self.start(start, *overrides).wait()
        return no_traceback(ended)

    def struck(self, most_operations: bool = True) -> Start:
        """A place to strike at: a change of a file or, if ``most_operations`` is False, often a training step."""
        rank = self.random.randrange(self.ranks)
        if rank or (not most_operations and self.random.random() < 0.5):
            place = Start(at_step=self.random.randint(1, STEPS), on_rank=rank)
            self.note(f"strikes rank {rank} at step {place.at_step}")
        else:
            place = Start(at_operation=self.random.randint(1, self.operations[self.ranks]))
            self.note(f"strikes at file operation {place.at_operation}")
        return place

    def difference(self) -> list[str]:
        """The names of the run's files that are not as in the undisturbed run."""
        found, wanted = repeatable_files(self.run), self.expected[self.ranks]
        return [name for name in sorted(found | wanted) if found.get(name) != wanted.get(name)]

    def settle(self, undo: Callable[[], None] | None = None, named: Sequence[str] = ()) -> str:
        """Resume the run to its end: ``same bytes``; or, where that is refused, undo the damage first: ``refused``.

        ``told``: lines of the damaged file are lost, its name is printed, and all but what shows these lines is right.
        ``named``: the damaged file's name, or what else the refusal may name. Raises Failure for any other end.
        """
        ended = self.train()
        if ended.is_success:
            lost = set(re.findall(r"(\w+\.jsonl): holds \d+ of the \d+ lines", ended.output)) & set(named)
            shown = {"metrics.csv", "figures/curves.png"} if "metrics.jsonl" in lost else set()
            if lost and set(self.difference()) <= lost | shown:
                return "told"
            self.check_same(ended)
            return "same bytes"
        check_refusal(ended, named)
        if undo is None:
            raise Failure(f"is refused, though nothing is wrong any more: {ended}")
        undo()
        ended = self.train()
        if not ended.is_success:
            raise Failure(f"is refused after the damage is undone: {ended}")
        self.check_same(ended)
        return "refused"

    def check_same(self, ended: Ended) -> None:
        """Raises Failure if the run, whose last start was ``ended``, is not as the undisturbed one."""
        difference = self.difference()
        if difference:
            raise Failure(f"ends in other bytes of {', '.join(difference)}: {ended}")
        left = sorted(path.name for path in self.run.rglob("*") if path.name.endswith((".tmp", ".partial")))
        if left:
            raise Failure(f"leaves {', '.join(left)}")


def no_traceback(ended: Ended) -> Ended:
    """``ended``. Raises Failure if its output has a traceback."""
    if "Traceback" in ended.output:
        raise Failure(f"ends in a traceback: {ended}")
    return ended


def check_refusal(ended: Ended, named: Sequence[str] = ()) -> None:
    """Raises Failure unless ``ended`` is one message that names a file, and one of ``named``."""
    no_traceback(ended)
    messages = [line for line in ended.output.splitlines() if re.match(r"(error|fer-ddp [a-z]+): ", line)]
    own = [line for line in messages if not re.match(r"error: (another rank|rank \d)", line)]
    if len(own) > 1 or not messages:
        raise Failure(f"is refused with {len(own)} messages: {ended}")
    if any(status < 0 for status in ended.statuses):
        raise Failure(f"is ended by a signal: {ended}")
    if named and not any(name in line for line in messages for name in named):
        raise Failure(f"is refused by a message that does not name {' or '.join(named)}: {ended}")


def repeatable_files(run: Path) -> dict[str, bytes]:
    """The files of a run that must be the same each time, by name."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file()
        and path.name not in NOT_REPEATABLE
        and not {"wandb", "tensorboard"} & set(path.relative_to(run).parts)
    }


def forked(body: Callable[[], int]) -> int:
    """Call ``body`` in a process of its own, which ends with the status that it returns; returns its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        status = body()
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException:  # noqa: BLE001  as Python itself would end the program
        traceback.print_exc()
        status = 1
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _environment(*, ranks: int, port: int, rank: int) -> dict[str, str]:
    """What torchrun sets for a rank; nothing for one alone."""
    if ranks == 1:
        return {}
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
    return {name: str(number) for name, number in numbers.items()} | {"MASTER_ADDR": "127.0.0.1"}


def _run_program(folder: Path, words: list[str], log: Path, environment: dict[str, str], start: Start) -> int:
    """In a forked process: run one command of ``fer-ddp`` in ``folder``; returns its exit status."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    os.chdir(folder)
    os.environ |= {"FER_DDP_CACHE": str(folder / CACHE)} | environment
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    sys.argv = ["fer-ddp", *words]
    operations = FileOperations(folder, start.at_operation, start.strike)
    operations.install()
    _count_steps(operations, start)
    start.prepare()
    from launch.__main__ import run_any

    status = run_any(words)
    if start.at_operation < 0:  # asked to count
        (folder / "operations").write_text("\n".join(operations.names))
    return status


def _count_steps(operations: FileOperations, start: Start) -> None:
    from fer_ddp.training.loop import Trainer

    real, done = Trainer.step, 0

    def step(self: Trainer, *arguments: Any) -> Any:
        nonlocal done
        done += 1
        if done == start.at_step:
            start.strike(operations)
        return real(self, *arguments)

    Trainer.step = step  # type: ignore[method-assign]


def _free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def write_setting(folder: Path) -> None:
    """Pack the data and write the job, once for all faults."""
    changes = {"epochs": EPOCHS, "ema": {"decay": 0.9}, "checkpoint": {"every_steps": 2}}
    write_job(folder, (96, 24, 0), channels=[4, 8], hidden=8, **changes)


def write_job(folder: Path, images: tuple[int, int, int], *, channels: list[int], hidden: int, **changes: Any) -> None:
    """Pack synthetic faces, so many ``images`` of train, val and test, and write a job that uses most of a trainer."""
    from shards.packing.packer import pack
    from shards.sources.synthetic_faces import Faces, scan_faces

    train, val, test = images
    pack(partial(scan_faces, Faces(train=train, val=val, test=test)), folder / DATA)
    job = {
        "run": RUN,
        "data": {"path": DATA},
        "model": {"name": "plain_cnn", "arguments": {"channels": channels, "hidden": hidden, "batch_norm": True}},
        "optimizer": {"name": "adamw", "lr": 0.003, "gradient_clip_norm": 1.0},
        "schedule": {"name": "onecycle"},
        "augment": {"flip": 0.5, "erasing_probability": 0.3, "mixup_alpha": 0.2},
        "global_batch_size": 24,
        "precision": "float32",
        "memory_format": "contiguous",
        "log": {"every_steps": 1},
        "wandb": {"mode": "disabled"},
    }
    (folder / JOB).write_text(yaml.safe_dump(job | changes, sort_keys=False))


def copy_setting(setting: Path, folder: Path) -> None:
    """Make the folder of a fault."""
    folder.mkdir()
    shutil.copytree(setting / DATA, folder / DATA)
    shutil.copy(setting / JOB, folder)


def undisturbed(setting: Path, folder: Path, ranks: int) -> tuple[dict[str, bytes], int]:
    """(the files of the undisturbed run, how many changes of files its rank zero makes)."""
    copy_setting(setting, folder)
    fault = Fault(folder, random.Random(0), {}, {}, folder, ranks)
    ended = fault.train(Start(at_operation=-1))
    if not ended.is_success:
        raise Failure(f"the undisturbed run fails: {ended}")
    return repeatable_files(fault.run), len((folder / "operations").read_text().splitlines())


def processes_of(marker: str) -> list[int]:
    """The processes, but for this one, whose environment has ``marker``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if marker.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
    return found


def real_command(fault: Fault, *words: str) -> subprocess.Popen[str]:
    """Start a command of ``fer-ddp`` as a user would, from a shell."""
    environment = os.environ | {"FER_DDP_CACHE": str(fault.folder / CACHE), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "launch", *words],
        cwd=fault.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
