"""Loss, accuracy and learning rate by epoch."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fer_ddp.figures.style import figure_without_data, headline_of, in_our_style, new_figure
from fer_ddp.text import percent, plural
from shards.palette import FAINT, OF_SPLIT, QUIET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@in_our_style
def plot_learning_curves(metrics: Sequence[Mapping[str, Any]], *, subject: str = "") -> "Figure":
    """Loss, accuracy and learning rate by epoch, the epoch of the best validation accuracy marked.

    metrics: the lines of `metrics.jsonl`: `epoch`, `lr`, `train` and, where there is a validation split, `val`, both
    with `loss` and `accuracy` (in [0, 1]). Without lines the figure states that. subject: for the headline, such as
    "model4, seed 0".
    """
    if not metrics:
        return figure_without_data(headline_of(subject, "learning curves"), "No epoch is finished yet.")
    epochs = np.array([line["epoch"] for line in metrics], dtype=float)
    splits = {"training": "train", "validation": "val"}
    curves = {
        name: {measure: _column(metrics, split, measure) for measure in ("loss", "accuracy")}
        for name, split in splits.items()
    }
    measured = {name: np.array([bool(line.get(split)) for line in metrics]) for name, split in splits.items()}
    curves = {name: measures for name, measures in curves.items() if np.isfinite(list(measures.values())).any()}
    accuracy = curves.get("validation", {}).get("accuracy", np.full(len(epochs), math.nan))
    best = int(np.nanargmax(accuracy)) if np.isfinite(accuracy).any() else None
    ends = [
        f"{name} {percent(measures['accuracy'][-1])}"
        for name, measures in curves.items()
        if np.isfinite(measures["accuracy"][-1])
    ]
    if best is None:
        headline = f"no val accuracy in {plural(len(epochs), 'epoch')}, so none is marked as the best"
    else:
        headline = f"best val accuracy {percent(accuracy[best])}, epoch {epochs[best]:.0f} of {epochs[-1]:.0f}"
    detail = (
        f"Accuracy after the last epoch: {', '.join(ends)}." if ends else "No accuracy was measured in the last epoch."
    )
    if "training" in curves:
        detail += " Training is measured with augmentation and dropout."

    figure = new_figure(11.0, 4.3, headline_of(subject, headline), detail)
    panels = figure.subplots(1, 3, width_ratios=[1.15, 1.15, 0.9])
    for panel, title in zip(panels, ("Loss", "Accuracy, %", "Learning rate"), strict=True):
        _prepare_panel(panel, epochs, title)
        if best is not None:
            panel.axvline(epochs[best], color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    losses = {name: measures["loss"] for name, measures in curves.items()}
    _draw_curves(panels[0], epochs, losses, measured, best)
    accuracies = {name: 100 * measures["accuracy"] for name, measures in curves.items()}
    _draw_curves(panels[1], epochs, accuracies, measured, best)
    _draw_learning_rate(panels[2], epochs, np.array([line["lr"] for line in metrics], dtype=float))
    if best is not None and len(epochs) > 1:
        left_half = epochs[best] < epochs.mean()
        panels[1].annotate(
            f"best: epoch {epochs[best]:.0f}",
            (epochs[best], 0.02),
            xycoords=("data", "axes fraction"),
            xytext=(5 if left_half else -5, 0),
            textcoords="offset points",
            ha="left" if left_half else "right",
            fontsize=9,
            color=QUIET,
        )
    return figure


def _column(metrics: Sequence[Mapping[str, Any]], split: str, measure: str) -> NDArray[np.float64]:
    """One measure of one split by epoch; NaN where it is absent."""
    values = [(line.get(split) or {}).get(measure) for line in metrics]
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _prepare_panel(panel: "Axes", epochs: NDArray[np.float64], title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    panel.set_title(title)
    panel.set_xlabel("epoch", color=QUIET)
    panel.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    room = max(0.5, 0.02 * (epochs[-1] - epochs[0])) if len(epochs) < 20 else 0.02 * (epochs[-1] - epochs[0])
    panel.set_xlim(epochs[0] - room, epochs[-1] + room)
    panel.grid(axis="y", color=FAINT, linewidth=0.8)
    panel.set_axisbelow(True)


def _draw_curves(
    panel: "Axes",
    epochs: NDArray[np.float64],
    curves: Mapping[str, NDArray[np.float64]],
    measured: Mapping[str, NDArray[np.bool_]],
    best: int | None,
) -> None:
    """Lines named at their right ends, through the epochs that were measured; a dot on validation at the best one."""
    colours = {"training": OF_SPLIT["train"], "validation": OF_SPLIT["val"]}
    marker = "o" if len(epochs) == 1 else ""
    ends = []
    for name, values in curves.items():
        panel.plot(epochs[measured[name]], values[measured[name]], color=colours[name], marker=marker, label=name)
        if np.isfinite(values).any():
            last = int(np.flatnonzero(np.isfinite(values))[-1])
            ends.append((float(values[last]), float(epochs[last]), name))
    if best is not None:
        panel.plot(epochs[best], curves["validation"][best], "o", color=colours["validation"], markersize=6, zorder=3)
    low, high = panel.get_ylim()
    points_a_unit = 215 / (high - low)  # a panel is about 215 points high
    ends.sort()
    nudges = [0.0] * len(ends)
    if len(ends) == 2:
        overlap = 12 - (ends[1][0] - ends[0][0]) * points_a_unit
        if overlap > 0:
            nudges = [-overlap / 2, overlap / 2]
    for (value, epoch, name), nudge in zip(ends, nudges, strict=True):
        panel.annotate(
            name,
            (epoch, value),
            xytext=(7, nudge),
            textcoords="offset points",
            va="center_baseline",
            fontsize=9,
            color=colours[name],
            annotation_clip=False,
        )


def _draw_learning_rate(panel: "Axes", epochs: NDArray[np.float64], rates: NDArray[np.float64]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    panel.plot(epochs, rates, color=QUIET, marker="o" if len(epochs) == 1 else "", label="learning rate")
    positive = rates[rates > 0]
    spread = positive.max() / positive.min() if len(positive) else 1.0
    if spread > 10**1.5:
        panel.set_title("Learning rate, log scale")
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0,) if spread >= 500 else (1.0, 2.0, 5.0), numticks=8))
        panel.yaxis.set_minor_locator(NullLocator())
    else:
        panel.set_ylim(0, 1.1 * max(float(rates.max()), 1e-12))
    panel.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}".replace("e-0", "e-"))
