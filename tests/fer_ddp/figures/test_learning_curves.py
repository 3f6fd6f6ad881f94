"""What the learning curves say and show."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from reading_figures import overlaps, words

from fer_ddp.figures.learning_curves import plot_learning_curves
from fer_ddp.figures.style import save_figure

HOW_TRAINING_IS_MEASURED = "Training is measured with augmentation and dropout."


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


def test_learning_curves_name_the_best_epoch() -> None:
    figure = plot_learning_curves([line(1, 0.4), line(2, 0.62), line(3, 0.55)], subject="model4, seed 0")
    assert words(figure) == (
        "model4, seed 0: best val accuracy 62.0 %, epoch 2 of 3",
        "Accuracy after the last epoch: training 30.0 %, validation 55.0 %. " + HOW_TRAINING_IS_MEASURED,
    )


def test_of_equally_good_epochs_the_first_is_the_best() -> None:
    assert words(plot_learning_curves([line(1, 0.4), line(2, 0.4)]))[0] == ("Best val accuracy 40.0 %, epoch 1 of 2")


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
        "No val accuracy in 2 epochs, so none is marked as the best",
        "Accuracy after the last epoch: training 20.0 %. " + HOW_TRAINING_IS_MEASURED,
    )
    assert [drawn.get_label() for drawn in figure.axes[1].lines] == ["training"]


def test_a_line_connects_the_epochs_that_were_evaluated() -> None:
    lines = [line(1, 0.4), line(2, 0.5), line(3, 0.45)]
    del lines[1]["val"]
    assert curve(plot_learning_curves(lines), 0, "validation")[0] == [1, 3]


def test_an_epoch_without_a_number_is_a_gap() -> None:
    lines = [line(1, 0.4), line(2, 0.5, train={"loss": None, "accuracy": None}), line(3, 0.45)]
    assert np.isnan(curve(plot_learning_curves(lines), 0, "training")[1]).tolist() == [False, True, False]


def test_no_epoch_yet_is_said(tmp_path: Path) -> None:
    figure = plot_learning_curves([])
    save_figure(figure, tmp_path / "curves.png")
    assert words(figure) == ("Learning curves", "No epoch is finished yet.")


@pytest.mark.parametrize(("lowest", "scale"), [(0.00003, "log"), (0.000033, "linear"), (0.0, "linear")])
def test_a_learning_rate_that_spans_more_than_one_and_a_half_decades_is_drawn_on_a_log_scale(
    lowest: float, scale: str
) -> None:
    figure = plot_learning_curves([line(1, 0.4), line(2, 0.5, lr=lowest)])
    assert figure.axes[2].get_yscale() == scale


def test_learning_rates_are_written_as_plain_numbers() -> None:
    figure = plot_learning_curves([line(1, 0.4), line(2, 0.5, lr=1e-6)])
    figure.draw_without_rendering()
    labels = {label.get_text() for label in figure.axes[2].get_yticklabels()}
    assert {"0.001", "0.0001", "1e-5", "1e-6"} <= labels
