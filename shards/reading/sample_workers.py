"""Processes that read and decode samples for another: ``python -m shards.reading.sample_workers FOLDER INDEX``.

Pillow keeps Python's lock for half of the time that it takes to decode a small JPEG, and a trainer needs that lock to
start its own work. The processes are this command, started anew, and not forks: they load no torch, and do not run a
user's script again. They end when their standard input does, so also when the trainer is killed.
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
from shards.reading.sample_reader import SampleReader
from shards.reading.split_index import SplitIndex

_READ, _FAILED = b"r", b"f"


class SampleWorkers:
    """``count`` processes; `read` may be called by as many threads at once. To be closed, or used in a ``with``."""

    def __init__(self, folder: Path, index: SplitIndex, count: int) -> None:
        self._folder = folder
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),  # the same modules as here
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        command = [sys.executable, "-P", "-m", "shards.reading.sample_workers", str(folder), str(index.path)]
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
            # They hold nothing, and would wait for ever where a process that was forked here has their pipes too.
            process.kill()
            with suppress(BrokenPipeError):  # of one that is gone already
                process.__exit__(None, None, None)  # closes its pipes and waits for it

    def read(self, numbers: np.ndarray, out: np.ndarray) -> None:
        """Put the images of the samples ``numbers`` into ``out``: int64 (n,), uint8 (n, channels, height, width).

        Raises :class:`DataError` as :meth:`shards.reading.sample_reader.SampleReader.read`, and if a process is killed.
        """
        process = self._idle.get()
        try:
            _ask(process, numbers, out)
        except (BrokenPipeError, EOFError):
            raise DataError(
                f"{self._folder}: a process that read it ended (status {process.wait()}), perhaps for want of memory"
            ) from None
        finally:
            self._idle.put(process)


def _ask(process: "subprocess.Popen[bytes]", numbers: np.ndarray, out: np.ndarray) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    _write(process.stdin, np.append(len(numbers), numbers))
    if process.stdout.read(1) == _READ:
        _read_into(process.stdout, out)
        return
    length = np.empty(1, np.int64)
    _read_into(process.stdout, length)
    sentence = np.empty(int(length[0]), np.uint8)
    _read_into(process.stdout, sentence)
    raise DataError(sentence.tobytes().decode(errors="surrogateescape"))


def _write(pipe: Any, *parts: Any) -> None:
    for part in parts:
        pipe.write(part)
    pipe.flush()


def _read_into(pipe: Any, array: np.ndarray) -> None:
    """Fill ``array``; raises EOFError if the other side ends before."""
    if pipe.readinto(array.reshape(-1).view(np.uint8)) < array.nbytes:
        raise EOFError


def main(folder: str, index: str, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests (a count and as many sample numbers, int64) with pixels or a sentence, until they end."""
    reader = None
    while header := requests.read(8):
        numbers = np.empty(int(np.frombuffer(header, np.int64)[0]), np.int64)
        _read_into(requests, numbers)
        try:
            reader = reader or SampleReader(Path(folder), SplitIndex.read(Path(index)))
            _write(answers, _READ, reader.read(numbers))
        except DataError as error:
            sentence = str(error).encode(errors="surrogateescape")
            _write(answers, _FAILED, np.array([len(sentence)], np.int64), sentence)


if __name__ == "__main__":
    # A cluster's or a terminal's signals reach these processes too. What they mean is the trainer's to decide.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    try:
        main(sys.argv[1], sys.argv[2], sys.stdin.buffer, sys.stdout.buffer)
    except (BrokenPipeError, EOFError):
        os._exit(0)  # the trainer is gone, and flushing the rest of an answer would say so
