"""Processes that read and decode samples for another: ``python -m shards.reading.sample_workers FOLDER INDEX``.

Pillow keeps Python's lock for half of the time that it takes to decode a small JPEG, and a trainer needs that lock to
start its own work. The processes run this command and are not forks: they load no torch, and do not run a user's script
again. They end when their standard input does, so also when the trainer is killed.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO

import numpy as np

from shards.errors import DataError
from shards.parallel import child_modules
from shards.reading.sample_reader import SampleReader
from shards.reading.split_index import SplitIndex

_READ, _FAILED = b"r", b"f"


class SampleWorkers:
    """``count`` processes; `read` may be called by as many threads at once. Close it, or use it in a ``with``."""

    def __init__(self, folder: Path, index: SplitIndex, count: int) -> None:
        self._folder = folder
        environment = os.environ | child_modules() | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "shards.reading.sample_workers", str(folder), str(index.path)]
        self.processes = [
            subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(count)
        ]
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        for process in self.processes:
            self._idle.put(process)

    def __enter__(self) -> "SampleWorkers":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            # They have nothing to save, and would wait forever if a process that was forked here has their pipes too.
            process.kill()
            with suppress(BrokenPipeError):  # of one that has exited already
                process.__exit__(None, None, None)  # closes its pipes and waits for it

    def read(self, indices: np.ndarray, out: np.ndarray) -> None:
        """Put the images of the samples ``indices`` into ``out``: int64 (n,), uint8 (n, channels, height, width).

        Raises :class:`DataError` as :meth:`shards.reading.sample_reader.SampleReader.read`, and if a process is killed.
        """
        process = self._idle.get()
        try:
            _request(process, indices, out)
        except (BrokenPipeError, EOFError):
            raise DataError(
                f"{self._folder}: a process that read it exited with status {process.wait()}, "
                f"perhaps for lack of memory"
            ) from None
        finally:
            self._idle.put(process)


def _request(process: "subprocess.Popen[bytes]", indices: np.ndarray, out: np.ndarray) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    _write(process.stdin, np.append(len(indices), indices))
    if process.stdout.read(1) == _READ:
        _read_into(process.stdout, out)
        return
    length = np.empty(1, np.int64)
    _read_into(process.stdout, length)
    message = np.empty(int(length[0]), np.uint8)
    _read_into(process.stdout, message)
    raise DataError(message.tobytes().decode(errors="surrogateescape"))


def _write(pipe: Any, *parts: Any) -> None:
    for part in parts:
        pipe.write(part)
    pipe.flush()


def _read_into(pipe: Any, array: np.ndarray) -> None:
    """Fill ``array``; raises EOFError if the other side closes before that."""
    if pipe.readinto(array.reshape(-1).view(np.uint8)) < array.nbytes:
        raise EOFError


def main(folder: str, index: str, requests: BinaryIO, responses: BinaryIO) -> None:
    """Respond to requests (a count and as many sample indices, int64) with pixels or an error, until they end."""
    reader = None
    while header := requests.read(8):
        indices = np.empty(int(np.frombuffer(header, np.int64)[0]), np.int64)
        _read_into(requests, indices)
        try:
            reader = reader or SampleReader(Path(folder), SplitIndex.read(Path(index)))
            _write(responses, _READ, reader.read(indices))
        except DataError as error:
            message = str(error).encode(errors="surrogateescape")
            _write(responses, _FAILED, np.array([len(message)], np.int64), message)


if __name__ == "__main__":
    # A cluster's or a terminal's signals reach these processes too. Only the trainer responds to them.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):  # Windows has the first two alone
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    try:
        main(sys.argv[1], sys.argv[2], sys.stdin.buffer, sys.stdout.buffer)
    except (BrokenPipeError, EOFError):
        os._exit(0)  # the trainer has exited, and flushing the rest of a response would print an error
