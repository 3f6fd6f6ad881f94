"""Whether confidence matches accuracy, before and after a temperature."""

from typing import TYPE_CHECKING

import numpy as np

from fer_ddp.figures.style import headline_of, in_our_style, new_figure
from fer_ddp.metrics.calibration import Reliability
from shards.palette import BLUE, FAINT, QUIET, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@in_our_style
def plot_reliability(
    before: Reliability, after: Reliability, *, temperature: str, fitted_on: str, subject: str = "", split: str = ""
) -> "Figure":
    """Two reliability diagrams (Guo et al. 2017, figure 4): accuracy by bin of confidence, as predicted and tempered.

    temperature: as text, such as "1.32". fitted_on: a sentence. subject, split: for the headline.
    """
    errors = [100 * each.expected_calibration_error for each in (before, after)]
    headline = f"{split} calibration error {errors[0]:.1f} points, {errors[1]:.1f} tempered".lstrip()
    detail = (
        f"Accuracy by confidence; on the dashed line they are equal, below it the model is too sure. Pale bars hold "
        f"few images. Temperature {temperature}. {fitted_on}"
    )
    figure = new_figure(8.4, 4.4, headline_of(subject, headline), detail)
    panels = figure.subplots(1, 2, sharey=True, gridspec_kw={"wspace": 0.08})
    titles = ("As predicted", "With the temperature")
    for panel, title, each, error in zip(panels, titles, (before, after), errors, strict=True):
        _draw(panel, each)
        panel.set_title(f"{title}: {error:.1f} points")
        panel.set_xlabel("confidence, %", color=QUIET)
    panels[0].set_ylabel("accuracy, %", color=QUIET)
    return figure


def _draw(panel: "Axes", bins: Reliability) -> None:
    width = 100 * (bins.edges[1] - bins.edges[0])
    most = max(int(bins.counts.max()), 1)
    for start, count, accuracy, confidence in zip(
        bins.edges[:-1], bins.counts, bins.accuracy, bins.confidence, strict=True
    ):
        if count == 0:
            continue
        opacity = 0.25 + 0.75 * min(1.0, count / (0.1 * most))
        middle = 100 * start + width / 2
        panel.bar(middle, 100 * accuracy, width=0.9 * width, color=BLUE, alpha=opacity, zorder=2)
        panel.plot([middle, middle], [100 * accuracy, 100 * confidence], color=VERMILION, linewidth=1.6, zorder=3)
    panel.plot([0, 100], [0, 100], color=QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=4)
    panel.set_xlim(0, 100)
    panel.set_ylim(0, 100)
    panel.set_xticks(np.arange(0, 101, 20))
    panel.set_yticks(np.arange(0, 101, 20))
    panel.set_aspect("equal")
    panel.grid(axis="y", color=FAINT, linewidth=0.8)
    panel.set_axisbelow(True)
