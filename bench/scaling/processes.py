"""Starts processes on this machine for a measurement: ranks that make it together, or neighbours that only compute."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from fer_ddp.errors import RunError
from shards.parallel import end_with_parent


def run_ranks(ranks: int, arguments: list[str], threads: int) -> dict[str, Any]:
    """Run ``python -m bench.scaling.measure ARGUMENTS`` on ``ranks`` ranks of ``threads`` threads each.

    Returns the JSON object that rank zero prints. Raises RunError with the last line of a failed rank's output.
    """
    common = {
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "OMP_NUM_THREADS": str(threads),
    }
    processes = [_start(arguments, common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(ranks)]
    try:
        while any(process.poll() is None for process in processes):
            _raise_if_one_failed(processes)
            time.sleep(0.02)
        _raise_if_one_failed(processes)
        result: dict[str, Any] = json.loads(processes[0].communicate()[0])
        return result
    finally:
        _end(processes)


@contextmanager
def neighbours(count: int, arguments: list[str], threads: int) -> Iterator[list[int]]:
    """Inside, ``count`` processes of ``threads`` threads run ``python -m bench.scaling.measure ARGUMENTS``.

    Each prints a line once its work has begun, and works until it is killed. Yields their process ids. Raises
    RunError if one fails first.
    """
    processes = [_start(arguments, {"OMP_NUM_THREADS": str(threads)}) for _ in range(count)]
    try:
        for process in processes:
            assert process.stdout is not None
            if not process.stdout.readline():
                process.wait()
                _raise_if_one_failed(processes)
        yield [process.pid for process in processes]
    finally:
        _end(processes)


def _start(arguments: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "bench.scaling.measure", *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(end_with_parent, signal.SIGKILL),
    )


def _end(processes: list["subprocess.Popen[str]"]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


def _raise_if_one_failed(processes: list["subprocess.Popen[str]"]) -> None:
    for rank, process in enumerate(processes):
        if process.poll():
            output = process.communicate()[1].strip().splitlines()
            raise RunError(
                f"rank {rank} of the measurement failed: {output[-1] if output else f'status {process.poll()}'}"
            )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
