"""Pictures with the boxes of their faces and bars of the most probable classes, one PNG for each."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fer_ddp.deploy.pictures import Box, Picture
from fer_ddp.figures.style import in_our_style, new_figure, save_figure
from fer_ddp.text import percent, shortened
from shards.palette import BLUE, FAINT, INK, ORANGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 8.0, 3.9
"""Inches, below the headline; taller where there are many faces."""
_BAR_HEIGHT = 0.3
"""Inches, with the gap to the next."""
_MOST_CLASSES, _CLASSES_A_FACE = 8, 3
"""Bars of a picture with one face, and of each face where there are more."""
_MOST_FACES = 20
"""That have bars; the others have a box alone."""
_LARGEST, _NEAREST_BELOW = 1200, 300
"""Pixels: what a side is reduced to, and below which pixels are shown as squares."""


class PictureFolder:
    """Draws each picture into a folder: ``face.jpg`` as ``face.jpg.png``; a second of that name as ``face.jpg-2.png``.

    names: of the classes, as they are shown.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder, self._names = folder, names
        self._written: set[str] = set()

    def __call__(self, picture: Picture, boxes: Sequence[Box], probabilities: NDArray[np.floating[Any]]) -> None:
        """Draw one picture. Raises RunError where it cannot be written."""
        base = Path(picture.name).name
        base += "" if picture.seconds is None else f"-{picture.seconds:08.2f}s"
        name, number = base, 1
        while name in self._written:
            number += 1
            name = f"{base}-{number}"
        self._written.add(name)
        save_figure(plot_prediction(picture, boxes, probabilities, self._names), self._folder / f"{name}.png")


@in_our_style
def plot_prediction(
    picture: Picture, boxes: Sequence[Box], probabilities: NDArray[np.floating[Any]], names: Sequence[str]
) -> "Figure":
    """A picture, with a numbered frame around each of ``boxes``, beside the most probable classes of each.

    probabilities: (boxes, classes); (1, classes) of the whole picture if there are no boxes. names: of the classes.
    """
    best = probabilities.argmax(axis=1)
    if len(best) == 1:
        headline = f"{names[best[0]]} {percent(float(probabilities[0, best[0]]))}"
    else:
        headline = f"{len(best)} faces"
    faces = min(len(best), _MOST_FACES)
    bars = min(len(names), _MOST_CLASSES if len(best) == 1 else _CLASSES_A_FACE)
    rows = faces * (bars + 1) - 1
    figure = new_figure(_WIDTH, max(_HEIGHT, rows * _BAR_HEIGHT + 0.3), headline, picture.place)
    shown, chart = figure.subplots(1, 2, width_ratios=(3, 2))
    _show(shown, picture, boxes)
    _bars(chart, probabilities[:faces], names, bars, numbered=len(best) > 1)
    return figure


def _show(axes: Any, picture: Picture, boxes: Sequence[Box]) -> None:
    from matplotlib.patches import Rectangle

    image = picture.image
    width, height = image.size
    if max(width, height) > _LARGEST:
        image = image.copy()
        image.thumbnail((_LARGEST, _LARGEST))
    interpolation = "nearest" if max(width, height) < _NEAREST_BELOW else "antialiased"
    extent = (0, width, height, 0)
    axes.set_anchor("N")
    axes.imshow(np.asarray(image), cmap="gray", vmin=0, vmax=255, interpolation=interpolation, extent=extent)
    axes.set_axis_off()
    for number, (left, top, right, bottom) in enumerate(boxes, start=1):
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=ORANGE, linewidth=1.6))
        if len(boxes) > 1:
            axes.text(
                left,
                top,
                str(number),
                fontsize=9,
                fontweight="bold",
                color=INK,
                va="bottom" if top > height / 20 else "top",
                bbox={"facecolor": ORANGE, "edgecolor": "none", "pad": 1.2},
            )


def _bars(
    axes: Any, probabilities: NDArray[np.floating[Any]], names: Sequence[str], bars: int, *, numbered: bool
) -> None:
    places, labels = list[float](), list[str]()
    for face, row in enumerate(probabilities):
        for rank, index in enumerate(np.argsort(-row, kind="stable")[:bars]):
            place = face * (bars + 1) + rank
            probability = float(row[index])
            axes.barh(place, probability, height=0.72, color=BLUE if rank == 0 else FAINT)
            axes.text(probability + 0.02, place, percent(probability), va="center", fontsize=9)
            places.append(place)
            number = f"{face + 1}  " if numbered and rank == 0 else ""
            labels.append(f"{number}{shortened(names[index], 16)}")
    axes.set_yticks(places, labels)
    axes.set_xlim(0, 1.22)
    rows = len(probabilities) * (bars + 1) - 1
    axes.set_ylim(max(rows, _HEIGHT / _BAR_HEIGHT - 1) - 0.5, -0.6)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)
