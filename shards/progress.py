"""A progress bar on a terminal, and nothing anywhere else."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def with_progress(
    items: Iterable[Item], what: str, total: int, *, unit: str, size: Callable[[Item], int] = lambda _: 1
) -> Iterator[Item]:
    """``items``, with a bar on stderr while they are drawn if that is a terminal.

    ``total`` is the sum of all sizes, each the ``size`` of one item in ``unit``; an item counts when the next one is
    asked for. The bar is wiped when the items end, and when an exception ends them.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # its thread would keep worker processes from being forked
    with tqdm(total=total, desc=what, unit=unit, unit_scale=True, leave=False, dynamic_ncols=True) as bar:
        for item in items:
            yield item
            bar.update(size(item))
