"""What the confusion matrix says and shows."""

import re

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from reading_figures import overlaps, words

from fer_ddp.figures.confusion_matrix import plot_confusion_matrix

NAMES = ["angry", "happy", "sad"]
CONFUSION = [[8, 0, 2], [1, 19, 0], [3, 1, 6]]


def test_the_confusion_matrix_states_accuracy_and_the_most_common_mistake() -> None:
    assert words(plot_confusion_matrix(CONFUSION, NAMES, subject="model4, seed 0", split="test")) == (
        "model4, seed 0: test accuracy 82.5 %",
        "40 samples. Most common mistake: sad → angry (3 times).",
    )


def test_a_perfect_confusion_matrix_names_no_mistake() -> None:
    assert words(plot_confusion_matrix([[1, 0], [0, 2]], ["a", "b"])) == ("Accuracy 100.0 %", "3 samples.")


def test_each_cell_shows_its_share_of_the_true_class_and_its_count() -> None:
    axes = plot_confusion_matrix(CONFUSION, NAMES).axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert list(zip(texts[::2], texts[1::2], strict=True)) == [
        ("80 %", "8"),
        ("0 %", "0"),
        ("20 %", "2"),
        ("5 %", "1"),
        ("95 %", "19"),
        ("0 %", "0"),
        ("30 %", "3"),
        ("10 %", "1"),
        ("60 %", "6"),
    ]


def test_rows_are_true_classes_and_columns_predicted_ones() -> None:
    axes = plot_confusion_matrix(CONFUSION, NAMES).axes[0]
    assert (axes.get_ylabel(), [label.get_text() for label in axes.get_yticklabels()]) == (
        "true",
        ["angry\nn = 10", "happy\nn = 20", "sad\nn = 10"],
    )
    assert (axes.get_xlabel(), [label.get_text() for label in axes.get_xticklabels()]) == ("predicted", NAMES)
    assert np.asarray(axes.images[0].get_array()).round(2).tolist() == [[0.8, 0, 0.2], [0.05, 0.95, 0], [0.3, 0.1, 0.6]]


def test_numbers_are_dark_on_pale_cells_and_white_on_dark_ones() -> None:
    texts = plot_confusion_matrix([[10, 0], [0, 10]], ["a", "b"]).axes[0].texts
    assert [to_hex(text.get_color()) for text in texts[::2]] == ["#ffffff", "#1f2328", "#1f2328", "#ffffff"]


def test_the_row_of_a_class_without_samples_shows_dashes() -> None:
    axes = plot_confusion_matrix([[0, 0], [1, 3]], ["a", "b"]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["–", "–", "25 %", "1", "75 %", "3"]


def test_beyond_twenty_classes_the_numbers_drop_out_and_a_colour_bar_comes() -> None:
    twenty, more = (plot_confusion_matrix(np.eye(n, dtype=int).tolist(), [f"c{i}" for i in range(n)]) for n in (20, 21))
    assert [(len(figure.axes), len(figure.axes[0].texts)) for figure in (twenty, more)] == [(1, 800), (2, 0)]


@pytest.mark.parametrize("classes", [2, 7, 20, 21, 400])
def test_tick_labels_of_a_confusion_matrix_do_not_collide(classes: int) -> None:
    names = [f"{'long ' * (place % 3)}class {place}" for place in range(classes)]
    axes = plot_confusion_matrix(np.eye(classes, dtype=int).tolist(), names).axes[0]
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    assert overlaps(axes.get_yticklabels(), figure) == []
    # A slanted label's bounding box overlaps its neighbour's though the letters don't: then the pitch must hold a line.
    labels = axes.get_xticklabels()
    if labels[0].get_rotation() == 35:
        figure.draw_without_rendering()
        pitch = axes.transData.transform((1, 0))[0] - axes.transData.transform((0, 0))[0]
        assert pitch * np.sin(np.radians(35)) > float(labels[0].get_fontsize()) * figure.dpi / 72
    else:
        assert overlaps(labels, figure) == []


def test_a_confusion_matrix_of_another_size_than_the_names_is_refused() -> None:
    sentence = "the confusion matrix has the shape (3, 3); 2 classes need as many rows"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        plot_confusion_matrix(CONFUSION, ["a", "b"])
