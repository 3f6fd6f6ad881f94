"""Rows and files that cannot be used: the list beside the data set, and a summary by reason."""

import csv
import io
import re
from pathlib import Path

from shards.files import atomic_write_text
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
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["place", "reason"])
    rows.writerows([reject.place, reject.reason] for reject in rejects)
    atomic_write_text(path, text.getvalue())


def summarize_rejects(rejects: list[Reject]) -> list[str]:
    """A line for each kind of reason, the most frequent first: the count, and the first reject of that kind."""
    kinds: dict[str, list[Reject]] = {}
    for reject in rejects:
        kind = re.sub(r"'[^']*'|\d+", "", reject.reason)  # without what differs from row to row
        kinds.setdefault(kind, []).append(reject)
    by_count = sorted(kinds.values(), key=len, reverse=True)
    return [f"{len(members):>7,}  {members[0].place}: {members[0].reason}" for members in by_count]
