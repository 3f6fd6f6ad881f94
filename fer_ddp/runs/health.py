"""Warnings of what may end a run later, each printed once: memory that grows, a full disk, a falling speed."""

import re
import shutil
import statistics
from contextlib import suppress
from pathlib import Path

from fer_ddp import distributed
from fer_ddp.text import size_text

_GROWTH = 256 * 2**20
"""Bytes; memory that has grown by less is not warned of, nor by less than it was."""
_STATES = 3
"""So many states should fit onto the disk: the last, the previous and the best."""
_SECONDS = 10
"""An epoch that trains for less has no speed to compare."""


class Memory:
    """This process's memory after each epoch, without files that it has mapped."""

    def __init__(self) -> None:
        self._first: tuple[int, int] | None = None
        self._is_told = False

    def epoch(self, epoch: int) -> None:
        """Warn if it has more than doubled since the first epoch of this start."""
        now = memory_bytes()
        if now is None or self._is_told:
            return
        first, before = self._first = self._first or (epoch, now)
        if now - before > max(before, _GROWTH):
            self._is_told = True
            print(
                f"warning: rank {distributed.rank()} has {size_text(now)} of memory after epoch {epoch}, and had "
                f"{size_text(before)} after epoch {first}; something keeps it, such as a list of tensors in a model of "
                f"your own. If it runs out, run the same command again to resume",
                flush=True,
            )


def memory_bytes() -> int | None:
    """Anonymous memory of this process; None where the system does not tell."""
    with suppress(OSError):  # Linux alone has it
        found = re.search(r"^RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else None
    return None


class Disk:
    """The room on the disk of a run folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._is_told = folder, False

    def check(self, state_bytes: int) -> None:
        """Warn if there is no room for three states of this size."""
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError:  # a folder that was removed is told of elsewhere
            return
        if free < _STATES * state_bytes and not self._is_told:
            self._is_told = True
            print(
                f"warning: {self._folder}: its disk has {size_text(free)} left, and a state takes "
                f"{size_text(state_bytes)}; make room for {_STATES}. A run that can't write ends, and keeps the last "
                f"state",
                flush=True,
            )


class Speed:
    """The training speed of each epoch of this start."""

    def __init__(self) -> None:
        self._before: list[float] = []
        self._is_told = False

    def epoch(self, epoch: int, images_per_second: float, seconds: float) -> None:
        """Warn if it is less than half the median of the epochs before, of which there must be two."""
        if seconds < _SECONDS:
            return
        usual = statistics.median(self._before) if len(self._before) > 1 else 0.0
        self._before.append(images_per_second)
        if images_per_second < usual / 2 and not self._is_told:
            self._is_told = True
            print(
                f"warning: epoch {epoch} trained at {images_per_second:,.0f} images/s, less than half of the "
                f"{usual:,.0f} of the epochs before; look at what else uses the processors (top), the GPU "
                f"(nvidia-smi) or the disk",
                flush=True,
            )
