"""``launch`` whose runs of one rank are forked from a loaded process: ``launch_forked.py COMMAND ARGUMENTS``."""

import sys
from pathlib import Path
from typing import IO
from unittest.mock import patch

from forking import Forked, fork

from launch.__main__ import main


def start_forked(
    ranks: int,
    arguments: list[str],
    *,
    environment: dict[str, str] | None = None,
    output: IO[bytes] | None = None,
) -> Forked:
    """In place of `launch.torchrun.start_ranks`."""
    return fork(arguments, ranks=ranks, cwd=Path.cwd(), environment=environment, output=output or sys.stdout)


with patch("launch.local.start_ranks", start_forked):
    sys.exit(main(sys.argv[1:]))
