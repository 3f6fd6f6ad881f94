"""The headline: which recipe, by how much, whether significant; and that test does not select it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import hits, labels_of, predicted, write_run
from numpy.typing import NDArray

from fer_ddp.report.collect import collect_runs
from fer_ddp.report.views import View, make_views
from fer_ddp.statistics.comparison import compare_recipes, holm

LABELS = labels_of()
Correct = NDArray[np.bool_]


def view_of(folder: Path, recipes: Mapping[str, list[dict[str, Correct]]]) -> View:
    """The report's figures of ``recipes``: for each a run a seed, as {split: whether it is correct}."""
    for name, runs in recipes.items():
        for seed, splits in enumerate(runs):
            made = {split: (LABELS, predicted(LABELS, correct)) for split, correct in splits.items()}
            write_run(folder / f"{name}-{seed}", made, name=name, seed=seed)
    (view,) = make_views(collect_runs([folder]), None, None)
    return view


def val(*correct: Correct) -> list[dict[str, Correct]]:
    return [{"val": each} for each in correct]


def sentence(view: View) -> str:
    assert view.verdict is not None
    return view.verdict.summary


def details(view: View) -> tuple[str, ...]:
    assert view.verdict is not None
    return view.verdict.details


ONE_SEED = "Each recipe has one seed, so this holds for these runs only; other seeds may reverse it."
NO_TEST = "There is no test split: val both selects and reports, which is slightly optimistic."


def test_a_difference_that_is_significant(tmp_path: Path) -> None:
    better, plain = (val(*(hits(count, shift=seed) for seed in range(3))) for count in (160, 100))
    view = view_of(tmp_path, {"plain": plain, "better": better})
    assert sentence(view) == (
        "better is best: 80.0 % val accuracy, 30.0 points above plain. Statistically significant (p < 0.05, Holm)."
    )
    assert details(view) == (
        "Difference to plain: +30.0 points, 95 % interval +23.7 to +36.3, p < 0.001.",
        NO_TEST,
    )
    assert view.verdict is not None
    assert (view.verdict.chosen, view.verdict.significant) == ("better", True)


def test_a_difference_that_chance_may_have_made(tmp_path: Path) -> None:
    view = view_of(tmp_path, {"plain": val(hits(120)), "other": val(hits(122, shift=40))})
    assert sentence(view) == (
        "other comes first: 61.0 % val accuracy, 1.0 points above plain. Not statistically significant."
    )
    assert details(view) == (
        "Difference to plain: +1.0 points, 95 % interval −7.9 to +9.9, p = 0.91.",
        ONE_SEED,
        NO_TEST,
    )


def test_a_tie_is_not_significant(tmp_path: Path) -> None:
    view = view_of(tmp_path, {"a": val(hits(120), hits(122)), "b": val(hits(120), hits(122))})
    assert sentence(view) == ("a comes first: 60.5 % val accuracy, the same as b. Not statistically significant.")
    assert view.verdict is not None
    assert view.verdict.significant is False


def test_single_runs_are_significant_for_themselves_alone(tmp_path: Path) -> None:
    view = view_of(tmp_path, {"a": val(hits(160)), "b": val(hits(100))})
    assert sentence(view).endswith(" Statistically significant (p < 0.05, Holm) for these runs, one seed each.")
    assert details(view)[1:] == (ONE_SEED, NO_TEST)


def test_small_differences_are_not_rounded_to_none(tmp_path: Path) -> None:
    labels = labels_of(3000)
    for name, count in (("a", 1501), ("b", 1500)):
        write_run(tmp_path / name, {"val": (labels, predicted(labels, hits(count, 3000)))}, name=name)
    (view,) = make_views(collect_runs([tmp_path]), None, None)
    assert sentence(view).startswith("a comes first: 50.0 % val accuracy, 0.03 points above b.")


def test_a_lead_over_some_alone_is_said_to_be_that(tmp_path: Path) -> None:
    recipes = {"a": val(hits(150)), "b": val(hits(148)), "c": val(hits(146, shift=40)), "d": val(hits(60))}
    view = view_of(tmp_path, recipes)
    assert sentence(view).endswith("1.0 points above b. Not statistically significant.")
    assert details(view)[1:3] == (
        "It is significantly better than d.",
        "Its difference to c is not significant either.",
    )


def test_many_names_are_counted(tmp_path: Path) -> None:
    recipes = {"a": val(hits(150)), "b": val(hits(149))} | {name: val(hits(60)) for name in "cdefg"}
    assert details(view_of(tmp_path, recipes))[1] == "It is significantly better than 5 other recipes."


def test_one_recipe_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    view = view_of(tmp_path, {"a": val(hits(120))})
    assert sentence(view) == "a: 60.0 % val accuracy (95 % interval 53.1 to 66.5 %)."
    assert details(view) == ("There is no other recipe to compare it with.",)
    assert view.pairs == ()


def test_without_val_nothing_is_chosen(tmp_path: Path) -> None:
    view = view_of(tmp_path, {"a": [{"test": hits(100)}], "b": [{"test": hits(160)}]})
    assert (
        sentence(view) == "No recipe is selected: there is no val split, and selecting on test would bias the result."
    )
    assert [recipe.name for recipe in view.recipes] == ["a", "b"]


def test_val_chooses_and_test_reports(tmp_path: Path) -> None:
    first = {"val": hits(150), "test": hits(120)}
    second = {"val": hits(140), "test": hits(121, shift=60)}
    view = view_of(tmp_path, {"second": [second], "first": [first]})
    assert sentence(view) == (
        "first, first on val: 60.0 % test accuracy, 0.5 points below second. Not statistically significant."
    )


def test_the_choice_stays_with_val_where_test_would_choose_another(tmp_path: Path) -> None:
    first = {"val": hits(150), "test": hits(100)}
    second = {"val": hits(140), "test": hits(160)}
    view = view_of(tmp_path, {"second": [second], "first": [first]})
    assert sentence(view).endswith(
        "30.0 points below second. On the test split second is significantly better (p < 0.05, Holm)."
    )
    assert details(view)[1] == ("second did better on test, but val selects: selecting on test would bias the result.")
    assert view.verdict is not None
    assert (view.verdict.chosen, view.verdict.significant) == ("first", False)


@pytest.mark.parametrize("swapped", [False, True])
def test_what_test_says_does_not_matter_for_the_choice(tmp_path: Path, swapped: bool) -> None:
    on_test = [hits(199), hits(1)][:: -1 if swapped else 1]
    made = {
        name: [{"val": hits(count, shift=seed), "test": test} for seed in range(2)]
        for name, count, test in zip(("a", "b", "c"), (110, 130, 120), (*on_test, hits(100)), strict=True)
    }
    view = view_of(tmp_path, made)
    assert [recipe.name for recipe in view.recipes] == ["b", "c", "a"]
    assert view.verdict is not None
    assert view.verdict.chosen == "b"


def test_all_pairs_are_corrected_together(tmp_path: Path) -> None:
    correct = {"a": hits(130), "b": hits(118, shift=7), "c": hits(116, shift=30)}
    view = view_of(tmp_path, {name: val(each) for name, each in correct.items()})
    plain = [
        compare_recipes(correct[first][None], correct[second][None]).p_value
        for first, second in (("a", "b"), ("a", "c"), ("b", "c"))
    ]
    assert [(pair.first, pair.second) for pair in view.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert tuple(pair.corrected_p for pair in view.pairs) == holm(plain)


def test_few_seeds_are_named(tmp_path: Path) -> None:
    seeds = val(*(hits(150, shift=seed) for seed in range(3)))
    view = view_of(tmp_path, {"a": seeds, "b": val(hits(100)), "c": val(hits(90), hits(91))})
    assert "b has 1 seed and c has 2 seeds: too few to estimate the spread between seeds." in details(view)
