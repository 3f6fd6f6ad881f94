"""Writes a run's states from a thread, off a copy, each together with the best weights that it knows of.

The steps go on while a state is written; the next one waits until it is. The best weights so far are kept in memory and
written only with the next state, so a process that is killed leaves a pair on disk that belong together, in this order:
the best weights under the name ``next_best``, the state, the best weights under their own name. What was cut short is
finished, or undone, by `RunFolder.load_state`.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from fer_ddp.runs.checkpoint import Snapshot
from fer_ddp.runs.files import BEST, NEXT_BEST
from fer_ddp.runs.folder import RunFolder


class StateWriter:
    """Writes the states of one run; only rank zero calls it. As a context it ends once nothing is being written."""

    def __init__(self, run: RunFolder, every_seconds: float | None) -> None:
        self._run, self._every_seconds = run, every_seconds
        self._asked = time.monotonic()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state")
        self._writing: Future[None] | None = None
        self._best: Snapshot | None = None

    def __enter__(self) -> "StateWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def is_due(self) -> bool:
        """Whether ``every_seconds`` have passed since the last save, or since it last said so."""
        now = time.monotonic()
        if self._every_seconds is None or now - self._asked < self._every_seconds:
            return False
        self._asked = now
        return True

    def keep_best(self, weights: dict[str, Any]) -> None:
        """Copy the best weights so far, to be written with the next state, or by `finish`."""
        self._best = Snapshot.of(weights)

    def save(self, state: dict[str, Any], *, wait: bool = False) -> None:
        """Copy ``state``, and write it while training continues, or ``wait`` until it is written.

        Raises OSError if it, or the one before it, could not be written.
        """
        self._wait()
        copy, best = Snapshot.of(state), self._best
        self._asked, self._best = time.monotonic(), None
        self._writing = self._pool.submit(self._write, copy, best)
        if wait:
            self._wait()

    def finish(self) -> None:
        """Write the best weights that no state has followed. Raises OSError, also for the state before."""
        self._wait()
        if self._best is not None:
            self._best.write(self._run.checkpoint_path(BEST))

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, state: Snapshot, best: Snapshot | None) -> None:
        if best is not None:
            best.write(self._run.checkpoint_path(NEXT_BEST))
        self._run.write_state(state)
        if best is not None:
            self._run.checkpoint_path(NEXT_BEST).replace(self._run.checkpoint_path(BEST))
