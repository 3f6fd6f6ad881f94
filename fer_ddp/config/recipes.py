"""Which runs are one recipe, the same job with several seeds, and its name."""

import json
from collections.abc import Sequence
from typing import Any

from fer_ddp.config.job import MAY_CHANGE, flatten
from fer_ddp.runs.finished import FinishedRun

NOT_OF_THE_RECIPE = (*MAY_CHANGE, "seed", "memory_format")
"""The memory format only changes rounding, and on a CPU it is whichever was faster at the start."""
_MAX_KEYS_IN_A_NAME = 3

Identity = tuple[str, str]
"""Equal for runs of the same recipe: (name, all keys that define it)."""


def recipe_names(runs: Sequence[FinishedRun]) -> list[str]:
    """The name of each run's recipe, as a report of just these runs calls it."""
    names = names_of({identity(run): job_of(run) for run in runs})
    return [names[identity(run)] for run in runs]


def identity(run: FinishedRun) -> Identity:
    """The key that runs of one recipe share."""
    if run.members or (run.imported and run.seed is None):
        return (run.name, str(run.path))
    return (run.name, json.dumps(job_of(run), sort_keys=True))


def job_of(run: FinishedRun) -> dict[str, Any]:
    """The keys of the job that define the recipe, flat."""
    return {
        key: value
        for key, value in flatten(run.job).items()
        if not any(key == free or key.startswith(f"{free}.") for free in NOT_OF_THE_RECIPE)
    }


def names_of(jobs: dict[Identity, dict[str, Any]]) -> dict[Identity, str]:
    """The name of each recipe: the job's, and if several share it, the values in which they differ."""
    names = {}
    for recipe, job in jobs.items():
        alike = [other for other in jobs if other[0] == recipe[0]]
        keys = [key for key in job if any(jobs[other].get(key) != job[key] for other in alike)]
        last = [key.rpartition(".")[2] for key in keys]
        if len(alike) == 1:
            names[recipe] = recipe[0]
        elif 1 <= len(keys) <= _MAX_KEYS_IN_A_NAME:
            words = [
                f"{short if last.count(short) == 1 else key}={_value(job[key])}"
                for key, short in zip(keys, last, strict=True)
            ]
            names[recipe] = f"{recipe[0]} ({', '.join(words)})"
        else:
            names[recipe] = f"{recipe[0]} ({alike.index(recipe) + 1})"
    if len(set(names.values())) < len(names):  # two ensembles in folders of one name, or keys that one of them lacks
        names = {recipe: f"{name} ({number})" for number, (recipe, name) in enumerate(names.items(), start=1)}
    return names


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
