"""How worker processes are started, and what happens to them when the work is stopped."""

import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import BaseContext


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
