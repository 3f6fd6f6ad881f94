"""Reads the texts of a figure."""

from matplotlib.figure import Figure
from matplotlib.text import Text


def words(figure: Figure) -> tuple[str, str]:
    """The headline and the quieter line under it."""
    headline, detail = (text.get_text().replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ") for text in figure.texts)
    return headline, detail


def overlaps(texts: list[Text], figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that are drawn over one another."""
    figure.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    return [
        (first, second)
        for index, (first, box) in enumerate(boxes)
        for second, other in boxes[index + 1 :]
        if box.overlaps(other)
    ]
