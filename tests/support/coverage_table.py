"""How often the 95 % intervals hold the truth, by simulation; run it to print the whole table (a few minutes).

A model is right on a sample if a normal draw is below ability + seed's effect + sample's easiness, both normal. So the
expected accuracy over the populations of seeds and samples is known exactly, whatever the spread.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from fer_ddp.statistics.comparison import compare_recipes
from fer_ddp.statistics.intervals import Interval, bootstrap_macro_f1
from fer_ddp.statistics.seeds import summarize_seeds

SAMPLES = 3589
"""As FER2013's val and test splits have."""
SPREAD_OF_EASINESS = 2.0
"""Two models of 0.7 accuracy are then both right or both wrong on about four samples of five."""
ALIKE = 0.9
"""The correlation of the same sample's easiness for two recipes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    seeds: int
    points: float
    """The standard deviation of the seeds' expected accuracies, in percentage points."""
    accuracy: float = 0.7
    """With seeds that don't differ."""

    @property
    def ability(self) -> float:
        return float(norm.ppf(self.accuracy)) * float(np.sqrt(1 + SPREAD_OF_EASINESS**2))

    @property
    def spread_of_seeds(self) -> float:
        slope = norm.pdf(norm.ppf(self.accuracy)) / np.sqrt(1 + SPREAD_OF_EASINESS**2)
        return float(self.points / 100 / slope)

    @property
    def expected_accuracy(self) -> float:
        return float(norm.cdf(self.ability / np.sqrt(1 + SPREAD_OF_EASINESS**2 + self.spread_of_seeds**2)))

    def outcomes(self, easiness: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.bool_]:
        of_seed = self.ability + generator.normal(0, self.spread_of_seeds, (self.seeds, 1))
        return generator.standard_normal((self.seeds, len(easiness)), dtype=np.float32) < of_seed + easiness


def coverage_of_mean(recipe: Recipe, trials: int, samples: int = SAMPLES, seed: int = 0) -> float:
    """The share of trials whose interval holds the recipe's expected accuracy."""
    generator = np.random.default_rng(seed)

    def interval() -> Interval:
        easiness = generator.normal(0, SPREAD_OF_EASINESS, samples)
        return summarize_seeds(recipe.outcomes(easiness, generator)).interval

    return share_that_holds(recipe.expected_accuracy, interval, trials)


def coverage_of_difference(
    first: Recipe, second: Recipe, trials: int, samples: int = SAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The share of trials whose interval holds the expected difference, and that with a p-value below 0.05."""
    generator = np.random.default_rng(seed)
    small = 0

    def interval() -> Interval:
        nonlocal small
        shared, *own = generator.normal(0, SPREAD_OF_EASINESS, (3, samples))
        easiness = [np.sqrt(ALIKE) * shared + np.sqrt(1 - ALIKE) * part for part in own]
        comparison = compare_recipes(first.outcomes(easiness[0], generator), second.outcomes(easiness[1], generator))
        small += comparison.p_value < 0.05
        return comparison.interval

    truth = first.expected_accuracy - second.expected_accuracy
    return share_that_holds(truth, interval, trials), small / trials


def coverage_of_macro_f1(trials: int, resamples: int, seed: int = 0) -> float:
    """The share of trials whose interval holds the macro-F1 of the expected confusion, seven classes as in FER2013."""
    generator = np.random.default_rng(seed)
    support = np.array([467, 56, 496, 895, 653, 415, 607])
    rates = np.full((7, 7), 0.3 / 6) + np.eye(7) * (0.7 - 0.3 / 6)
    expected = support[:, None] * rates
    truth = float((2 * expected.diagonal() / (support + expected.sum(axis=0))).mean())

    def interval() -> Interval:
        return bootstrap_macro_f1(generator.multinomial(support, rates), resamples=resamples)

    return share_that_holds(truth, interval, trials)


def share_that_holds(truth: float, interval: Callable[[], Interval], trials: int) -> float:
    held = 0
    for _ in range(trials):
        low, high = interval()
        held += low <= truth <= high
    return held / trials


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print(f"{trials} trials, {SAMPLES} samples; coverage of 95 % intervals in %; seeds' spread in points", flush=True)
    for seeds in (2, 3, 5, 10):
        for points in (0.0, 0.5, 1.5):
            recipe = Recipe(seeds=seeds, points=points)
            better = Recipe(seeds=seeds, points=points, accuracy=0.72)
            held, small = coverage_of_difference(recipe, recipe, trials)
            shown = [coverage_of_mean(recipe, trials), held, small, coverage_of_difference(better, recipe, trials)[0]]
            print(
                f"{seeds} seeds, {points} points: mean {shown[0]:.2%}, difference 0 {shown[1]:.2%} "
                f"(p < 0.05: {shown[2]:.2%}), difference 2 points {shown[3]:.2%}",
                flush=True,
            )
    for accuracy, samples in ((0.97, 200), (0.97, SAMPLES), (0.99, 200)):
        recipe = Recipe(seeds=3, points=0.5, accuracy=accuracy)
        print(f"3 seeds, accuracy {accuracy}, {samples} samples: {coverage_of_mean(recipe, trials, samples):.2%}")
    held, small = coverage_of_difference(Recipe(seeds=1, points=0.5), Recipe(seeds=5, points=0.5), trials)
    print(
        f"1 seed against 5, 0.5 points, difference 0 of the recipes (not claimed): {held:.2%} (p < 0.05: {small:.2%})"
    )
    print(f"macro-F1 of one run: {coverage_of_macro_f1(trials, 2000):.2%}")


if __name__ == "__main__":
    main()
