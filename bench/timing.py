"""Takes times in turns: A B A B, so that a machine that drifts does so for both."""

import time
from collections.abc import Callable

import torch


def seconds_of(work: Callable[[], object]) -> float:
    """How long ``work`` takes, all that it started on a GPU included."""
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def in_turns(sides: list[Callable[[], float]], repeats: int) -> list[list[float]]:
    """Each side's seconds, (sides, repeats); each times itself. With more than one repeat, one more goes uncounted."""
    for side in sides if repeats > 1 else ():
        side()
    rounds = [[side() for side in sides] for _ in range(repeats)]
    return [list(seconds) for seconds in zip(*rounds, strict=True)]
