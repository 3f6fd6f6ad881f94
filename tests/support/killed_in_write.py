"""Trains a job, and is killed inside the write of a checkpoint: ``killed_in_write.py NUMBER BYTES JOB OVERRIDES``.

The NUMBERth checkpoint write of rank zero ends after BYTES bytes (a share of the file, 0 to 1) with SIGKILL.
"""

import os
import signal
import sys
from pathlib import Path

from fer_ddp import distributed
from fer_ddp.__main__ import main
from fer_ddp.runs import checkpoint

number, share, *arguments = sys.argv[1:]
writes = 0
real = checkpoint.atomic_write_bytes


def write_or_die(path: Path, content: bytes) -> None:
    global writes
    writes += 1
    if writes < int(number):
        real(path, content)
        return
    with open(path.with_name(f".{path.name}.0123456789abcdef.tmp"), "wb") as file:
        file.write(content[: int(len(content) * float(share))])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


if distributed.is_main():
    checkpoint.atomic_write_bytes = write_or_die
sys.exit(main(["train", *arguments]))
