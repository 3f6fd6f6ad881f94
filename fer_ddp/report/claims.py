"""The claims of the write-up behind the recipes: confirmed, not confirmed, or not decided by a report's runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_ddp.config.load import load_job
from fer_ddp.config.recipe_files import PACKAGED
from fer_ddp.config.recipes import job_of
from fer_ddp.report.collect import Recipe, ReportRuns
from fer_ddp.report.published import is_fer2013
from fer_ddp.report.views import View
from fer_ddp.statistics.comparison import compare_recipes
from fer_ddp.statistics.intervals import Interval
from fer_ddp.statistics.seeds import summarize_seeds
from fer_ddp.text import percent, percent_interval, plural, points, points_interval
from fer_ddp.yaml_io import read_yaml

CONFIRMED, NOT_DECIDED = "confirmed", "not decided"
HIGHER, LOWER = "not confirmed: higher", "not confirmed: lower"


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedClaim:
    """One row of ``claims.yaml`` beside what the runs of a view give."""

    statement: str
    measured: str
    """An accuracy or a difference with its 95 % interval."""
    runs: str
    """Of which recipes, how many seeds and epochs each, and of how many if they are fewer than the recipe's."""
    verdict: str
    """``CONFIRMED``, ``NOT_DECIDED``, ``HIGHER``, ``LOWER``, or ``–`` where no figure is claimed.

    An accuracy is not decided by runs of fewer epochs than the recipe's; a difference is, of what they trained.
    """


def judge_claims(view: View, collected: ReportRuns) -> list[JudgedClaim]:
    """The claims about recipes that ``view`` has, in the order of ``claims.yaml``; none on other data than FER2013."""
    if not is_fer2013(collected):
        return []
    rows = read_yaml(Path(__file__).with_name("claims.yaml"))["claims"]
    judged = []
    for row in rows:
        recipe = _find(view.recipes, row["recipe"])
        reference = _find(view.recipes, row["reference"]) if "reference" in row else None
        if recipe is not None and (reference is not None or "reference" not in row):
            judged.append(_judge(view, row, recipe, reference))
    return judged


def _find(recipes: Sequence[Recipe], wanted: str | dict[str, Any]) -> Recipe | None:
    """The recipe of that name and those keys; None if there is none, or are several."""
    keys = {"name": wanted} if isinstance(wanted, str) else dict(wanted)
    name = keys.pop("name")
    found = []
    for recipe in recipes:
        run = recipe.runs[0]
        if run.name == name and not run.imported and keys.items() <= job_of(run).items():
            found.append(recipe)
    return found[0] if len(found) == 1 else None


def _judge(view: View, row: dict[str, Any], recipe: Recipe, reference: Recipe | None) -> JudgedClaim:
    split = view.reporting_split
    correct = recipe.correct(split)[:, view.masks[split]]
    if reference is None:
        summary = summarize_seeds(correct)
        mean, interval = summary.mean, summary.interval
        measured = f"{percent(mean)} ({percent_interval(interval)})"
    else:
        compared = compare_recipes(correct, reference.correct(split)[:, view.masks[split]])
        mean, interval = compared.difference, compared.interval
        measured = f"{points(mean)} points ({points_interval(interval)})"
    verdict = "–"
    if "low" in row and reference is None and _is_shortened(recipe):
        verdict = NOT_DECIDED  # an accuracy is claimed of a whole training
    elif "low" in row:
        low, high = row["low"] / 100, row.get("high", math.inf) / 100
        verdict = judge_interval(mean, interval, low, high, difference=reference is not None)
    described = [_described(each) for each in (recipe, reference) if each is not None]
    return JudgedClaim(statement=row["statement"], measured=measured, runs=" − ".join(described), verdict=verdict)


def judge_interval(mean: float, interval: Interval, low: float, high: float, *, difference: bool) -> str:
    """Whether a claim of ``low`` to ``high`` holds, given the estimate and its interval, all of them shares.

    It does not where the interval and the claim have nothing in common. Else it does if the interval of a difference is
    on the claim's side of 0, or the estimate of an accuracy is within the claim. All else is not decided.
    """
    if interval.high < low:
        return LOWER
    if interval.low > high:
        return HIGHER
    if not difference:
        holds = low <= mean <= high
    elif high <= 0:
        holds = interval.high < 0
    else:
        holds = interval.low > 0
    return CONFIRMED if holds else NOT_DECIDED


def _described(recipe: Recipe) -> str:
    described = f"{recipe.name}: {plural(len(recipe.runs), 'seed')}"
    epochs = recipe.runs[0].job.get("epochs")
    if epochs is None:
        return described
    whole = f"{epochs} of {_recipe_epochs(recipe)} epochs" if _is_shortened(recipe) else plural(epochs, "epoch")
    return f"{described}, {whole}"


def _is_shortened(recipe: Recipe) -> bool:
    return bool(recipe.runs[0].job.get("epochs", math.inf) < _recipe_epochs(recipe))


def _recipe_epochs(recipe: Recipe) -> int:
    return load_job(PACKAGED / f"{recipe.runs[0].name}.yaml", []).epochs
