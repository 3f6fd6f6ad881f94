"""Do the 95 % intervals hold the truth in 95 % of all cases? By simulation with fixed seeds, 93 to 97.5 % is enough."""

import pytest
from coverage_table import Recipe, coverage_of_difference, coverage_of_macro_f1, coverage_of_mean


@pytest.mark.parametrize(("seeds", "points"), [(3, 0.0), (3, 1.5), (10, 0.5)])
def test_the_mean_over_seeds_is_covered(seeds: int, points: float) -> None:
    assert 0.93 <= coverage_of_mean(Recipe(seeds=seeds, points=points), trials=2000, samples=1500) <= 0.975


def test_the_difference_of_recipes_is_covered() -> None:
    better, worse = Recipe(seeds=3, points=0.5, accuracy=0.72), Recipe(seeds=3, points=0.5)
    assert 0.93 <= coverage_of_difference(better, worse, trials=2000, samples=1500)[0] <= 0.975


def test_equal_recipes_are_rarely_told_apart() -> None:
    recipe = Recipe(seeds=3, points=1.5)
    assert 0.025 <= coverage_of_difference(recipe, recipe, trials=2000, samples=1500)[1] <= 0.07


def test_macro_f1_is_covered() -> None:
    assert 0.93 <= coverage_of_macro_f1(trials=300, resamples=500) <= 0.975


@pytest.mark.long
@pytest.mark.parametrize("points", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_on_splits_of_fer2013s_size_mean_difference_and_p_value_are_right(seeds: int, points: float) -> None:
    recipe, better = Recipe(seeds=seeds, points=points), Recipe(seeds=seeds, points=points, accuracy=0.72)
    held, small = coverage_of_difference(recipe, recipe, trials=2000)
    assert 0.93 <= coverage_of_mean(recipe, trials=2000) <= 0.975
    assert 0.93 <= held <= 0.98
    assert 0.02 <= small <= 0.07
    assert 0.93 <= coverage_of_difference(better, recipe, trials=2000)[0] <= 0.98
