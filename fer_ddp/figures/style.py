"""What the figures have in common: fonts, a headline above the plot, how one is saved."""

import io
import textwrap
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from fer_ddp.errors import RunError
from shards.figures import import_matplotlib
from shards.files import atomic_write_bytes
from shards.palette import INK, QUIET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150

_STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so a figure looks the same everywhere
    "font.size": 10.0,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$a$"
    "text.usetex": False,
    "axes.edgecolor": QUIET,
    "axes.facecolor": "white",
    "axes.grid": False,
    "axes.labelcolor": INK,
    "axes.labelsize": 10.0,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlepad": 8.0,
    "figure.facecolor": "white",
    "lines.linewidth": 1.8,
    "xtick.color": QUIET,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 10.0,
    "ytick.color": QUIET,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 10.0,
}

# Beyond this many classes, numbers in cells and beside bars would be too small to read, so they are left out.
MAX_ANNOTATED_CLASSES = 20

_Arguments = ParamSpec("_Arguments")
_Returned = TypeVar("_Returned")


def in_our_style(draw: Callable[_Arguments, _Returned]) -> Callable[_Arguments, _Returned]:
    """Draw with matplotlib's defaults and `_STYLE`, whatever the user's matplotlibrc says."""

    @wraps(draw)
    def drawn(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Returned:
        matplotlib = import_matplotlib()
        settings: Any = {
            key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith("backend")
        }
        with matplotlib.rc_context(settings | _STYLE):
            return draw(*arguments, **named)

    return drawn


@in_our_style
def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG at 150 dots per inch: equal figures give equal bytes, and the file is whole or absent.

    Raises RunError where it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(DOTS_PER_INCH)
    layout = figure.get_layout_engine()
    if layout is not None and figure.axes:  # once saved a figure has none
        layout.execute(figure)
    figure.set_layout_engine("none")
    for axes in figure.axes:
        # The solver's last digits differ from process to process, and on an edge between pixels that shows.
        left, bottom, width, height = axes.get_position(original=True).bounds
        axes.set_position((round(left, 6), round(bottom, 6), round(width, 6), round(height, 6)))
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content, metadata={"Software": None})  # savefig would draw twice
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(path, content.getvalue())
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from error


def new_figure(width: float, height: float, headline: str, detail: str) -> "Figure":
    """A figure whose plot area is about width x height inches, below a headline and a quieter line in words."""
    from matplotlib.figure import Figure

    margin, headline_size, detail_size = 0.14, 13.0, 10.0
    headline, detail = (text.replace(" %", "\N{NO-BREAK SPACE}%") for text in (headline, detail))
    # The mean width of DejaVu Sans is about 0.68 of its size where bold, 0.58 where not.
    headline_lines = textwrap.wrap(headline, int((width - 2 * margin) * 72 / (0.68 * headline_size)))
    detail_lines = textwrap.wrap(detail, int((width - 2 * margin) * 72 / (0.58 * detail_size)))
    line_height = 1.3 / 72
    headline_height = len(headline_lines) * headline_size * line_height
    above = margin + headline_height + len(detail_lines) * detail_size * line_height + 0.12
    total = height + above
    figure = Figure(figsize=(width, total))
    pad = 0.06
    side = (margin - pad) / width
    figure.set_layout_engine(
        "constrained", rect=(side, 0.04 / total, 1 - 2 * side, height / total), w_pad=pad, h_pad=pad
    )
    texts = (
        (headline_lines, 0.0, headline_size, "bold", INK),
        (detail_lines, headline_height, detail_size, "normal", QUIET),
    )
    for lines, offset, size, weight, colour in texts:
        figure.text(
            margin / width,
            1 - (margin + offset) / total,
            "\n".join(lines),
            fontsize=size,
            fontweight=weight,
            color=colour,
            va="top",
            linespacing=1.3,
        )
    return figure


def figure_without_data(headline: str, reason: str) -> "Figure":
    """A figure that only states why there is nothing to draw."""
    return new_figure(6.0, 0.3, headline, reason)


def headline_of(subject: str, text: str) -> str:
    """``model4, seed 0: val accuracy 65.1 %``; without a subject the text alone, with a capital letter."""
    return f"{subject}: {text}" if subject else text[0].upper() + text[1:]
