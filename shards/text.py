"""Counts and names in messages."""


def plural(count: int, thing: str) -> str:
    """``1 run``, ``1,200 runs``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def shortened(name: str, longest: int = 24) -> str:
    """A class name that fits; an ellipsis marks that it was cut."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


def printable(text: str) -> str:
    """``text`` with escapes such as ``\\x1b`` for what would control a terminal, or is no text: bytes of a file's name.

    Names in a stranger's data set may hold both.
    """
    return "".join(
        each if each.isprintable() or each.isspace() else each.encode("unicode_escape").decode() for each in text
    )
