"""Precision, recall and F1 of each class."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from fer_ddp.figures.style import MAX_ANNOTATED_CLASSES, headline_of, in_our_style, new_figure
from fer_ddp.text import percent, shortened
from shards.palette import BLUE, FAINT, GREEN, INK, QUIET, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@in_our_style
def plot_per_class(per_class: Mapping[str, Mapping[str, float]], *, subject: str = "", split: str = "") -> "Figure":
    """Precision, recall and F1 as bars, a group for each class with its number of samples.

    per_class: by class name, in the order to draw, `precision`, `recall`, `f1` (in [0, 1]) and `support` (samples), as
    `classification_metrics` gives them. subject, split: for the headline, such as "model4, seed 0" and "val". Beyond 20
    classes the numbers beside the bars are left out.

    Raises ValueError without a class.
    """
    if not per_class:
        raise ValueError("there is no class to draw; at least one is needed")
    present = {name: values for name, values in per_class.items() if values["support"] > 0}
    if present:
        macro = float(np.mean([values["f1"] for values in present.values()]))
        headline = f"{split} macro-F1 {percent(macro)}".lstrip()
        detail = "Precision, recall and F1 of each class, in per cent."
        scores = {name: values["f1"] for name, values in present.items()}
        if min(scores.values()) < max(scores.values()):
            headline += f", best {_those_with(max, scores)}, worst {_those_with(min, scores)}"
    else:
        headline, detail = "no class has a sample", "There is nothing to measure."

    classes = len(per_class)
    annotated = classes <= MAX_ANNOTATED_CLASSES
    names = [shortened(name) for name in per_class]
    figure = new_figure(8.5, (0.66 if annotated else 0.3) * classes + 0.9, headline_of(subject, headline), detail)
    axes = figure.subplots()
    thickness = 0.26
    for place, (measure, label, colour) in enumerate(
        (("precision", "precision", BLUE), ("recall", "recall", VERMILION), ("f1", "F1", GREEN))
    ):
        values = 100 * np.array([values[measure] for values in per_class.values()])
        offsets = np.arange(classes) + (place - 1) * thickness
        axes.barh(offsets, values, height=0.9 * thickness, color=colour, label=label)
        if annotated:
            for offset, value, values_of_class in zip(offsets, values, per_class.values(), strict=True):
                if values_of_class["support"] > 0:
                    axes.text(value + 0.8, offset, f"{value:.0f}", va="center_baseline", fontsize=8, color=INK)
    for row, values_of_class in enumerate(per_class.values()):
        if values_of_class["support"] == 0:
            axes.text(0.8, row, "no sample", va="center", fontsize=8 if annotated else 6, color=QUIET)
    axes.set_yticks(
        range(classes),
        [
            f"{name}\nn = {values['support']:,.0f}" if annotated else f"{name}  (n = {values['support']:,.0f})"
            for name, values in zip(names, per_class.values(), strict=True)
        ],
        fontsize=10 if annotated else 8,
    )
    axes.set_ylim(classes - 0.45, -0.55)
    axes.set_xlim(0, 104)
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=3,
        frameon=False,
        handlelength=1.0,
        borderaxespad=0.2,
        borderpad=0,
    )
    return figure


def _those_with(extreme: Callable[[Iterable[float]], float], scores: Mapping[str, float]) -> str:
    """``sad (30.0 %)``, the class with the highest or lowest score, or where several tie ``3 classes at 0 %``."""
    score = extreme(scores.values())
    names = [name for name, value in scores.items() if value == score]
    text = percent(score) if score else "0 %"
    return f"{shortened(names[0])} ({text})" if len(names) == 1 else f"{len(names)} classes at {text}"
