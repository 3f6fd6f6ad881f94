"""How a command ends: 0, or one message on stderr and the status of what went wrong; no traceback for bad input."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable
from typing import NoReturn

from fer_ddp.errors import Interrupted, RunError, os_error_message
from fer_ddp.rendezvous import is_main
from fer_ddp.signals import StoppedEarly, ignore_stop_signals, stop_early
from shards.errors import UserError
from shards.text import printable


def exit_status_of(command: Callable[[], None]) -> int:
    """Call ``command``; returns the exit status: 0 done, 1 failed, 2 wrong command or job, 75 interrupted.

    A stop signal ends it with 75 for as long as ``command`` does not listen for signals itself, and is ignored from
    ``command``'s end on.
    """
    try:
        stop_early()
        command()
    except Interrupted as error:
        _print_error(f"interrupted: {error}")
        _print_resume()
        return error.exit_status
    except UserError as error:
        _print_error(f"error: {error}")
        return error.exit_status
    except OSError as error:
        _print_error(f"error: {os_error_message(error)}")
        return RunError.exit_status
    except StoppedEarly as stopped:
        _print_error(f"interrupted: stopped by {stopped}")
        _print_resume()
        return Interrupted.exit_status
    finally:
        ignore_stop_signals()
    return 0


def command_line(ranks: int = 1) -> str:
    """What was typed, or does the same as what started the ``ranks`` ranks, ready to be pasted into a shell."""
    spec = sys.modules["__main__"].__spec__  # None where a file was started and not a module
    if ranks > 1:
        start = ["torchrun", "--standalone", f"--nproc-per-node={ranks}"]
    else:
        start = [] if spec is None and os.path.basename(sys.argv[0]) == "fer-ddp" else ["python"]
    if spec is not None:
        program = ["-m", spec.name.removesuffix(".__main__")]
    else:
        program = ["fer-ddp"] if not start else [sys.argv[0]]
    return shlex.join([*start, *program, *sys.argv[1:]])


LAUNCHED = "FER_DDP_LAUNCHED"
"""Set for ranks that `launch` starts: it prints itself how to resume."""


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


def _print_error(message: str) -> None:
    """On rank zero, on a line of its own: a terminal may show a progress bar or ``^C`` where the cursor is."""
    if is_main():
        clear_line = "\r\x1b[K" if sys.stderr.isatty() else ""
        print(f"{clear_line}{printable(message)}", file=sys.stderr, flush=True)


def _print_resume() -> None:
    if LAUNCHED not in os.environ:
        _print_error(f"to resume: {command_line(int(os.environ.get('LOCAL_WORLD_SIZE', 1)))}")


def parse(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """Like ``parser.parse_args``, which takes a command's ``overrides`` only where no option precedes them."""
    options, left = parser.parse_known_args(arguments)
    overrides = getattr(options, "overrides", None)
    unknown = [word for word in left if overrides is None or word.startswith("-") or "=" not in word]
    if unknown:
        keys = [word.lstrip("-") for word in unknown if re.match(r"--[a-z_.]+=", word)]
        hint = f"; keys of a job have no dashes: {' '.join(keys)}" if keys and overrides is not None else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    if overrides is not None:
        options.overrides = [*overrides, *left]
    return options
