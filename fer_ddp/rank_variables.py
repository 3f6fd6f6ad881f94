"""The variables that torchrun sets for each rank, checked before anything waits for other ranks; without torch."""

import os

from fer_ddp.errors import JobError

RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def launched() -> bool:
    """Whether torchrun (or anything that sets its variables) started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_main() -> bool:
    """Whether this process prints for all ranks; also where the variables are wrong, so that somebody does."""
    try:
        check_rank_variables()
    except JobError:
        return True
    return not launched() or int(os.environ["RANK"]) == 0


def check_rank_variables() -> None:
    """Raises JobError if the variables are not those of one rank among others, naming the one that is wrong."""
    if "RANK" not in os.environ and "WORLD_SIZE" not in os.environ:
        return
    ranks = _number("WORLD_SIZE", 1, None)
    _number("RANK", 0, ranks - 1)
    if ranks == 1:
        return
    _number("LOCAL_RANK", 0, _number("LOCAL_WORLD_SIZE", 1, ranks, default=ranks) - 1)
    if not os.environ.get("MASTER_ADDR", "").strip():
        raise _wrong("MASTER_ADDR", "the name of the machine of rank 0")
    _number("MASTER_PORT", 1, 65535)


def how_to_unset() -> str:
    """Such as ``unset RANK WORLD_SIZE``, with those that are set."""
    return f"unset {' '.join(name for name in RANK_VARIABLES if name in os.environ)}"


def _number(name: str, least: int, most: int | None, default: int | None = None) -> int:
    text = os.environ.get(name, "" if default is None else str(default))
    number = int(text) if text.isdecimal() and len(text) < 10 else -1  # int() takes " 1" and "1_0" too
    if number < least or (most is not None and number > most):
        raise _wrong(name, f"a number from {least} to {most}" if most is not None else f"a number from {least}")
    return number


def _wrong(name: str, right: str) -> JobError:
    found = f"is {os.environ[name]!r}" if name in os.environ else "is not set"
    return JobError(
        f"{name}: {found}; it must be {right}. torchrun sets it for each rank; if the variables are left over, "
        f"remove them: {how_to_unset()}"
    )
