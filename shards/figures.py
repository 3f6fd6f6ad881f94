"""Figures of a data set: how its classes are distributed, and what its images look like.

Plain matplotlib ``Figure`` objects without pyplot: nothing global, no display. :func:`save_figure` writes one.
"""

import io
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from shards.files import atomic_write_bytes
from shards.manifest import Manifest
from shards.palette import INK, OF_SPLIT, QUIET
from shards.text import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARGIN = 0.14
"""Inches around a figure."""


def import_matplotlib() -> ModuleType:
    """matplotlib, imported with its own settings.

    A matplotlibrc in the working folder, which may be a stranger's data set, could end the process, make it wait or
    have it run LaTeX; so could ``MPLBACKEND``.
    """
    if "matplotlib" in sys.modules:
        return sys.modules["matplotlib"]
    environment, working_folder = dict(os.environ), Path.cwd()
    os.environ |= {"MATPLOTLIBRC": os.devnull, "MPLBACKEND": "agg"}
    if os.path.lexists("matplotlibrc"):
        os.chdir("/")  # matplotlib looks into the working folder first, whatever the environment has
    try:
        import matplotlib
    finally:
        os.chdir(working_folder)
        os.environ.clear()
        os.environ |= environment
    return matplotlib


def plot_distribution(manifest: Manifest, *, title: str = "") -> "Figure":
    """How many images of each class each split has: one panel per split, bars in per cent, counts beside them.

    Classes are in label order and the panels share one scale, so that splits can be compared at a glance. ``title``
    is the headline.
    """
    import_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names, splits = manifest.class_names, manifest.splits
    height = 1.5 + 0.42 * len(names)
    figure = Figure(figsize=(2.0 + 3.4 * len(splits), height), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(splits), sharey=True, sharex=True, squeeze=False)[0]
    shares = {name: 100 * np.array(split.class_counts) / max(1, split.samples) for name, split in splits.items()}
    widest = max(float(share.max()) for share in shares.values())
    for panel, (name, split) in zip(panels, splits.items(), strict=True):
        bars = panel.barh(range(len(names)), shares[name], color=OF_SPLIT[name], height=0.72)
        counts = [f"{count:,}  ({share:.1f} %)" for count, share in zip(split.class_counts, shares[name], strict=True)]
        panel.bar_label(bars, counts, padding=4, fontsize=9, color=INK)
        panel.set_title(f"{name}: {split.samples:,} images", fontsize=11, loc="left", color=INK)
        panel.set_xlim(0, widest * 1.55)
        panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        panel.set_xlabel("per cent of the split", fontsize=9, color=INK)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(axis="y", length=0, labelsize=10, labelcolor=INK)
        panel.tick_params(axis="x", labelsize=9, labelcolor=QUIET, color=QUIET)
    panels[0].set_yticks(
        range(len(names)), [shortened(name) for name in names], parse_math=False
    )  # a class may be called "$a$"
    panels[0].invert_yaxis()
    _finish(figure, title, w_pad=0.06, h_pad=0.06)
    return figure


def plot_sample_images(
    images: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    *,
    columns: int = 10,
    seed: int = 0,
    title: str = "",
) -> "Figure":
    """Random images of each class: one row per class, with its name and its number of images, ``columns`` images wide.

    ``images`` is uint8, (n, 1 or 3, height, width); ``labels`` is int, (n,), indices in ``class_names``. The same
    ``seed`` draws the same images. A class with fewer than ``columns`` images shows them all; one without, none.
    ``title`` is the headline.
    """
    import_matplotlib()
    from matplotlib.figure import Figure

    random = np.random.default_rng(seed)
    figure = Figure(figsize=(1.5 + 0.95 * columns, 0.35 + 0.95 * len(class_names)), dpi=150, layout="constrained")
    grid = figure.subplots(len(class_names), columns, squeeze=False)
    for label, name in enumerate(class_names):
        members = np.flatnonzero(labels == label)
        shown = random.permutation(members)[:columns]
        for column, panel in enumerate(grid[label]):
            _bare(panel)
            if column < len(shown):
                _show(panel, images[shown[column]])
        grid[label, 0].text(
            -0.12,
            0.5,
            f"{shortened(name)}\n{len(members):,}",
            transform=grid[label, 0].transAxes,
            ha="right",
            va="center",
            fontsize=11,
            color=INK,
            parse_math=False,
        )
    _finish(figure, title, w_pad=0.02, h_pad=0.04)
    return figure


def save_figure(figure: "Figure", path: Path) -> None:
    """Write ``figure`` as PNG, whole or not at all. Raises OSError."""
    content = io.BytesIO()
    with import_matplotlib().rc_context({"text.usetex": False}):  # as whoever draws in this process may ask for
        figure.savefig(content, format="png")
    atomic_write_bytes(path, content.getvalue())


def _finish(figure: "Figure", title: str, *, w_pad: float, h_pad: float) -> None:
    """Put the headline above the panels, and a margin around everything; pads in inches, around each panel."""
    heading = 0.4 if title else 0.0
    width, height = figure.get_figwidth(), figure.get_figheight() + heading
    figure.set_figheight(height)
    rect = (_MARGIN / width, _MARGIN / height, 1 - 2 * _MARGIN / width, 1 - (2 * _MARGIN + heading) / height)
    engine = figure.get_layout_engine()
    engine.set(rect=rect, w_pad=w_pad, h_pad=h_pad, wspace=0, hspace=0)  # type: ignore[union-attr,call-arg]
    if title:
        x, y = _MARGIN / width, 1 - _MARGIN / height
        figure.suptitle(title, x=x, y=y, ha="left", va="top", size=13, weight="bold", color=INK, parse_math=False)


def _bare(panel: "Axes") -> None:
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set_visible(False)


def _show(panel: "Axes", image: np.ndarray) -> None:
    """Draw one image, uint8, (1 or 3, height, width), on the full scale of grey, so that brightness can be compared."""
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    panel.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
