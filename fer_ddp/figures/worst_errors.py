"""The mistakes made with the most confidence, as a sheet of images."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fer_ddp.figures.style import figure_without_data, headline_of, in_our_style, new_figure
from fer_ddp.text import percent, plural, shortened
from shards.palette import QUIET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHEET_COLUMNS, _SHEET_ROWS = 6, 4
# Inches.
_CELL_WIDTH, _CELL_HEIGHT = 1.83, 2.17
_PICTURE, _TITLE_HEIGHT = 1.6, 0.34
_LONGEST_KEY = 30
"""Characters; of a longer key the end is shown, which tells files of one folder apart."""


@in_our_style
def plot_worst_errors(
    images: Any,
    labels: NDArray[np.integer[Any]],
    predicted: NDArray[np.integer[Any]],
    probabilities_of_predicted: NDArray[np.floating[Any]],
    class_names: Sequence[str],
    *,
    keys: Sequence[str],
    subject: str = "",
    split: str = "",
) -> "Figure":
    """A sheet of the 24 mistakes made with the most confidence, the most confident first.

    Pass the whole split: correct predictions are left out here, and the headline counts the mistakes in all of it.

    images: (k, channels, height, width) uint8 with 1 channel (grey) or 3 (RGB); only those drawn are read, so it may be
    a memory map, or whatever is indexed like an array. labels, predicted: (k,) integers. probabilities_of_predicted:
    (k,) in [0, 1], of the predicted class. Equal probabilities keep the order of the split. keys: k texts, each
    sample's name, in small print under its image. subject, split: for the headline, such as "model4, seed 0" and "val".

    Raises ValueError for images of another shape or dtype, and for arrays of unequal lengths.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != np.uint8:
        raise ValueError(f"images are {images.dtype} {images.shape}; uint8 (k, 1 or 3, height, width) is right")
    if not len(images) == len(labels) == len(predicted) == len(probabilities_of_predicted) == len(keys):
        raise ValueError(
            f"{len(images)} images, {len(labels)} labels, {len(predicted)} predictions, "
            f"{len(probabilities_of_predicted)} probabilities and {len(keys)} keys must be equally many"
        )
    mistakes = np.flatnonzero(labels != predicted)
    if len(mistakes) == 0:
        reason = f"There is none: all {len(labels):,} samples are predicted correctly." if len(labels) else "No sample."
        return figure_without_data(headline_of(subject, f"worst {split} errors".replace("  ", " ")), reason)
    order = np.argsort(-np.asarray(probabilities_of_predicted)[mistakes], kind="stable")
    shown = mistakes[order][: _SHEET_COLUMNS * _SHEET_ROWS]
    rows = math.ceil(len(shown) / _SHEET_COLUMNS)
    mistakes_in_all = f"{plural(len(mistakes), 'mistake')} in {plural(len(labels), f'{split} sample'.lstrip())}"
    if len(shown) < len(mistakes):
        headline = f"the {len(shown)} most confident of {mistakes_in_all}"
    else:
        headline = f"{mistakes_in_all}, the most confident first"
    detail = "True class → predicted class, and its probability."
    figure = new_figure(_SHEET_COLUMNS * _CELL_WIDTH, rows * _CELL_HEIGHT, headline_of(subject, headline), detail)
    # One panel whose unit is about an inch: a panel for each image takes five times as long to lay out and draw.
    sheet = figure.subplots()
    sheet.set_axis_off()
    for place, sample in enumerate(shown):
        row, column = divmod(place, _SHEET_COLUMNS)
        centre, middle = (column + 0.5) * _CELL_WIDTH, row * _CELL_HEIGHT + _TITLE_HEIGHT + _PICTURE / 2
        picture = images[sample].transpose(1, 2, 0)
        half_height, half_width = (_PICTURE * side / max(picture.shape[:2]) / 2 for side in picture.shape[:2])
        sheet.imshow(
            picture[:, :, 0] if picture.shape[2] == 1 else picture,
            cmap="gray",
            vmin=0,
            vmax=255,
            interpolation="nearest",
            extent=(centre - half_width, centre + half_width, middle + half_height, middle - half_height),
        )
        true, guess = (shortened(class_names[int(which[sample])], 16) for which in (labels, predicted))
        mistake = f"{true} → {guess}" if len(true) + len(guess) <= 16 else f"{true}\n→ {guess}"
        probability = percent(float(probabilities_of_predicted[sample]))
        sheet.text(centre, middle - half_height - 0.05, f"{mistake}  {probability}", ha="center", fontsize=8.5)
        key = keys[sample] if len(keys[sample]) <= _LONGEST_KEY else f"…{keys[sample][1 - _LONGEST_KEY :]}"
        sheet.text(centre, middle + half_height + 0.04, key, ha="center", va="top", fontsize=6, color=QUIET)
    margin = (_CELL_WIDTH - _PICTURE) / 2
    sheet.set_xlim(margin, _SHEET_COLUMNS * _CELL_WIDTH - margin)
    sheet.set_ylim(rows * _CELL_HEIGHT, 0)
    return figure
