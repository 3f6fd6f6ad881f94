"""Sorts runs into recipes: the same job with several seeds, on the same samples. Nothing is mixed silently."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ddp.config.recipes import Identity, identity, job_of, names_of
from fer_ddp.errors import JobError, RunError
from fer_ddp.runs.finished import FinishedRun, SkippedRun, find_runs, read_runs
from fer_ddp.runs.predictions import Predictions


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Runs of one job that differ in the seed, one ensemble, or imported predictions of one model."""

    name: str
    """The job's, with the keys that tell it from others of that name."""
    runs: tuple[FinishedRun, ...]
    """By seed."""
    predictions: dict[str, tuple[Predictions, ...]]
    """By split, a run each."""

    @property
    def is_ensemble(self) -> bool:
        """Whether it is an ensemble."""
        return bool(self.runs[0].members)

    @property
    def imported(self) -> dict[str, Any]:
        """Where imported predictions come from (``imported.json`` of the first run); empty for others."""
        return self.runs[0].imported

    @property
    def labels_only(self) -> bool:
        """Whether only the predicted classes are known, so that nothing about probabilities can be measured."""
        return any(each.labels_only for of_split in self.predictions.values() for each in of_split)

    def correct(self, split: str) -> NDArray[np.bool_]:
        """(seeds, samples): whether the run's prediction is correct."""
        return np.stack([of_run.predicted == of_run.labels for of_run in self.predictions[split]])


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportRuns:
    """The runs that a report compares."""

    recipes: tuple[Recipe, ...]
    """In the order in which their first runs were given."""
    ensembles: tuple[Recipe, ...]
    left_out: tuple[SkippedRun, ...]
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
    def runs(self) -> tuple[FinishedRun, ...]:
        """The runs of all of them."""
        return tuple(run for recipe in self.all_recipes for run in recipe.runs)


def collect_runs(paths: Sequence[Path]) -> ReportRuns:
    """Read the run folders that ``paths`` are or hold.

    The report covers the data set that most of the finished runs use (in a tie, the first). Raises JobError for a path
    that holds no run, RunError if no run can be used.
    """
    if not paths:
        raise JobError("there are no runs to report; give run folders, or folders that hold some")
    runs, left_out = read_runs(find_runs(paths))
    if not runs:
        raise RunError("there is nothing to report yet: " + "; ".join(f"{out.path} {out.reason}" for out in left_out))
    digest = Counter(run.data_digest for run in runs).most_common(1)[0][0]
    on_these = [run for run in runs if run.data_digest == digest]
    for run in runs:
        if run.data_digest != digest:
            reason = (
                f"uses other data (digest {run.data_digest[:12]}, this report's is {digest[:12]}); "
                "make a separate report of it"
            )
            left_out.append(SkippedRun(path=run.path, reason=reason))
    splits = max((run.splits for run in on_these), key=len)
    kept: list[tuple[FinishedRun, dict[str, Predictions]]] = []
    for run in on_these:
        predictions = _predictions(run, splits, kept[0] if kept else None)
        if isinstance(predictions, SkippedRun):
            left_out.append(predictions)
        else:
            kept.append((run, predictions))
    if not kept:
        raise RunError("no run can be used: " + "; ".join(f"{out.path} {out.reason}" for out in left_out))
    recipes, repeated = _recipes(kept)
    first = kept[0][1]
    return ReportRuns(
        recipes=tuple(recipe for recipe in recipes if not recipe.is_ensemble),
        ensembles=tuple(recipe for recipe in recipes if recipe.is_ensemble),
        left_out=tuple(left_out + repeated),
        class_names=kept[0][0].class_names,
        data_digest=digest,
        keys={split: first[split].keys for split in splits},
        labels={split: first[split].labels for split in splits},
    )


def _predictions(
    run: FinishedRun, splits: tuple[str, ...], first: tuple[FinishedRun, dict[str, Predictions]] | None
) -> dict[str, Predictions] | SkippedRun:
    """The run's predictions by split, or why it can't be compared with the ``first``."""
    if run.splits != splits:
        missing = " and ".join(split for split in splits if split not in run.splits)
        reason = f"was not evaluated on {missing}; `evaluate` does it"
        if run.imported:
            reason = f"holds no predictions of {missing}, which other runs here have; import them too, without --split"
        return SkippedRun(path=run.path, reason=reason)
    predictions = {}
    for split in splits:
        try:
            predictions[split] = run.predictions(split)
        except RunError as error:
            return SkippedRun(path=run.path, reason=f"can't be read: {error}")
        reference = predictions[split] if first is None else first[1][split]
        if predictions[split].class_names != run.class_names or run.class_names != reference.class_names:
            reason = f"has other classes ({', '.join(run.class_names)}) than {', '.join(reference.class_names)}"
            return SkippedRun(path=run.path, reason=reason)
        same = predictions[split].keys == reference.keys and np.array_equal(predictions[split].labels, reference.labels)
        if first is not None and not same:
            reason = (
                f"predicts other samples of {split} than {first[0].path}, though both use the same data; "
                "`evaluate` writes its predictions again"
            )
            return SkippedRun(path=run.path, reason=reason)
    return predictions


def _recipes(kept: list[tuple[FinishedRun, dict[str, Predictions]]]) -> tuple[list[Recipe], list[SkippedRun]]:
    """Group runs by their job. The second list: runs that repeat a seed of their recipe."""
    groups: dict[Identity, list[tuple[FinishedRun, dict[str, Predictions]]]] = {}
    for run, predictions in kept:
        groups.setdefault(identity(run), []).append((run, predictions))
    names = names_of({key: job_of(group[0][0]) for key, group in groups.items()})
    recipes, repeated = [], []
    for key, group in groups.items():
        by_seed: dict[int | None, tuple[FinishedRun, dict[str, Predictions]]] = {}
        for run, predictions in group:
            twin = by_seed.setdefault(run.seed, (run, predictions))[0]
            if twin is not run:
                reason = f"repeats seed {run.seed} of {names[key]}, which {twin.path} is"
                repeated.append(SkippedRun(path=run.path, reason=reason))
        ordered = [by_seed[seed] for seed in sorted(by_seed, key=lambda seed: seed or 0)]
        recipes.append(
            Recipe(
                name=names[key],
                runs=tuple(run for run, _ in ordered),
                predictions={split: tuple(predictions[split] for _, predictions in ordered) for split in ordered[0][1]},
            )
        )
    return recipes, repeated
