"""A map of what a model computes before its last layer, a dot an image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fer_ddp.figures.style import headline_of, in_our_style, new_figure
from fer_ddp.text import percent, plural, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#1F2328", "#9A8700")
"""Okabe and Ito's, the yellow darkened."""
_MARKERS = "o^sDvP*X"
"""With each the colours begin again, so that 64 classes can be told apart."""


@in_our_style
def plot_embedding(
    points: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    class_names: Sequence[str],
    *,
    neighbours_alike: float,
    neighbours: int,
    dimensions: int,
    subject: str = "",
    split: str = "",
) -> "Figure":
    """A scatter plot of ``points`` (n, 2), coloured by their true class, ``labels`` (n,).

    neighbours_alike: the share of an image's nearest ``neighbours``, by all ``dimensions``, that have its class.
    subject, split: for the headline.
    """
    headline = f"{percent(neighbours_alike)} of the {neighbours} nearest neighbours have the same class"
    detail = (
        f"{plural(len(points), f'{split} image'.lstrip())}; the {dimensions} features before the last layer, by t-SNE "
        "in two dimensions, coloured by true class. Distances between groups mean little."
    )
    figure = new_figure(9.2, 6.2, headline_of(subject, headline), detail)
    axes = figure.subplots()
    size = float(np.clip(15000 / max(len(points), 1), 6, 40))
    for label, name in enumerate(class_names):
        members = points[labels == label]
        axes.scatter(
            members[:, 0],
            members[:, 1],
            s=size,
            color=_COLOURS[label % len(_COLOURS)],
            marker=_MARKERS[label // len(_COLOURS) % len(_MARKERS)],
            alpha=0.75,
            linewidths=0,
            label=f"{shortened(name, 20)} ({len(members):,})",
        )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    legend = axes.legend(
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        ncols=1 + (len(class_names) - 1) // 26,
        frameon=False,
        fontsize=9,
        markerscale=(60 / size) ** 0.5,
        handletextpad=0.3,
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    return figure
