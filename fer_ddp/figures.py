"""The figures of a run: learning curves, confusion matrix, measures per class, the worst errors.

Each function returns a matplotlib `Figure` of its own (no pyplot, no global state) whose headline says what is seen;
`save_figure` writes it. matplotlib is imported only once something is drawn.
"""

import io
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from fer_ddp.atomic_write import write_whole
from fer_ddp.errors import RunError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150

# Okabe and Ito's colours, which colour-blind readers tell apart, and three greys.
_BLUE, _VERMILION, _GREEN = "#0072B2", "#D55E00", "#009E73"
_INK, _QUIET, _FAINT = "#1F2328", "#59636E", "#D8DEE4"

_STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so a figure looks the same everywhere
    "font.size": 10.0,
    "text.color": _INK,
    "text.parse_math": False,  # a class may be called "$a$"
    "text.usetex": False,
    "axes.edgecolor": _QUIET,
    "axes.facecolor": "white",
    "axes.grid": False,
    "axes.labelcolor": _INK,
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
    "xtick.color": _QUIET,
    "xtick.labelcolor": _INK,
    "xtick.labelsize": 10.0,
    "ytick.color": _QUIET,
    "ytick.labelcolor": _INK,
    "ytick.labelsize": 10.0,
}

# Beyond this many classes, numbers in cells and beside bars would be too small to read, so they are left out.
_MOST_ANNOTATED_CLASSES = 20
_SHEET_COLUMNS, _SHEET_ROWS = 6, 4

_Arguments = ParamSpec("_Arguments")
_Returned = TypeVar("_Returned")


def _in_our_style(draw: Callable[_Arguments, _Returned]) -> Callable[_Arguments, _Returned]:
    """Draw with matplotlib's defaults and `_STYLE`, whatever the user's matplotlibrc says."""

    @wraps(draw)
    def drawn(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Returned:
        import matplotlib

        settings: Any = {
            key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith("backend")
        }
        with matplotlib.rc_context(settings | _STYLE):
            return draw(*arguments, **named)

    return drawn


@_in_our_style
def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG at 150 dots per inch: equal figures give equal bytes, and the file is whole or absent.

    Raises RunError where it cannot be written.
    """
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    figure.set_layout_engine("none")  # laid out again, it could move by a pixel
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content.getvalue())
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from error


@_in_our_style
def plot_learning_curves(metrics: Sequence[Mapping[str, Any]], *, subject: str = "") -> "Figure":
    """Loss, accuracy and learning rate by epoch, the epoch of the best validation accuracy marked.

    metrics: the lines of `metrics.jsonl`: `epoch`, `lr`, `train` and, where there is a validation split, `val`, both
    with `loss` and `accuracy` (in [0, 1]). No line gives a figure that says so. subject: what is drawn, such as
    "model4, seed 0"; it begins the line under the headline.
    """
    if not metrics:
        return _figure_without_data("Learning curves", _about(subject, "No epoch is finished yet."))
    epochs = np.array([line["epoch"] for line in metrics], dtype=float)
    curves = {
        name: {measure: _column(metrics, split, measure) for measure in ("loss", "accuracy")}
        for name, split in (("training", "train"), ("validation", "val"))
    }
    curves = {name: measures for name, measures in curves.items() if np.isfinite(list(measures.values())).any()}
    accuracy = curves.get("validation", {}).get("accuracy", np.full(len(epochs), math.nan))
    best = int(np.nanargmax(accuracy)) if np.isfinite(accuracy).any() else None
    ends = [
        f"{name} {_percent(measures['accuracy'][-1])}"
        for name, measures in curves.items()
        if np.isfinite(measures["accuracy"][-1])
    ]
    if best is None:
        headline = f"No validation accuracy in {_counted(len(epochs), 'epoch')}, so none is marked as the best"
    else:
        headline = (
            f"Best validation accuracy {_percent(accuracy[best])}, in epoch {epochs[best]:.0f} of {epochs[-1]:.0f}"
        )
    detail = (
        f"Accuracy after the last epoch: {', '.join(ends)}." if ends else "No accuracy was measured in the last epoch."
    )

    figure = _figure(11.0, 4.3, headline, _about(subject, detail))
    panels = figure.subplots(1, 3, width_ratios=[1.15, 1.15, 0.9])
    for panel, title in zip(panels, ("Loss", "Accuracy, %", "Learning rate"), strict=True):
        _prepare_panel(panel, epochs, title)
        if best is not None:
            panel.axvline(epochs[best], color=_QUIET, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    _draw_curves(panels[0], epochs, {name: measures["loss"] for name, measures in curves.items()}, best)
    _draw_curves(panels[1], epochs, {name: 100 * measures["accuracy"] for name, measures in curves.items()}, best)
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
            color=_QUIET,
        )
    return figure


@_in_our_style
def plot_confusion_matrix(confusion: Sequence[Sequence[int]], class_names: Sequence[str], title: str) -> "Figure":
    """A confusion matrix: each cell shows its share of the row in per cent and, smaller, its count.

    confusion: counts, `confusion[true][predicted]`. title: what was predicted, such as "Test split, model4". The line
    under it gives the accuracy and the commonest mistake. Beyond 20 classes only the colours are drawn.
    """
    from matplotlib.colors import PowerNorm

    counts = np.asarray(confusion, dtype=np.int64)
    classes = len(class_names)
    if counts.shape != (classes, classes):
        raise ValueError(f"the confusion matrix has the shape {counts.shape}; {classes} classes need as many rows")
    support = counts.sum(axis=1)
    with np.errstate(invalid="ignore"):
        share = counts / support[:, None]  # NaN in the row of a class without samples
    annotated = classes <= _MOST_ANNOTATED_CLASSES
    names = [_shortened(name) for name in class_names]

    side = min(max(0.82 * classes, 2.6), 9.0) if annotated else 10.0
    cell = side * 72 / classes  # points
    step = max(1, math.ceil(5.6 / cell))  # with more classes than names fit, every step-th is named
    label_size = 10.0 if annotated else min(10.0, 0.8 * cell * step)
    width_of_names = max(map(len, names)) * 0.62 * label_size / 72
    level = width_of_names * 72 < 0.92 * cell
    slanted = annotated and not level
    figure = _figure(
        max(side + width_of_names + (0.9 if annotated else 1.9), 5.5),
        side + 0.8 + (0 if level else (0.7 if slanted else 1.0) * width_of_names),
        title,
        _confusion_in_words(counts, class_names),
    )
    axes = figure.subplots()
    axes.set_anchor("N")
    norm = PowerNorm(1.0 if annotated else 0.5, vmin=0, vmax=1)  # without numbers, pale cells must still be told apart
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
    axes.set_xlabel("predicted", labelpad=8, color=_QUIET)
    axes.set_ylabel("true", labelpad=8, color=_QUIET)
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
        bar.set_label("per cent of the row", color=_QUIET)
        bar.outline.set_visible(False)
    return figure


@_in_our_style
def plot_per_class(per_class: Mapping[str, Mapping[str, float]], *, subject: str = "") -> "Figure":
    """Precision, recall and F1 as bars, a group for each class with its number of samples.

    per_class: by class name, in the order to draw, `precision`, `recall`, `f1` (in [0, 1]) and `support` (samples), as
    `classification_metrics` gives them. subject: what was predicted, such as "test split, model4"; it begins the line
    under the headline. Beyond 20 classes the numbers beside the bars are left out.
    """
    if not per_class:
        raise ValueError("there is no class to draw; at least one is needed")
    present = {name: values for name, values in per_class.items() if values["support"] > 0}
    if present:
        macro = float(np.mean([values["f1"] for values in present.values()]))
        headline = f"Macro-F1 {_percent(macro)}"
        detail = "Precision, recall and F1 of each class, in per cent."
        if len(present) > 1:
            best = max(present, key=lambda name: present[name]["f1"])
            worst = min(present, key=lambda name: present[name]["f1"])
            headline += (
                f": best {_shortened(best)} ({_percent(present[best]['f1'])}), "
                f"worst {_shortened(worst)} ({_percent(present[worst]['f1'])})"
            )
    else:
        headline, detail = "No class has a sample", "There is nothing to measure."

    classes = len(per_class)
    annotated = classes <= _MOST_ANNOTATED_CLASSES
    names = [_shortened(name) for name in per_class]
    figure = _figure(8.5, (0.66 if annotated else 0.3) * classes + 0.9, headline, _about(subject, detail))
    axes = figure.subplots()
    thickness = 0.26
    for place, (measure, label, colour) in enumerate(
        (("precision", "precision", _BLUE), ("recall", "recall", _VERMILION), ("f1", "F1", _GREEN))
    ):
        values = 100 * np.array([values[measure] for values in per_class.values()])
        offsets = np.arange(classes) + (place - 1) * thickness
        axes.barh(offsets, values, height=0.9 * thickness, color=colour, label=label)
        if annotated:
            for offset, value, values_of_class in zip(offsets, values, per_class.values(), strict=True):
                if values_of_class["support"] > 0:
                    axes.text(value + 0.8, offset, f"{value:.0f}", va="center_baseline", fontsize=8, color=_INK)
    for row, values_of_class in enumerate(per_class.values()):
        if values_of_class["support"] == 0:
            axes.text(0.8, row, "no sample", va="center", fontsize=8 if annotated else 6, color=_QUIET)
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
    axes.grid(axis="x", color=_FAINT, linewidth=0.8)
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


@_in_our_style
def plot_worst_errors(
    images: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    predicted: NDArray[np.integer[Any]],
    probabilities_of_predicted: NDArray[np.floating[Any]],
    class_names: Sequence[str],
    *,
    subject: str = "",
) -> "Figure":
    """A sheet of the 24 mistakes made with the most confidence, the most confident first.

    Give the whole split: right answers are left out here, and the headline counts the mistakes among all of it.

    images: (k, channels, height, width) uint8 with 1 channel (grey) or 3 (RGB); only those drawn are read, so it may be
    a memory map. labels, predicted: (k,) integers. probabilities_of_predicted: (k,) in [0, 1], what the model gave to
    its answer. Equal probabilities stand in the order of the split. subject: as for `plot_per_class`.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != np.uint8:
        raise ValueError(f"images are {images.dtype} {images.shape}; uint8 (k, 1 or 3, height, width) is right")
    if not len(images) == len(labels) == len(predicted) == len(probabilities_of_predicted):
        raise ValueError(
            f"{len(images)} images, {len(labels)} labels, {len(predicted)} predictions and "
            f"{len(probabilities_of_predicted)} probabilities must be equally many"
        )
    mistakes = np.flatnonzero(labels != predicted)
    if len(mistakes) == 0:
        sentence = f"There is none: all {len(labels):,} samples are predicted right." if len(labels) else "No sample."
        return _figure_without_data("The worst errors", _about(subject, sentence))
    order = np.argsort(-np.asarray(probabilities_of_predicted)[mistakes], kind="stable")
    shown = mistakes[order][: _SHEET_COLUMNS * _SHEET_ROWS]
    columns = _SHEET_COLUMNS
    rows = math.ceil(len(shown) / columns)
    counted = f"{_counted(len(mistakes), 'mistake')} in {_counted(len(labels), 'sample')}"
    if len(shown) < len(mistakes):
        headline = f"The {len(shown)} most confident of {counted}"
    else:
        headline = f"{counted}, the most confident first"
    figure = _figure(
        11.0, 2.05 * rows, headline, _about(subject, "True class → predicted class, and the probability it was given.")
    )
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for cell in cells:
        cell.set_axis_off()
    for cell, sample in zip(cells, shown, strict=False):
        picture = images[sample].transpose(1, 2, 0)
        if picture.shape[2] == 1:
            cell.imshow(picture[:, :, 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        else:
            cell.imshow(picture, interpolation="nearest")
        true, guess = (_shortened(class_names[int(which[sample])], 16) for which in (labels, predicted))
        answer = f"{true} → {guess}" if len(true) + len(guess) <= 16 else f"{true}\n→ {guess}"
        cell.set_title(
            f"{answer}  {_percent(float(probabilities_of_predicted[sample]))}",
            fontsize=8.5,
            fontweight="normal",
            loc="center",
            pad=4,
        )
    return figure


def _figure(width: float, height: float, headline: str, detail: str) -> "Figure":
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
        (headline_lines, 0.0, headline_size, "bold", _INK),
        (detail_lines, headline_height, detail_size, "normal", _QUIET),
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


def _figure_without_data(headline: str, sentence: str) -> "Figure":
    return _figure(6.0, 0.3, headline, sentence)


def _about(subject: str, sentence: str) -> str:
    return f"{subject}. {sentence}" if subject else sentence


def _column(metrics: Sequence[Mapping[str, Any]], split: str, measure: str) -> NDArray[np.float64]:
    """One measure of one split by epoch; NaN where it is absent."""
    values = [(line.get(split) or {}).get(measure) for line in metrics]
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _prepare_panel(panel: "Axes", epochs: NDArray[np.float64], title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    panel.set_title(title)
    panel.set_xlabel("epoch", color=_QUIET)
    panel.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    room = max(0.5, 0.02 * (epochs[-1] - epochs[0])) if len(epochs) < 20 else 0.02 * (epochs[-1] - epochs[0])
    panel.set_xlim(epochs[0] - room, epochs[-1] + room)
    panel.grid(axis="y", color=_FAINT, linewidth=0.8)
    panel.set_axisbelow(True)


def _draw_curves(
    panel: "Axes", epochs: NDArray[np.float64], curves: Mapping[str, NDArray[np.float64]], best: int | None
) -> None:
    """Lines named at their right ends; a dot on the validation curve at the best epoch."""
    colours = {"training": _BLUE, "validation": _VERMILION}
    marker = "o" if len(epochs) == 1 else ""
    ends = []
    for name, values in curves.items():
        panel.plot(epochs, values, color=colours[name], marker=marker, label=name)
        if np.isfinite(values).any():
            last = int(np.flatnonzero(np.isfinite(values))[-1])
            ends.append((float(values[last]), float(epochs[last]), name))
    if best is not None:
        panel.plot(epochs[best], curves["validation"][best], "o", color=_VERMILION, markersize=6, zorder=3)
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

    panel.plot(epochs, rates, color=_QUIET, marker="o" if len(epochs) == 1 else "", label="learning rate")
    positive = rates[rates > 0]
    spread = positive.max() / positive.min() if len(positive) else 1.0
    if spread >= 50:
        panel.set_title("Learning rate, log scale")
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0,) if spread >= 500 else (1.0, 2.0, 5.0), numticks=8))
        panel.yaxis.set_minor_locator(NullLocator())
    else:
        panel.set_ylim(0, 1.1 * max(float(rates.max()), 1e-12))
    panel.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}".replace("e-0", "e-"))


def _confusion_in_words(counts: NDArray[np.int64], class_names: Sequence[str]) -> str:
    total = int(counts.sum())
    if total == 0:
        return "No sample."
    words = f"Accuracy {_percent(counts.trace() / total)} of {_counted(total, 'sample')}."
    mistakes = counts - np.diag(counts.diagonal())
    if mistakes.any():
        true, guess = divmod(int(mistakes.argmax()), len(class_names))
        words += (
            f" Commonest mistake: {class_names[true]} → {class_names[guess]} "
            f"({_counted(int(counts[true, guess]), 'time')})."
        )
    return words


def _write_cells(axes: "Axes", counts: NDArray[np.int64], share: NDArray[np.float64], cell: float) -> None:
    """The per cent of the row, large, over the count, small, in cells of so many points; white on dark ones."""
    import matplotlib

    colours = matplotlib.colormaps["Blues"]
    size = min(11.0, 0.26 * cell)
    for (row, column), part in np.ndenumerate(share):
        if math.isnan(part):
            axes.text(column, row, "–", ha="center", va="center", color=_QUIET)
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
    return _INK if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _shortened(name: str, longest: int = 24) -> str:
    """A class name that fits; an ellipsis says that it was cut."""
    return name if len(name) <= longest else name[: longest - 1] + "…"
