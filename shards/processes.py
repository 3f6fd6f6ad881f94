"""How worker processes are started, and what happens to them when the work is stopped."""

import multiprocessing
import signal
import sys
import threading
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


def leave_interrupts_to_the_parent() -> None:
    """For a worker's start: Ctrl-C reaches the whole group, and the parent alone decides and cleans up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
