"""A table of results, for a terminal and for Markdown."""

from collections.abc import Sequence


def table_text(rows: Sequence[Sequence[str]]) -> str:
    """``rows``, the first of which is the head, in columns of equal width."""
    head, *others = rows
    lines = [head, ["---"] * len(head), *others]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
