"""The grid of images, the reliability diagrams and the map of features: texts, colours, nothing over another."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from reading_figures import overlaps, words

from fer_ddp.figures.embedding import plot_embedding
from fer_ddp.figures.image_grid import Cell, Row, plot_image_grid
from fer_ddp.figures.reliability import plot_reliability
from fer_ddp.figures.style import save_figure
from fer_ddp.metrics.calibration import reliability

NAMES = ["$\\frac$ and $x_2$", "a class with a very long name indeed", *"cdefghijk"]
LABELS = np.arange(66) % 11
RANDOM = np.random.default_rng(0)


def grid(classes: int) -> Figure:
    image = np.zeros((1, 4, 3), np.uint8)
    cells = [Cell(image=image, caption=f"{NAMES[1]} 30 %", heat=np.ones((4, 3))), None, Cell(image=image)]
    return plot_image_grid(
        [Row(label=name, cells=cells) for name in NAMES[:classes]], "a headline", "Detail.", subject="$\\x$"
    )


def embedding(classes: int) -> Figure:
    points = RANDOM.normal(size=(66, 2))
    named = {"neighbours_alike": 0.5, "neighbours": 10, "dimensions": 64}
    return plot_embedding(points, LABELS % classes, NAMES[:classes], **named, split="val")  # type: ignore[arg-type]


def calibration(classes: int) -> Figure:
    each = reliability(LABELS % classes, RANDOM.dirichlet(np.ones(classes), 66))
    return plot_reliability(each, each, temperature="1.32", fitted_on="Fitted on val.", split="test")


@pytest.mark.parametrize("classes", [2, 11])
@pytest.mark.parametrize("draw", [grid, embedding, calibration])
def test_few_and_many_classes_with_odd_names_overlap_nowhere(
    draw: Callable[[int], Figure], classes: int, tmp_path: Path
) -> None:
    figure = draw(classes)
    save_figure(figure, tmp_path / "figure.png")
    texts = [figure.texts[1], *(text for axes in figure.axes for text in axes.texts)]
    legends = [axes.get_legend() for axes in figure.axes]
    texts += [text for legend in legends if legend is not None for text in legend.get_texts()]
    assert overlaps(texts, figure) == []


def test_heat_colours_an_image_where_it_is_high_and_leaves_it_where_it_is_0() -> None:
    heat = np.array([[0.0, 1.0]])
    figure = plot_image_grid(
        [Row(label="a", cells=[Cell(image=np.full((1, 1, 2), 51, np.uint8), heat=heat)])], "h", "d"
    )
    cold, hot = figure.axes[0].images[0].get_array()[0]  # type: ignore[index]
    np.testing.assert_allclose(cold, 0.2)
    assert hot[0] > hot[2] + 0.15


def test_the_headlines_give_the_figures() -> None:
    sure = np.array([[1.0, 0.0]] * 4)
    before, after = reliability(np.array([0, 0, 0, 1]), sure), reliability(np.array([0, 0, 0, 0]), sure)
    figure = plot_reliability(before, after, temperature="2.00", fitted_on="On val.", subject="a", split="test")
    assert words(figure)[0] == "a: test calibration error 25.0 points, 0.0 tempered"
    assert "Temperature 2.00. On val." in words(figure)[1]
    assert words(plot_image_grid([], "a headline", "d"))[1] == "There is no image to show."
