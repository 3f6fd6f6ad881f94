"""Which recipe is best, by how much, and whether that is significant. Val selects; test, if there is one, reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_ddp.report.collect import Recipe
from fer_ddp.statistics.comparison import Comparison, compare_recipes, holm
from fer_ddp.statistics.seeds import summarize_seeds
from fer_ddp.text import join_names, p_value, percent, percent_interval, plural, points, points_interval

LEVEL = 0.05
"""A difference is statistically significant if its p-value, after Holm's correction, is below this."""
_SIGNIFICANT = "(p < 0.05, Holm)"
_MAX_NAMES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two recipes compared on the same samples: ``first`` minus ``second``."""

    first: str
    second: str
    comparison: Comparison
    corrected_p: float
    """By Holm, over all pairs of the report."""

    @property
    def significant(self) -> bool:
        """Whether the difference is statistically significant."""
        return self.corrected_p < LEVEL

    @property
    def better(self) -> bool:
        """Whether the first is significantly better."""
        return self.significant and self.comparison.difference > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The report's conclusion."""

    claim: str
    """A sentence: which recipe is first, and by how much."""
    significance: str
    """A sentence: whether that is statistically significant; empty if nothing was compared."""
    details: tuple[str, ...]
    """Further sentences."""
    chosen: str | None
    """The recipe; None if there is nothing to choose or to choose by."""
    significant: bool | None
    """Whether it is significantly better than all the others; None if nothing was compared."""

    @property
    def summary(self) -> str:
        """The claim and its significance."""
        return f"{self.claim} {self.significance}".rstrip()


def rank(recipes: Sequence[Recipe], masks: Mapping[str, NDArray[np.bool_]]) -> list[Recipe]:
    """By mean val accuracy, the best first; ties, and all of them without a val split, keep their order.

    masks: by split, which samples count.
    """
    if "val" not in masks:
        return list(recipes)
    return sorted(recipes, key=lambda recipe: -int(recipe.correct("val")[:, masks["val"]].sum()) / len(recipe.runs))


def compare(ranked: Sequence[Recipe], split: str, mask: NDArray[np.bool_]) -> list[Pair]:
    """All pairs on the samples of ``split`` that ``mask`` selects, each the higher ranked minus the lower."""
    correct = [recipe.correct(split)[:, mask] for recipe in ranked]
    places = [(first, second) for first in range(len(ranked)) for second in range(first + 1, len(ranked))]
    comparisons = [compare_recipes(correct[first], correct[second]) for first, second in places]
    corrected = holm([comparison.p_value for comparison in comparisons])
    return [
        Pair(first=ranked[first].name, second=ranked[second].name, comparison=comparison, corrected_p=p)
        for (first, second), comparison, p in zip(places, comparisons, corrected, strict=True)
    ]


def judge(ranked: Sequence[Recipe], pairs: Sequence[Pair], masks: Mapping[str, NDArray[np.bool_]]) -> Verdict:
    """Put the ranking and the pairs, of test if masks has it, in words. masks: by split, which samples count."""
    split = "test" if "test" in masks else "val"
    best = ranked[0]
    summary = summarize_seeds(best.correct(split)[:, masks[split]])
    accuracy = f"{percent(summary.mean)} {split} accuracy"
    if len(ranked) == 1:
        return Verdict(
            claim=f"{best.name}: {accuracy} (95 % interval {percent_interval(summary.interval)}).",
            significance="",
            details=("There is no other recipe to compare it with.",),
            chosen=None,
            significant=None,
        )
    if "val" not in masks:
        claim = "No recipe is selected: there is no val split, and selecting on test would bias the result."
        return Verdict(claim=claim, significance="", details=(), chosen=None, significant=None)
    of_best = [pair for pair in pairs if pair.first == best.name]
    following = of_best[0]
    significant = all(pair.better for pair in of_best)
    if significant:
        lead = f"{best.name} is best:"
    else:
        lead = f"{best.name}, first on val:" if split == "test" else f"{best.name} comes first:"
    return Verdict(
        claim=f"{lead} {accuracy}, {_gap(following)}.",
        significance=_significance(of_best, ranked),
        details=tuple(_details(of_best, ranked, split, len(pairs))),
        chosen=best.name,
        significant=significant,
    )


def _gap(following: Pair) -> str:
    """``1.3 points above X``; small differences with two digits, so that only a tie shows as none."""
    difference = following.comparison.difference
    if difference == 0:
        return f"the same as {following.second}"
    digits = 1 if abs(difference) >= 0.0005 else 2
    direction = "above" if difference > 0 else "below"
    return f"{abs(100 * difference):.{digits}f} points {direction} {following.second}"


def _significance(of_best: Sequence[Pair], ranked: Sequence[Recipe]) -> str:
    following = of_best[0]
    doubtful = [pair.second for pair in of_best if not pair.better]
    if following.significant and not following.better:
        return f"On the test split {following.second} is significantly better {_SIGNIFICANT}."
    if following.second in doubtful:
        return "Not statistically significant."
    if doubtful:
        return f"Statistically significant {_SIGNIFICANT}, but its lead over {_named(doubtful)} is not."
    if _one_seed_each(ranked):
        return f"Statistically significant {_SIGNIFICANT} for these runs, one seed each."
    few = " for these runs, with few seeds" if _of_few_seeds(ranked) else ""
    return f"Statistically significant {_SIGNIFICANT}{few}."


def _details(of_best: Sequence[Pair], ranked: Sequence[Recipe], split: str, comparisons: int) -> list[str]:
    following, *others = of_best
    corrected = f" (Holm, {comparisons} comparisons)" if comparisons > 1 else ""
    details = [
        f"Difference to {following.second}: {points(following.comparison.difference)} points, 95 % interval "
        f"{points_interval(following.comparison.interval)}, {p_value(following.corrected_p)}{corrected}."
    ]
    beaten = [pair.second for pair in others if pair.better]
    if beaten and len(beaten) < len(of_best) - following.better:
        details.append(f"It is significantly better than {_named(beaten)}.")
    open_ones = [pair.second for pair in others if not pair.significant]
    if open_ones and not following.better:
        details.append(f"Its difference to {_named(open_ones)} is not significant either.")
    superior = [pair.second for pair in of_best if pair.significant and not pair.better]
    if superior:
        details.append(
            f"{join_names(superior)} did better on test, but val selects: selecting on test would bias the result."
        )
    few = _of_few_seeds(ranked)
    if _one_seed_each(ranked):
        details.append("Each recipe has one seed, so this holds for these runs only; other seeds may reverse it.")
    elif few:
        names = join_names([f"{recipe.name} has {plural(len(recipe.runs), 'seed')}" for recipe in few])
        details.append(f"{names}: too few to estimate the spread between seeds.")
    if split == "val":
        details.append("There is no test split: val both selects and reports, which is slightly optimistic.")
    return details


def _named(names: Sequence[str]) -> str:
    """The names, or their number where nobody would read them all."""
    return join_names(names) if len(names) <= _MAX_NAMES else f"{len(names)} other recipes"


def _of_few_seeds(recipes: Sequence[Recipe]) -> list[Recipe]:
    return [recipe for recipe in recipes if len(recipe.runs) < 3]


def _one_seed_each(recipes: Sequence[Recipe]) -> bool:
    return all(len(recipe.runs) == 1 for recipe in recipes)
