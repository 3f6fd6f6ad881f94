"""What the measures per class say and show."""

import pytest
from reading_figures import overlaps, words

from fer_ddp.figures.per_class import plot_per_class


def measures(**supports: int) -> dict[str, dict[str, float]]:
    return {
        name: {"precision": 0.5, "recall": 0.25, "f1": 0.1 * place, "support": support}
        for place, (name, support) in enumerate(supports.items(), start=1)
    }


def test_measures_per_class_name_the_best_and_the_worst() -> None:
    assert words(plot_per_class(measures(angry=4, happy=1200, sad=7), subject="model4, seed 0", split="test")) == (
        "model4, seed 0: test macro-F1 20.0 %, best sad (30.0 %), worst angry (10.0 %)",
        "Precision, recall and F1 of each class, in per cent.",
    )


@pytest.mark.parametrize(
    ("scores", "headline"),
    [
        ([0.0, 0.0, 0.6, 0.0], "Macro-F1 15.0 %, best c (60.0 %), worst 3 classes at 0 %"),
        ([0.5, 0.1, 0.5, 0.1], "Macro-F1 30.0 %, best 2 classes at 50.0 %, worst 2 classes at 10.0 %"),
        ([0.0, 0.0, 0.0, 0.0], "Macro-F1 0.0 %"),
    ],
)
def test_classes_that_tie_are_counted_and_not_named(scores: list[float], headline: str) -> None:
    four = measures(a=1, b=1, c=1, d=1).items()
    per_class = {name: values | {"f1": f1} for (name, values), f1 in zip(four, scores, strict=True)}
    assert words(plot_per_class(per_class))[0] == headline


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
    assert words(figure)[0] == "Macro-F1 25.0 %, best sad (30.0 %), worst happy (20.0 %)"
    assert [text.get_text() for text in figure.axes[0].texts].count("no sample") == 1


@pytest.mark.parametrize("classes", [1, 7, 21])
def test_tick_labels_of_the_bars_do_not_collide(classes: int) -> None:
    figure = plot_per_class(measures(**{f"class {place}": place + 1 for place in range(classes)}))
    assert overlaps(figure.axes[0].get_yticklabels(), figure) == []


def test_beyond_twenty_classes_the_bars_have_no_numbers() -> None:
    figure = plot_per_class(measures(**{f"class {place}": 1 for place in range(21)}))
    assert len(figure.axes[0].texts) == 0
