"""Numbers, durations and lists as people read them."""

import difflib
import re
from collections.abc import Iterable, Sequence

from shards.text import plural as plural
from shards.text import shortened as shortened


def percent(share: float, digits: int = 1) -> str:
    """``56.6 %``."""
    return f"{100 * share:.{digits}f} %"


def percent_interval(interval: tuple[float, float]) -> str:
    """``55.0 to 58.3 %`` for (low, high)."""
    low, high = interval
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def points(difference: float) -> str:
    """``+1.3``, ``−0.2`` or ``0.0``: a difference of two shares, in percentage points."""
    rounded = round(100 * difference, 1)
    return "0.0" if rounded == 0 else f"{'+' if rounded > 0 else '−'}{abs(rounded):.1f}"


def points_interval(interval: tuple[float, float]) -> str:
    """``−0.6 to +1.2`` for (low, high)."""
    low, high = interval
    return f"{points(low)} to {points(high)}"


def p_value(p: float) -> str:
    """``p = 0.032`` or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def large(number: float) -> str:
    """``950``, ``12.3 k``, ``2.31 M``, ``1.82 G``: three digits."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size * 0.9995:
            return f"{_three_digits(number / size)}{letter}"
    return f"{number:.0f}"


def _three_digits(number: float) -> str:
    exponent = int(f"{number:.2e}".partition("e")[2])  # of the rounded number: 9.996 is 10.0
    return f"{number:.{max(0, 2 - exponent)}f}"


def size_text(count: int) -> str:
    """``12.3 MiB`` or ``4.5 GiB``: so many bytes."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"


def duration(seconds: float) -> str:
    """``42 s``, ``27 min`` or ``3 h 05 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def join_names(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def closest(name: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that was probably meant by a mistyped ``name``; None if none is similar."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


_SPECIAL = re.compile(
    r"<(?=[A-Za-z/!?])"  # what may begin a tag
    r"|&(?=#|\w+;)"  # or an entity
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis, where it is not between two letters
    r"|[\\`*\[\]|$~]"  # code, emphasis, links, cells of a table, formulas
)


def markdown_text(text: object) -> str:
    """``text`` so that Markdown shows it as it is, on one line: a job may be called ``<b>``, a class ``$a|b$``."""
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", " ".join(str(text).split()))
