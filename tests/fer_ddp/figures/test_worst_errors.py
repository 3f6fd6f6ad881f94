"""What the sheet of the worst errors says and shows."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from reading_figures import overlaps, words

from fer_ddp.figures.style import save_figure
from fer_ddp.figures.worst_errors import plot_worst_errors

NAMES = ["angry", "happy", "sad"]


def mistakes(images: np.ndarray, probability: float = 0.5, names: list[str] = NAMES) -> Figure:
    """The sheet of ``images`` that are all of class 0 and taken for class 1."""
    zeros, keys = np.zeros(len(images), int), [f"row-{place}" for place in range(len(images))]
    return plot_worst_errors(images, zeros, zeros + 1, zeros + probability, names, keys=keys)


def drawn(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for image in figure.axes[0].images]


def titles(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts[::2]]


def keys(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts[1::2]]


def test_the_worst_errors_come_first_and_correct_predictions_are_left_out() -> None:
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1).repeat(2, axis=2).repeat(2, axis=3)
    labels, predicted = np.array([0, 1, 2, 0]), np.array([1, 1, 0, 2])
    probabilities, names = np.array([0.6, 0.99, 0.9, 0.5]), ["a", "b", "c", f"train-happy-{'x' * 30}-7"]
    figure = plot_worst_errors(images, labels, predicted, probabilities, NAMES, keys=names)
    assert words(figure)[0] == "3 mistakes in 4 samples, the most confident first"
    assert titles(figure) == ["sad → angry  90.0 %", "angry → happy  60.0 %", "angry → sad  50.0 %"]
    assert [int(image[0, 0]) for image in drawn(figure)] == [2, 0, 3]
    assert keys(figure) == ["c", "a", f"…{'x' * 27}-7"]


def test_equally_confident_mistakes_stand_in_the_order_of_the_split() -> None:
    images = np.arange(30, dtype=np.uint8).reshape(30, 1, 1, 1)
    figure = mistakes(images)
    assert words(figure)[0] == "The 24 most confident of 30 mistakes in 30 samples"
    assert [int(image[0, 0]) for image in drawn(figure)] == list(range(24))


def test_colour_images_are_drawn_in_colour() -> None:
    image = np.array([10, 20, 30], dtype=np.uint8).reshape(1, 3, 1, 1)
    assert drawn(mistakes(image))[0].tolist() == [[[10, 20, 30]]]


def test_grey_images_keep_their_brightness() -> None:
    image = np.array([100, 120], dtype=np.uint8).reshape(1, 1, 1, 2)
    assert mistakes(image).axes[0].images[0].get_clim() == (0, 255)


def test_long_class_names_are_cut_visibly_and_collide_neither_with_each_other_nor_with_keys() -> None:
    names = ["a class name longer than any cell"] * 2
    figure = mistakes(np.zeros((12, 1, 4, 4), dtype=np.uint8), 0.991, names)
    assert titles(figure)[0] == "a class name lo…\n→ a class name lo…  99.1 %"
    assert overlaps(list(figure.axes[0].texts), figure) == []


def test_an_image_keeps_its_shape_and_meets_neither_the_next_one_nor_any_text(tmp_path: Path) -> None:
    figure = mistakes(np.zeros((12, 1, 48, 24), dtype=np.uint8), 0.991, ["a class name longer than any cell"] * 2)
    save_figure(figure, tmp_path / "errors.png")
    sheet = figure.axes[0]
    for image in sheet.images:
        box = image.get_window_extent()
        assert box.height == pytest.approx(2 * box.width, rel=0.01)
        assert sum(box.overlaps(other.get_window_extent()) for other in (*sheet.images, *sheet.texts)) == 1


def test_no_mistake_is_said(tmp_path: Path) -> None:
    images, right = np.zeros((5, 1, 2, 2), np.uint8), np.zeros(5, int)
    figure = plot_worst_errors(images, right, right, np.ones(5), NAMES, keys=list("abcde"), split="test")
    save_figure(figure, tmp_path / "errors.png")
    assert words(figure) == ("Worst test errors", "There is none: all 5 samples are predicted correctly.")


ONE = np.array([1])


def test_images_that_are_no_bytes_are_refused() -> None:
    sentence = "images are float64 (1, 1, 2, 2); uint8 (k, 1 or 3, height, width) is right"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        plot_worst_errors(np.zeros((1, 1, 2, 2)), ONE, ONE, ONE / 2, NAMES, keys=["a"])  # type: ignore[arg-type]


def test_lists_of_unequal_length_are_refused() -> None:
    sentence = "1 images, 1 labels, 1 predictions, 1 probabilities and 2 keys must be equally many"
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        plot_worst_errors(np.zeros((1, 1, 2, 2), np.uint8), ONE, ONE, ONE / 2, NAMES, keys=["a", "b"])
