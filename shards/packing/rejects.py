"""Rows and files that cannot be used: the list beside the data set, and their counts in words."""

import csv
import re
from pathlib import Path

from shards.sources.scan import Reject


def rejects_path(out: Path) -> Path:
    """Where the rejects of the data set ``out`` are listed: beside it."""
    return out.with_name(f"{out.name}.rejects.csv")


def write_rejects(rejects: list[Reject], out: Path) -> None:
    """Write ``OUT.rejects.csv``, columns ``place`` and ``reason``; without rejects, remove an old one."""
    path = rejects_path(out)
    if not rejects:
        path.unlink(missing_ok=True)
        return
    beside = path.with_name(f".{path.name}.partial")
    with open(beside, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        rows = csv.writer(file)
        rows.writerow(["place", "reason"])
        rows.writerows([reject.place, reject.reason] for reject in rejects)
    beside.replace(path)


def count_rejects(rejects: list[Reject]) -> list[str]:
    """A line for each kind of reason, the most frequent first: how many, and the first of them."""
    kinds: dict[str, list[Reject]] = {}
    for reject in rejects:
        kind = re.sub(r"'[^']*'|\d+", "", reject.reason)  # without what differs from row to row
        kinds.setdefault(kind, []).append(reject)
    ordered = sorted(kinds.values(), key=len, reverse=True)
    return [f"{len(same):>7,}  {same[0].place}: {same[0].reason}" for same in ordered]
