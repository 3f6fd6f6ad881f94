"""How a command ends: 0, or one sentence on stderr and the status of what went wrong; no traceback for bad input."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from fer_ddp.errors import Interrupted, RunError, system_sentence
from fer_ddp.signals import StoppedEarly, stop_early
from shards.errors import UserError


def exit_status_of(command: Callable[[], None]) -> int:
    """Call ``command``; returns the exit status: 0 done, 1 failed, 2 wrong command or job, 75 interrupted.

    A stop signal ends it with 75 for as long as ``command`` does not listen for signals itself.
    """
    try:
        stop_early()
        command()
    except UserError as error:
        _say(f"{'interrupted' if isinstance(error, Interrupted) else 'error'}: {error}")
        return error.exit_status
    except OSError as error:
        _say(f"error: {system_sentence(error)}")
        return RunError.exit_status
    except StoppedEarly as stopped:
        _say(f"interrupted: stopped by {stopped}; the same command does it again")
        return Interrupted.exit_status
    return 0


def end_process(exit_status: int) -> NoReturn:
    """End this process; at once if it failed among other ranks, which its process group's end would wait for."""
    dist = sys.modules.get("torch.distributed")
    if exit_status and dist is not None and dist.is_available() and dist.is_initialized():
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(exit_status)
    sys.exit(exit_status)


def _say(sentence: str) -> None:
    """Rank zero speaks for all."""
    if os.environ.get("RANK", "0") == "0":
        print(sentence, file=sys.stderr, flush=True)


def parse(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """Like ``parser.parse_args``, which takes a command's ``overrides`` only where no option stands before them."""
    options, left = parser.parse_known_args(arguments)
    overrides = getattr(options, "overrides", None)
    unknown = [word for word in left if overrides is None or word.startswith("-") or "=" not in word]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if overrides is not None:
        options.overrides = [*overrides, *left]
    return options
