"""Sorts runs into recipes: the same job with several seeds, on the same samples. Nothing is mixed silently."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ddp.config import MAY_CHANGE, flatten
from fer_ddp.errors import RunError
from fer_ddp.predictions import Predictions
from fer_ddp.report.runs import LeftOut, Run, find_runs, read_runs

_NOT_OF_THE_RECIPE = (*MAY_CHANGE, "seed", "memory_format")
"""The memory format changes the rounding alone, and on a CPU it is the faster one of the moment."""
_MOST_KEYS_IN_A_NAME = 3

_Identity = tuple[str, str]
"""Equal for runs of the same recipe: (name, all that makes it)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Runs of one job that differ in the seed, or one ensemble."""

    name: str
    """The job's, with the keys that tell it from others of that name."""
    runs: tuple[Run, ...]
    """By seed."""
    predictions: dict[str, tuple[Predictions, ...]]
    """By split, a run each."""

    @property
    def is_ensemble(self) -> bool:
        """Whether it is one."""
        return bool(self.runs[0].members)

    def correct(self, split: str) -> NDArray[np.bool_]:
        """(seeds, samples): whether the run was right on the sample."""
        return np.stack([answers.predicted == answers.labels for answers in self.predictions[split]])


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathered:
    """All that a report is about."""

    recipes: tuple[Recipe, ...]
    """In the order in which their first runs were given."""
    ensembles: tuple[Recipe, ...]
    left_out: tuple[LeftOut, ...]
    class_names: tuple[str, ...]
    data_digest: str
    keys: dict[str, tuple[str, ...]]
    """By split (``val``, ``test``, where there is one): the samples, the same for all recipes."""
    labels: dict[str, NDArray[np.int64]]
    """By split, (samples,)."""

    @property
    def splits(self) -> tuple[str, ...]:
        """``val``, ``test`` or both, in this order."""
        return tuple(self.keys)

    @property
    def all_recipes(self) -> tuple[Recipe, ...]:
        """The recipes, then the ensembles."""
        return self.recipes + self.ensembles

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs of all of them."""
        return tuple(run for recipe in self.all_recipes for run in recipe.runs)


def gather(paths: Sequence[Path]) -> Gathered:
    """Read the run folders that ``paths`` are or hold.

    The report is about the data that most of the finished runs are about (of several, the first). Raises JobError for
    a path that holds no run, RunError if no run can be used.
    """
    runs, left_out = read_runs(find_runs(paths))
    if not runs:
        raise RunError("there is nothing to report yet: " + "; ".join(f"{out.path} {out.reason}" for out in left_out))
    digest = Counter(run.data_digest for run in runs).most_common(1)[0][0]
    on_these = [run for run in runs if run.data_digest == digest]
    for run in runs:
        if run.data_digest != digest:
            reason = (
                f"is about other data (digest {run.data_digest[:12]}, this report's is {digest[:12]}); "
                "give it a report of its own"
            )
            left_out.append(LeftOut(path=run.path, reason=reason))
    splits = max((run.splits for run in on_these), key=len)
    kept: list[tuple[Run, dict[str, Predictions]]] = []
    for run in on_these:
        answers = _predictions(run, splits, kept[0] if kept else None)
        if isinstance(answers, LeftOut):
            left_out.append(answers)
        else:
            kept.append((run, answers))
    if not kept:
        raise RunError("no run can be used: " + "; ".join(f"{out.path} {out.reason}" for out in left_out))
    recipes, repeated = _recipes(kept)
    first = kept[0][1]
    return Gathered(
        recipes=tuple(recipe for recipe in recipes if not recipe.is_ensemble),
        ensembles=tuple(recipe for recipe in recipes if recipe.is_ensemble),
        left_out=tuple(left_out + repeated),
        class_names=kept[0][0].class_names,
        data_digest=digest,
        keys={split: first[split].keys for split in splits},
        labels={split: first[split].labels for split in splits},
    )


def _predictions(
    run: Run, splits: tuple[str, ...], first: tuple[Run, dict[str, Predictions]] | None
) -> dict[str, Predictions] | LeftOut:
    """The run's answers by split, or why it can't stand beside the ``first``."""
    if run.splits != splits:
        reason = f"was not evaluated on {' and '.join(s for s in splits if s not in run.splits)}; `evaluate` does it"
        return LeftOut(path=run.path, reason=reason)
    answers = {}
    for split in splits:
        try:
            answers[split] = run.predictions(split)
        except RunError as error:
            return LeftOut(path=run.path, reason=f"can't be read: {error}")
        reference = answers[split] if first is None else first[1][split]
        if answers[split].class_names != run.class_names or run.class_names != reference.class_names:
            reason = f"has other classes ({', '.join(run.class_names)}) than {', '.join(reference.class_names)}"
            return LeftOut(path=run.path, reason=reason)
        same = answers[split].keys == reference.keys and np.array_equal(answers[split].labels, reference.labels)
        if first is not None and not same:
            reason = (
                f"answers other samples of {split} than {first[0].path}, though both are about the same data; "
                "`evaluate` writes its predictions anew"
            )
            return LeftOut(path=run.path, reason=reason)
    return answers


def _recipes(kept: list[tuple[Run, dict[str, Predictions]]]) -> tuple[list[Recipe], list[LeftOut]]:
    """Group runs by their job; and those whose seed their recipe has already, since they tell nothing new."""
    groups: dict[_Identity, list[tuple[Run, dict[str, Predictions]]]] = {}
    for run, answers in kept:
        groups.setdefault(_identity(run), []).append((run, answers))
    names = _names({identity: _job_of(group[0][0]) for identity, group in groups.items()})
    recipes, repeated = [], []
    for identity, group in groups.items():
        by_seed: dict[int | None, tuple[Run, dict[str, Predictions]]] = {}
        for run, answers in group:
            twin = by_seed.setdefault(run.seed, (run, answers))[0]
            if twin is not run:
                reason = f"repeats seed {run.seed} of {names[identity]}, which {twin.path} is"
                repeated.append(LeftOut(path=run.path, reason=reason))
        ordered = [by_seed[seed] for seed in sorted(by_seed, key=lambda seed: seed or 0)]
        recipes.append(
            Recipe(
                name=names[identity],
                runs=tuple(run for run, _ in ordered),
                predictions={split: tuple(answers[split] for _, answers in ordered) for split in ordered[0][1]},
            )
        )
    return recipes, repeated


def recipe_names(runs: Sequence[Run]) -> list[str]:
    """The name of each run's recipe, as a report of just these runs calls it."""
    names = _names({_identity(run): _job_of(run) for run in runs})
    return [names[_identity(run)] for run in runs]


def _identity(run: Run) -> _Identity:
    if run.members:
        return (run.name, str(run.path))
    return (run.name, json.dumps(_job_of(run), sort_keys=True))


def _job_of(run: Run) -> dict[str, Any]:
    """The keys of the job that make the recipe, flat."""
    return {
        key: value
        for key, value in flatten(run.job).items()
        if not any(key == free or key.startswith(f"{free}.") for free in _NOT_OF_THE_RECIPE)
    }


def _names(jobs: dict[_Identity, dict[str, Any]]) -> dict[_Identity, str]:
    """What to call each recipe: the job's name, and where several have it, the values in which they differ."""
    names = {}
    for identity, job in jobs.items():
        alike = [other for other in jobs if other[0] == identity[0]]
        keys = [key for key in job if any(jobs[other].get(key) != job[key] for other in alike)]
        last = [key.rpartition(".")[2] for key in keys]
        if len(alike) == 1:
            names[identity] = identity[0]
        elif 1 <= len(keys) <= _MOST_KEYS_IN_A_NAME:
            words = [
                f"{short if last.count(short) == 1 else key}={_value(job[key])}"
                for key, short in zip(keys, last, strict=True)
            ]
            names[identity] = f"{identity[0]} ({', '.join(words)})"
        else:
            names[identity] = f"{identity[0]} ({alike.index(identity) + 1})"
    if len(set(names.values())) < len(names):  # two ensembles in folders of one name, or keys that one of them lacks
        names = {identity: f"{name} ({place})" for place, (identity, name) in enumerate(names.items(), start=1)}
    return names


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
