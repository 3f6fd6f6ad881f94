"""Which recipe is best, by how much, and whether that is certain. Val chooses; test, where there is one, reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_ddp.report.collect import Recipe
from fer_ddp.statistics.comparison import Comparison, compare_recipes, holm
from fer_ddp.statistics.seeds import summarize_seeds
from fer_ddp.text import listed, p_value, percent, percent_interval, plural, points, points_interval

LEVEL = 0.05
"""A difference is called certain where its p-value, corrected, is below this."""
_MOST_NAMES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two recipes compared on the same samples: ``first`` minus ``second``."""

    first: str
    second: str
    comparison: Comparison
    corrected_p: float
    """By Holm, over all pairs of the report."""

    @property
    def certain(self) -> bool:
        """Whether the difference stands after the correction."""
        return self.corrected_p < LEVEL

    @property
    def ahead(self) -> bool:
        """Whether the first is better, and that is certain."""
        return self.certain and self.comparison.difference > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The answer to the report's question."""

    claim: str
    """A sentence: which recipe is first, and by how much."""
    certainty: str
    """A sentence: how certain that is; empty if nothing was compared."""
    details: tuple[str, ...]
    """Further sentences."""
    chosen: str | None
    """The recipe; None if there is nothing to choose or to choose by."""
    certain: bool | None
    """Whether it is ahead of all the others; None if nothing was compared."""

    @property
    def sentence(self) -> str:
        """The claim and how certain it is."""
        return f"{self.claim} {self.certainty}".rstrip()


def rank(recipes: Sequence[Recipe], keep: Mapping[str, NDArray[np.bool_]]) -> list[Recipe]:
    """By mean val accuracy, the best first; without a val split, and between equals, as they came.

    keep: by split, which samples count.
    """
    if "val" not in keep:
        return list(recipes)
    return sorted(recipes, key=lambda recipe: -int(recipe.correct("val")[:, keep["val"]].sum()) / len(recipe.runs))


def compare(ranked: Sequence[Recipe], split: str, keep: NDArray[np.bool_]) -> list[Pair]:
    """All pairs on the samples of ``split`` that ``keep`` says, each the higher ranked minus the lower."""
    correct = [recipe.correct(split)[:, keep] for recipe in ranked]
    places = [(first, second) for first in range(len(ranked)) for second in range(first + 1, len(ranked))]
    comparisons = [compare_recipes(correct[first], correct[second]) for first, second in places]
    corrected = holm([comparison.p_value for comparison in comparisons])
    return [
        Pair(first=ranked[first].name, second=ranked[second].name, comparison=comparison, corrected_p=p)
        for (first, second), comparison, p in zip(places, comparisons, corrected, strict=True)
    ]


def judge(ranked: Sequence[Recipe], pairs: Sequence[Pair], keep: Mapping[str, NDArray[np.bool_]]) -> Verdict:
    """Say what `rank` and `compare` found. keep: by split, which samples count; pairs: on test if it is among them."""
    split = "test" if "test" in keep else "val"
    best = ranked[0]
    summary = summarize_seeds(best.correct(split)[:, keep[split]])
    right = f"{percent(summary.mean)} of the {split} images right"
    if len(ranked) == 1:
        return Verdict(
            claim=f"{best.name} gets {right} (95 % interval {percent_interval(summary.interval)}).",
            certainty="",
            details=("There is no other recipe to compare it with.",),
            chosen=None,
            certain=None,
        )
    if "val" not in keep:
        claim = "No recipe is chosen: there is no val split, and choosing by test would flatter."
        return Verdict(claim=claim, certainty="", details=(), chosen=None, certain=None)
    of_best = [pair for pair in pairs if pair.first == best.name]
    following = of_best[0]
    certain = all(pair.ahead for pair in of_best)
    if certain:
        lead = f"{best.name} is best: it"
    else:
        lead = f"{best.name}, first on val," if split == "test" else f"{best.name} comes first: it"
    return Verdict(
        claim=f"{lead} gets {right}, {_gap(following)}.",
        certainty=_certainty(of_best, ranked),
        details=tuple(_details(of_best, ranked, split, len(pairs))),
        chosen=best.name,
        certain=certain,
    )


def _gap(following: Pair) -> str:
    """``1.3 points more than X, the next``; small differences with two digits, so that only a tie is none."""
    difference = following.comparison.difference
    if difference == 0:
        return f"as many as {following.second}, the next"
    digits = 1 if abs(difference) >= 0.0005 else 2
    more = "more" if difference > 0 else "fewer"
    return f"{abs(100 * difference):.{digits}f} points {more} than {following.second}, the next"


def _certainty(of_best: Sequence[Pair], ranked: Sequence[Recipe]) -> str:
    following = of_best[0]
    doubtful = [pair.second for pair in of_best if not pair.ahead]
    if following.certain and not following.ahead:
        return f"On test {following.second} is certainly ahead of it."
    if following.second in doubtful:
        return "That is not certain."
    if doubtful:
        return f"That is certain, but its lead over {_named(doubtful)} is not."
    if _one_seed_each(ranked):
        return "That is certain for these runs, one seed each."
    return "That is certain for these runs, of few seeds." if _of_few_seeds(ranked) else "That is certain."


def _details(of_best: Sequence[Pair], ranked: Sequence[Recipe], split: str, comparisons: int) -> list[str]:
    following, *others = of_best
    corrected = f" after correction for {comparisons} comparisons" if comparisons > 1 else ""
    details = [
        f"The difference to {following.second} is {points(following.comparison.difference)} points: 95 % interval "
        f"{points_interval(following.comparison.interval)}, {p_value(following.corrected_p)}{corrected}."
    ]
    ahead = [pair.second for pair in others if pair.ahead]
    if ahead and len(ahead) < len(of_best) - following.ahead:
        details.append(f"It is certainly ahead of {_named(ahead)}.")
    open_ones = [pair.second for pair in others if not pair.certain]
    if open_ones and not following.ahead:
        details.append(f"Nor can it be told apart from {_named(open_ones)}.")
    worse = [pair.second for pair in of_best if pair.certain and not pair.ahead]
    if worse:
        details.append(
            f"On test {listed(worse)} did better; the choice stays with val, since choosing by test would flatter."
        )
    few = _of_few_seeds(ranked)
    if _one_seed_each(ranked):
        details.append("Each recipe has one seed, so this is about these runs: another seed may turn it around.")
    elif few:
        names = listed([f"{recipe.name} has {plural(len(recipe.runs), 'seed')}" for recipe in few])
        details.append(f"{names}: too few to tell how far seeds differ.")
    if split == "val":
        details.append("There is no test split here: val both chose and reports, which flatters the figures a little.")
    return details


def _named(names: Sequence[str]) -> str:
    """The names, or how many where nobody would read them all."""
    return listed(names) if len(names) <= _MOST_NAMES else f"{len(names)} other recipes"


def _of_few_seeds(recipes: Sequence[Recipe]) -> list[Recipe]:
    return [recipe for recipe in recipes if len(recipe.runs) < 3]


def _one_seed_each(recipes: Sequence[Recipe]) -> bool:
    return all(len(recipe.runs) == 1 for recipe in recipes)
