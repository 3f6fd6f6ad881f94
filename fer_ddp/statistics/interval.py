"""From where to where."""

from typing import NamedTuple


class Interval(NamedTuple):
    """Two bounds, low <= high; a tuple, so that it unpacks and is a list in JSON."""

    low: float
    high: float


def check_confidence(confidence: float) -> None:
    """Refuse what is no probability strictly between 0 and 1, with ValueError."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} must lie between 0 and 1; 0.95 is usual")
