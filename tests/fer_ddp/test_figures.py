"""What the figures say and show, read from the figures themselves."""

import re
import struct
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from fer_ddp.errors import RunError
from fer_ddp.figures import (
    plot_confusion_matrix,
    plot_learning_curves,
    plot_per_class,
    plot_worst_errors,
    save_figure,
)

NAMES = ["angry", "happy", "sad"]
CONFUSION = [[8, 0, 2], [1, 19, 0], [3, 1, 6]]


@pytest.fixture(autouse=True)
def warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def words(figure: Figure) -> tuple[str, str]:
    """The headline and the quieter line under it."""
    headline, detail = (text.get_text().replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ") for text in figure.texts)
    return headline, detail


def line(epoch: int, val: float | None, **changes: Any) -> dict[str, Any]:
    """A line of metrics.jsonl, with the validation accuracy `val`."""
    metrics: dict[str, Any] = {
        "epoch": epoch,
        "step": 10 * epoch,
        "lr": 0.001,
        "train": {"loss": 2.0 / epoch, "accuracy": 0.1 * epoch},
    }
    if val is not None:
        metrics["val"] = {"loss": 1.5, "accuracy": val, "macro_f1": 0.5, "balanced_accuracy": 0.5}
    return metrics | changes


def curve(figure: Figure, panel: int, name: str) -> list[list[float]]:
    (found,) = [drawn for drawn in figure.axes[panel].lines if drawn.get_label() == name]
    return [np.asarray(found.get_xdata()).tolist(), np.asarray(found.get_ydata()).tolist()]


def measures(**supports: int) -> dict[str, dict[str, float]]:
    return {
        name: {"precision": 0.5, "recall": 0.25, "f1": 0.1 * place, "support": support}
        for place, (name, support) in enumerate(supports.items(), start=1)
    }


def titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="center") for axes in figure.axes if axes.images]


def overlaps(texts: list[Text], figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that are drawn over one another."""
    figure.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    return [
        (first, second)
        for place, (first, box) in enumerate(boxes)
        for second, other in boxes[place + 1 :]
        if box.overlaps(other)
    ]


def test_learning_curves_name_the_best_epoch() -> None:
    figure = plot_learning_curves([line(1, 0.4), line(2, 0.62), line(3, 0.55)], subject="model4, seed 0")
    assert words(figure) == (
        "Best validation accuracy 62.0 %, in epoch 2 of 3",
        "model4, seed 0. Accuracy after the last epoch: training 30.0 %, validation 55.0 %.",
    )


def test_of_equally_good_epochs_the_first_is_the_best() -> None:
    assert words(plot_learning_curves([line(1, 0.4), line(2, 0.4)]))[0] == (
        "Best validation accuracy 40.0 %, in epoch 1 of 2"
    )


def test_learning_curves_draw_the_numbers_of_every_epoch() -> None:
    figure = plot_learning_curves([line(1, 0.4), line(2, 0.62, lr=0.0005)])
    assert [axes.get_title() for axes in figure.axes] == ["", "", ""]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Loss", "Accuracy, %", "Learning rate"]
    assert {
        "training loss": curve(figure, 0, "training"),
        "validation loss": curve(figure, 0, "validation"),
        "training accuracy": curve(figure, 1, "training"),
        "validation accuracy": curve(figure, 1, "validation"),
        "learning rate": curve(figure, 2, "learning rate"),
    } == {
        "training loss": [[1, 2], [2.0, 1.0]],
        "validation loss": [[1, 2], [1.5, 1.5]],
        "training accuracy": [[1, 2], [10.0, 20.0]],
        "validation accuracy": [[1, 2], [40.0, 62.0]],
        "learning rate": [[1, 2], [0.001, 0.0005]],
    }


def test_learning_curves_are_named_at_their_ends_without_overlap() -> None:
    lines = [line(1, 0.4), line(2, 0.2)]  # both accuracies end at 20 %
    figure = plot_learning_curves(lines)
    named = [text for text in figure.axes[1].texts if text.get_text() in ("training", "validation")]
    assert sorted(text.get_text() for text in named) == ["training", "validation"]
    assert overlaps(named, figure) == []


def test_without_a_validation_split_the_figure_says_so() -> None:
    figure = plot_learning_curves([line(1, None), line(2, None)])
    assert words(figure) == (
        "No validation accuracy in 2 epochs, so none is marked as the best",
        "Accuracy after the last epoch: training 20.0 %.",
    )
    assert [drawn.get_label() for drawn in figure.axes[1].lines] == ["training"]


def test_an_epoch_without_a_number_is_a_gap() -> None:
    lines = [line(1, 0.4), line(2, 0.5, train={"loss": None, "accuracy": None}), line(3, 0.45)]
    assert np.isnan(curve(plot_learning_curves(lines), 0, "training")[1]).tolist() == [False, True, False]


def test_no_epoch_yet_is_said(tmp_path: Path) -> None:
    figure = plot_learning_curves([])
    save_figure(figure, tmp_path / "curves.png")
    assert words(figure) == ("Learning curves", "No epoch is finished yet.")


@pytest.mark.parametrize(("lowest", "scale"), [(0.0001, "linear"), (0.00002, "log"), (0.0, "linear")])
def test_a_learning_rate_that_spans_a_factor_of_fifty_is_drawn_on_a_log_scale(lowest: float, scale: str) -> None:
    figure = plot_learning_curves([line(1, 0.4), line(2, 0.5, lr=lowest)])
    assert figure.axes[2].get_yscale() == scale


def test_learning_rates_are_written_as_plain_numbers() -> None:
    figure = plot_learning_curves([line(1, 0.4), line(2, 0.5, lr=1e-6)])
    figure.draw_without_rendering()
    labels = {label.get_text() for label in figure.axes[2].get_yticklabels()}
    assert {"0.001", "0.0001", "1e-5", "1e-6"} <= labels


def test_the_confusion_matrix_states_accuracy_and_commonest_mistake() -> None:
    assert words(plot_confusion_matrix(CONFUSION, NAMES, "Test split, model4")) == (
        "Test split, model4",
        "Accuracy 82.5 % of 40 samples. Commonest mistake: sad → angry (3 times).",
    )


def test_a_perfect_confusion_matrix_names_no_mistake() -> None:
    assert words(plot_confusion_matrix([[1, 0], [0, 2]], ["a", "b"], "Test"))[1] == "Accuracy 100.0 % of 3 samples."


def test_each_cell_shows_its_share_of_the_true_class_and_its_count() -> None:
    axes = plot_confusion_matrix(CONFUSION, NAMES, "Test").axes[0]
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
    axes = plot_confusion_matrix(CONFUSION, NAMES, "Test").axes[0]
    assert (axes.get_ylabel(), [label.get_text() for label in axes.get_yticklabels()]) == (
        "true",
        ["angry\nn = 10", "happy\nn = 20", "sad\nn = 10"],
    )
    assert (axes.get_xlabel(), [label.get_text() for label in axes.get_xticklabels()]) == ("predicted", NAMES)
    assert np.asarray(axes.images[0].get_array()).round(2).tolist() == [[0.8, 0, 0.2], [0.05, 0.95, 0], [0.3, 0.1, 0.6]]


def test_numbers_are_dark_on_pale_cells_and_white_on_dark_ones() -> None:
    texts = plot_confusion_matrix([[10, 0], [0, 10]], ["a", "b"], "Test").axes[0].texts
    assert [to_hex(text.get_color()) for text in texts[::2]] == ["#ffffff", "#1f2328", "#1f2328", "#ffffff"]


def test_the_row_of_a_class_without_samples_shows_dashes() -> None:
    axes = plot_confusion_matrix([[0, 0], [1, 3]], ["a", "b"], "Test").axes[0]
    assert [text.get_text() for text in axes.texts] == ["–", "–", "25 %", "1", "75 %", "3"]


def test_beyond_twenty_classes_the_numbers_drop_out_and_a_colour_bar_comes() -> None:
    twenty, more = (
        plot_confusion_matrix(np.eye(n, dtype=int).tolist(), [f"c{i}" for i in range(n)], "Test") for n in (20, 21)
    )
    assert [(len(figure.axes), len(figure.axes[0].texts)) for figure in (twenty, more)] == [(1, 800), (2, 0)]


@pytest.mark.parametrize("classes", [2, 7, 20, 21, 400])
def test_tick_labels_of_a_confusion_matrix_do_not_collide(classes: int) -> None:
    names = [f"{'long ' * (place % 3)}class {place}" for place in range(classes)]
    axes = plot_confusion_matrix(np.eye(classes, dtype=int).tolist(), names, "Test").axes[0]
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
        plot_confusion_matrix(CONFUSION, ["a", "b"], "Test")


def test_measures_per_class_name_the_best_and_the_worst() -> None:
    assert words(plot_per_class(measures(angry=4, happy=1200, sad=7), subject="Test split")) == (
        "Macro-F1 20.0 %: best sad (30.0 %), worst angry (10.0 %)",
        "Test split. Precision, recall and F1 of each class, in per cent.",
    )


def test_measures_per_class_are_bars_in_per_cent_with_their_support() -> None:
    axes = plot_per_class(measures(angry=4, happy=1200)).axes[0]
    drawn = {
        str(bars.get_label()): [round(bar.get_width(), 9) for bar in bars.patches]  # type: ignore[attr-defined]
        for bars in axes.containers
    }
    assert drawn == {"precision": [50, 50], "recall": [25, 25], "F1": [10, 20]}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["angry\nn = 4", "happy\nn = 1,200"]
    assert [text.get_text() for text in axes.texts] == ["50", "50", "25", "25", "10", "20"]


def test_the_first_class_stands_at_the_top() -> None:
    low, high = plot_per_class(measures(angry=4, happy=12)).axes[0].get_ylim()
    assert low > high


def test_a_class_without_samples_is_said_and_left_out_of_the_headline() -> None:
    figure = plot_per_class(measures(angry=0, happy=3, sad=2))
    assert words(figure)[0] == "Macro-F1 25.0 %: best sad (30.0 %), worst happy (20.0 %)"
    assert [text.get_text() for text in figure.axes[0].texts].count("no sample") == 1


@pytest.mark.parametrize("classes", [1, 7, 21])
def test_tick_labels_of_the_bars_do_not_collide(classes: int) -> None:
    figure = plot_per_class(measures(**{f"class {place}": place + 1 for place in range(classes)}))
    assert overlaps(figure.axes[0].get_yticklabels(), figure) == []


def test_beyond_twenty_classes_the_bars_have_no_numbers() -> None:
    figure = plot_per_class(measures(**{f"class {place}": 1 for place in range(21)}))
    assert len(figure.axes[0].texts) == 0


def test_the_worst_errors_come_first_and_right_answers_are_left_out() -> None:
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1).repeat(2, axis=2).repeat(2, axis=3)
    figure = plot_worst_errors(
        images, np.array([0, 1, 2, 0]), np.array([1, 1, 0, 2]), np.array([0.6, 0.99, 0.9, 0.5]), NAMES
    )
    assert words(figure)[0] == "3 mistakes in 4 samples, the most confident first"
    assert titles(figure) == ["sad → angry  90.0 %", "angry → happy  60.0 %", "angry → sad  50.0 %"]
    assert [int(np.asarray(axes.images[0].get_array())[0, 0]) for axes in figure.axes if axes.images] == [2, 0, 3]


def test_equally_confident_mistakes_stand_in_the_order_of_the_split() -> None:
    images = np.arange(30, dtype=np.uint8).reshape(30, 1, 1, 1)
    figure = plot_worst_errors(images, np.zeros(30, int), np.ones(30, int), np.full(30, 0.5), NAMES)
    assert words(figure)[0] == "The 24 most confident of 30 mistakes in 30 samples"
    assert [int(np.asarray(axes.images[0].get_array())[0, 0]) for axes in figure.axes if axes.images] == list(range(24))


def test_colour_images_are_drawn_in_colour() -> None:
    image = np.array([10, 20, 30], dtype=np.uint8).reshape(1, 3, 1, 1)
    figure = plot_worst_errors(image, np.array([0]), np.array([1]), np.array([0.7]), NAMES)
    assert np.asarray(figure.axes[0].images[0].get_array()).tolist() == [[[10, 20, 30]]]


def test_grey_images_keep_their_brightness() -> None:
    image = np.array([100, 120], dtype=np.uint8).reshape(1, 1, 1, 2)
    figure = plot_worst_errors(image, np.array([0]), np.array([1]), np.array([0.7]), NAMES)
    assert figure.axes[0].images[0].get_clim() == (0, 255)


def test_long_class_names_are_cut_visibly_and_do_not_collide() -> None:
    names = ["a class name longer than any cell"] * 2
    images = np.zeros((6, 1, 4, 4), dtype=np.uint8)
    figure = plot_worst_errors(images, np.zeros(6, int), np.ones(6, int), np.full(6, 0.991), names)
    assert titles(figure)[0] == "a class name lo…\n→ a class name lo…  99.1 %"
    assert overlaps([axes.title for axes in figure.axes], figure) == []


def test_no_mistake_is_said(tmp_path: Path) -> None:
    figure = plot_worst_errors(
        np.zeros((5, 1, 2, 2), np.uint8), np.zeros(5, int), np.zeros(5, int), np.ones(5), NAMES, subject="Test split"
    )
    save_figure(figure, tmp_path / "errors.png")
    assert words(figure) == ("The worst errors", "Test split. There is none: all 5 samples are predicted right.")


def test_images_that_are_no_bytes_are_refused() -> None:
    sentence = "images are float64 (1, 1, 2, 2); uint8 (k, 1 or 3, height, width) is right"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        plot_worst_errors(np.zeros((1, 1, 2, 2)), np.array([0]), np.array([1]), np.array([1.0]), NAMES)  # type: ignore[arg-type]


def test_lists_of_unequal_length_are_refused() -> None:
    with pytest.raises(
        ValueError, match="^1 images, 1 labels, 2 predictions and 1 probabilities must be equally many$"
    ):
        plot_worst_errors(np.zeros((1, 1, 2, 2), np.uint8), np.array([0]), np.array([1, 1]), np.array([1.0]), NAMES)


def test_a_long_title_is_broken_and_stays_inside_the_figure() -> None:
    figure = plot_confusion_matrix(CONFUSION, NAMES, "Test split of the job " + "with a very long name " * 6)
    figure.draw_without_rendering()
    headline, detail = (text.get_window_extent() for text in figure.texts)
    assert "\n" in figure.texts[0].get_text()
    assert headline.x1 < figure.bbox.x1
    assert headline.y0 > detail.y1 - 0.5


def test_a_dollar_in_a_class_name_is_no_formula(tmp_path: Path) -> None:
    figure = plot_confusion_matrix([[1, 0], [0, 1]], ["$\\frac$", "b"], "$\\x$")
    save_figure(figure, tmp_path / "confusion.png")
    assert figure.axes[0].get_xticklabels()[0].get_parse_math() is False


@pytest.mark.parametrize("name", ["curves", "confusion", "per_class", "errors"])
def test_two_saves_of_a_figure_and_a_second_drawing_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    def draw() -> Figure:
        if name == "curves":
            return plot_learning_curves([line(1, 0.4), line(2, 0.62)])
        if name == "confusion":
            return plot_confusion_matrix(CONFUSION, NAMES, "Test")
        if name == "per_class":
            return plot_per_class(measures(angry=4, happy=12))
        images = np.zeros((3, 1, 4, 4), np.uint8)
        return plot_worst_errors(images, np.zeros(3, int), np.ones(3, int), np.full(3, 0.9), NAMES)

    figure = draw()
    contents = []
    for drawn in (figure, figure, draw()):
        save_figure(drawn, tmp_path / "figure.png")
        contents.append((tmp_path / "figure.png").read_bytes())
    assert contents[0] == contents[1] == contents[2]


def test_the_users_matplotlib_settings_change_nothing(tmp_path: Path) -> None:
    save_figure(plot_per_class(measures(angry=4)), tmp_path / "plain.png")
    with matplotlib.rc_context({"font.size": 30, "savefig.transparent": True, "axes.facecolor": "red"}):
        save_figure(plot_per_class(measures(angry=4)), tmp_path / "changed.png")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "changed.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_a_saved_png_holds_pixels_and_resolution_and_no_software_or_date(tmp_path: Path) -> None:
    save_figure(plot_per_class(measures(angry=4)), tmp_path / "figures" / "per_class.png")
    content = (tmp_path / "figures" / "per_class.png").read_bytes()
    chunks, place = [], 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        chunks.append(content[place + 4 : place + 8].decode())
        place += 12 + length
    assert (content[:8], list(dict.fromkeys(chunks))) == (b"\x89PNG\r\n\x1a\n", ["IHDR", "pHYs", "IDAT", "IEND"])
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["per_class.png"]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "figures").write_text("a file, not a folder")
    path = tmp_path / "figures" / "curves.png"
    with pytest.raises(RunError, match=f"^{re.escape(str(path))}: cannot be written: File exists$"):
        save_figure(plot_learning_curves([]), path)


def test_matplotlib_comes_with_the_first_drawing_and_pyplot_never() -> None:
    program = (
        "import sys, fer_ddp.figures as figures\n"
        "before = 'matplotlib' in sys.modules\n"
        "figures.plot_learning_curves([])\n"
        "print(before, 'matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "False True False False\n"
