"""Work of several threads at once, its results in order."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int | None = None
) -> Iterator[Result]:
    """``work`` of each item, in the order of ``items``, done by ``threads`` threads.

    At most ``ahead`` results (as many as threads, unless told) wait or are worked on while the caller has the one
    before them, so memory is bounded however many items there are, and endless ``items`` are fine; they are drawn in
    the caller's thread. What ``work`` raises is raised in its turn. A generator that is closed drops what has not
    begun and waits for what has.
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


def usable_cpus() -> int:
    """CPUs that this process may use: on a shared machine fewer than it has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_context() -> BaseContext:
    """The quickest start method that is safe here.

    A fork takes milliseconds and shares what is loaded, but copies a process with threads in an unknown state: so
    only a process with one thread and no torch forks; any other asks a server process to fork for it.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    if threading.active_count() == 1 and "torch" not in sys.modules:
        return multiprocessing.get_context("fork")
    return multiprocessing.get_context("forkserver")


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of ``workers`` processes; on an exception, whatever has not begun is dropped.

    Ctrl-C reaches a terminal's whole group of processes: the workers ignore it, and the parent decides and cleans up.
    """
    # Blocked while the workers start, since a fork inherits that: no moment in which Ctrl-C ends one with a traceback.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        pool = ProcessPoolExecutor(workers, process_context(), _leave_interrupts_to_the_parent)
        pool.submit(int)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
