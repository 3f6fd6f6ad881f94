"""Which class is predicted as which."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_ddp.figures.style import MAX_ANNOTATED_CLASSES, headline_of, in_our_style, new_figure
from fer_ddp.text import percent, plural, shortened
from shards.palette import INK, QUIET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@in_our_style
def plot_confusion_matrix(
    confusion: Sequence[Sequence[int]], class_names: Sequence[str], *, subject: str = "", split: str = ""
) -> "Figure":
    """A confusion matrix: each cell shows its share of the row in per cent and, smaller, its count.

    confusion: counts, `confusion[true][predicted]`. subject, split: for the headline, such as "model4, seed 0" and
    "val". The line below it names the most common mistake. Beyond 20 classes only the colours are drawn.

    Raises ValueError unless the matrix has a row and a column for each class.
    """
    from matplotlib.colors import PowerNorm

    counts = np.asarray(confusion, dtype=np.int64)
    classes = len(class_names)
    if counts.shape != (classes, classes):
        raise ValueError(f"the confusion matrix has the shape {counts.shape}; {classes} classes need as many rows")
    support = counts.sum(axis=1)
    with np.errstate(invalid="ignore"):
        share = counts / support[:, None]  # NaN in the row of a class without samples
    annotated = classes <= MAX_ANNOTATED_CLASSES
    names = [shortened(name) for name in class_names]

    side = min(max(0.82 * classes, 2.6), 9.0) if annotated else 10.0
    cell = side * 72 / classes  # points
    step = max(1, math.ceil(5.6 / cell))  # with more classes than names fit, every step-th is named
    label_size = 10.0 if annotated else min(10.0, 0.8 * cell * step)
    width_of_names = max(map(len, names)) * 0.62 * label_size / 72
    level = width_of_names * 72 < 0.92 * cell
    slanted = annotated and not level
    figure = new_figure(
        max(side + width_of_names + (0.9 if annotated else 1.9), 5.5),
        side + 0.8 + (0 if level else (0.7 if slanted else 1.0) * width_of_names),
        headline_of(subject, _accuracy(counts, split)),
        _most_common_mistake(counts, class_names),
    )
    axes = figure.subplots()
    axes.set_anchor("N")
    norm = PowerNorm(1.0 if annotated else 0.5, vmin=0, vmax=1)  # pale cells without numbers must be distinguishable
    image = axes.imshow(share, cmap="Blues", norm=norm, aspect="equal", interpolation="nearest")
    axes.set_xticks(
        range(0, classes, step),
        names[::step],
        rotation=35 if slanted else 0 if level else 90,
        ha="right" if slanted else "center",
        rotation_mode="anchor" if slanted else "default",
        fontsize=label_size,
    )
    samples = [f"\nn = {n:,}" if annotated else "" for n in support]
    labels = [name + n for name, n in zip(names, samples, strict=True)]
    axes.set_yticks(range(0, classes, step), labels[::step], fontsize=label_size)
    axes.set_xlabel("predicted", labelpad=8, color=QUIET)
    axes.set_ylabel("true", labelpad=8, color=QUIET)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if annotated:
        for edge in np.arange(0.5, classes - 1):
            axes.axhline(edge, color="white", linewidth=1.5)
            axes.axvline(edge, color="white", linewidth=1.5)
        _write_cells(axes, counts, share, cell)
    else:
        bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30, pad=0.02, ticks=[0, 0.05, 0.25, 0.5, 1])
        bar.ax.set_yticklabels(["0", "5", "25", "50", "100"])
        bar.set_label("per cent of the row", color=QUIET)
        bar.outline.set_visible(False)
    return figure


def _accuracy(counts: NDArray[np.int64], split: str) -> str:
    total = int(counts.sum())
    return f"{split} accuracy {percent(counts.trace() / total)}".lstrip() if total else f"no {split} sample"


def _most_common_mistake(counts: NDArray[np.int64], class_names: Sequence[str]) -> str:
    text = f"{plural(int(counts.sum()), 'sample')}."
    mistakes = counts - np.diag(counts.diagonal())
    if mistakes.any():
        true, guess = divmod(int(mistakes.argmax()), len(class_names))
        times = plural(int(counts[true, guess]), "time")
        text += f" Most common mistake: {class_names[true]} → {class_names[guess]} ({times})."
    return text


def _write_cells(axes: "Axes", counts: NDArray[np.int64], share: NDArray[np.float64], cell: float) -> None:
    """The per cent of the row, large, over the count, small, in cells of so many points; white on dark ones."""
    import matplotlib

    colours = matplotlib.colormaps["Blues"]
    size = min(11.0, 0.26 * cell)
    for (row, column), part in np.ndenumerate(share):
        if math.isnan(part):
            axes.text(column, row, "–", ha="center", va="center", color=QUIET)
            continue
        ink = _readable_on(colours(part)[:3])
        axes.annotate(
            f"{100 * part:.0f} %",
            (column, row),
            (0, 0.45 * size),
            textcoords="offset points",
            ha="center",
            va="center",
            in_layout=False,  # inside the axes anyway; measuring each would take most of the time
            fontsize=size,
            fontweight="bold" if row == column else "normal",
            color=ink,
        )
        axes.annotate(
            f"{counts[row, column]:,}",
            (column, row),
            (0, -0.8 * size),
            textcoords="offset points",
            ha="center",
            va="center",
            in_layout=False,
            fontsize=0.75 * size,
            color=ink,
        )


def _readable_on(background: tuple[float, float, float]) -> str:
    """Black or white, whichever contrasts more with an sRGB colour (relative luminance of WCAG 2.1, section 1.4.3)."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in background]
    luminance = float(np.dot([0.2126, 0.7152, 0.0722], channels))
    return INK if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"
