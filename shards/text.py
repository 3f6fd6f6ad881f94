"""Counts in messages."""


def plural(count: int, thing: str) -> str:
    """``1 run``, ``1,200 runs``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
