"""Threads and worker processes: how many the machine has room for, their results in order, and how they end."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import context
from types import ModuleType
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cpus() -> int:
    """CPUs that this process may use: on a shared machine fewer than it has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def child_modules() -> dict[str, str]:
    """Environment variables with which a Python process finds the modules that this one finds.

    Not those of the working folder, which may be a stranger's data set with a file ``numpy.py``, unless this one does.
    """
    return {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "PYTHONSAFEPATH": "1"}


def ordered_map(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int | None = None
) -> Iterator[Result]:
    """``work`` of each item, in the order of ``items``, done by ``threads`` threads.

    At most ``ahead`` results (default: as many as threads) wait or are worked on while the caller has the one before
    them, so memory is bounded however many items there are, and endless ``items`` are fine; they are drawn in the
    caller's thread. An exception of ``work`` is raised where its result would have come. Closing the generator drops
    what has not begun and waits for what has.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > (threads if ahead is None else ahead):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of ``workers`` processes; on an exception, whatever has not begun is dropped.

    Ctrl-C reaches every process of a terminal's group: the workers ignore it, and the parent decides and cleans up.
    """
    with _interrupts_blocked():  # a fork inherits that: at no moment does Ctrl-C end a worker with a traceback
        pool = ProcessPoolExecutor(workers, _process_context(), _begin_worker)
        pool.submit(int)  # starts the workers
    with pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _main_hidden() -> Iterator[None]:
    """A worker that is started inside does not run again the program that started it.

    So a script that uses `fer_ddp` needs no ``__main__`` guard.
    """
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class _SpawnProcess(context.SpawnProcess):
    def start(self) -> None:
        with _main_hidden():
            super().start()


class _SpawnContext(context.SpawnContext):
    Process = _SpawnProcess


if sys.platform == "linux":

    class _ForkServerProcess(context.ForkServerProcess):
        def start(self) -> None:
            with _main_hidden():
                super().start()

    class _ForkServerContext(context.ForkServerContext):
        Process = _ForkServerProcess


def _process_context() -> context.BaseContext:
    """The fastest start method that is safe here.

    A fork takes milliseconds and shares what is loaded, but copies a process with threads in an unknown state: so
    only a process with one thread and without torch forks; any other asks a server process to fork for it.
    """
    if sys.platform != "linux":
        return _SpawnContext()
    if threading.active_count() == 1 and "torch" not in sys.modules:
        return multiprocessing.get_context("fork")
    return _ForkServerContext()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):  # Windows, which does not fork
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker() -> None:
    """Leave interrupts to the parent, and end when it does, also where it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def end_with_parent(number: signal.Signals) -> None:
    """Have the system send ``number`` to this process when the one that started it exits, however; on Linux alone.

    For a child of `subprocess` as ``preexec_fn``: it lasts in the program that is then executed.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number))
