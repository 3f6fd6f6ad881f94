"""Images in rows, each with a caption and, where given, a heat map over it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fer_ddp.figures.style import figure_without_data, headline_of, in_our_style, new_figure
from fer_ddp.text import shortened
from shards.palette import QUIET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches.
_PICTURE, _GAP, _CAPTION, _LABEL = 1.06, 0.07, 0.19, 1.3
_LONGEST_LABEL, _LONGEST_CAPTION = 15, 17
_OPACITY = 0.55
"""Of the heat map where it is highest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """An image of a grid."""

    image: NDArray[np.uint8]
    """(1 or 3, height, width)."""
    caption: str = ""
    heat: NDArray[np.floating[Any]] | None = None
    """(height, width) in [0, 1]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Images with something in common."""

    label: str
    cells: Sequence[Cell | None]
    """None leaves the place empty."""


@in_our_style
def plot_image_grid(
    rows: Sequence[Row], headline: str, detail: str, *, subject: str = "", columns: Sequence[str] = ()
) -> "Figure":
    """A sheet with a row of images for each of ``rows``, its label at the left.

    headline, detail: the two lines above. subject: before the headline, such as "model4, seed 0". columns: titles
    above columns, "" for none. Long labels and captions are cut.
    """
    width = max((len(row.cells) for row in rows), default=0)
    if width == 0:
        return figure_without_data(headline_of(subject, headline), "There is no image to show.")
    lines = max(cell.caption.count("\n") + 1 for row in rows for cell in row.cells if cell is not None)
    pitch, height = _PICTURE + _GAP, _PICTURE + lines * _CAPTION + _GAP
    above = 0.24 if any(columns) else 0.0
    size = (max(_LABEL + width * pitch, 6.0), above + len(rows) * height)
    figure = new_figure(*size, headline_of(subject, headline), detail)
    sheet = figure.subplots()  # one panel whose unit is about an inch, as in the sheet of worst errors
    sheet.set_axis_off()
    for place, title in enumerate(columns):
        sheet.text(_LABEL + place * pitch, 0.14, title, ha="left", fontsize=9, color=QUIET)
    for number, row in enumerate(rows):
        top = above + number * height
        label = shortened(row.label, _LONGEST_LABEL)
        sheet.text(_LABEL - 0.12, top + _PICTURE / 2, label, ha="right", va="center", fontsize=9.5)
        for place, cell in enumerate(row.cells):
            if cell is None:
                continue
            left = _LABEL + place * pitch
            pixels = _blended(cell)
            wide, high = (_PICTURE * side / max(pixels.shape[:2]) for side in (pixels.shape[1], pixels.shape[0]))
            centre, middle = left + _PICTURE / 2, top + _PICTURE / 2
            extent = (centre - wide / 2, centre + wide / 2, middle + high / 2, middle - high / 2)
            sheet.imshow(pixels, interpolation="nearest", extent=extent)
            caption = "\n".join(shortened(line, _LONGEST_CAPTION) for line in cell.caption.split("\n"))
            sheet.text(centre, top + _PICTURE + 0.03, caption, ha="center", va="top", fontsize=7.5)
    sheet.set_xlim(0, size[0])
    sheet.set_ylim(size[1], 0)
    return figure


def _blended(cell: Cell) -> NDArray[np.float64]:
    """RGB (height, width, 3) in [0, 1]: the image, under the heat map where there is one."""
    import matplotlib

    picture = np.broadcast_to(cell.image, (3, *cell.image.shape[1:])).transpose(1, 2, 0) / 255
    if cell.heat is None:
        return picture
    heat = np.clip(cell.heat, 0, 1)
    opacity = _OPACITY * heat[..., None]
    colours: NDArray[np.float64] = matplotlib.colormaps["inferno"](0.25 + 0.75 * heat)[..., :3]
    return np.asarray((1 - opacity) * picture + opacity * colours)
