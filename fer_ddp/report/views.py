"""All figures of a report: on all samples and, if some are known to leak, without those."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fer_ddp.report.collect import Recipe, ReportRuns
from fer_ddp.report.compare import Pair, Verdict, compare, judge, rank
from fer_ddp.report.data_folder import DataFolder
from fer_ddp.report.label_noise import LabelNoise, label_noise
from fer_ddp.report.measures import SplitFigures, Tempered, measure, temper
from shards.labels import FER2013_CLASSES
from shards.reading.votes import read_votes

Leaking = Mapping[str, Collection[str]]
"""By split (``val``, ``test``): the keys of the samples whose image is also in train."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """The figures on some of the samples."""

    key: Literal["all", "clean"]
    masks: dict[str, NDArray[np.bool_]]
    """By split, (samples,): which count."""
    recipes: tuple[Recipe, ...]
    """By val accuracy, the best first."""
    ensembles: tuple[Recipe, ...]
    figures: dict[str, dict[str, SplitFigures]]
    """By the recipe's or ensemble's name, then by split."""
    tempered: dict[str, Tempered]
    """By name; empty without val or without test."""
    pairs: tuple[Pair, ...]
    verdict: Verdict | None
    """None where there are ensembles alone."""
    noise: dict[str, LabelNoise]
    """By split; empty where there are no FER+ votes."""

    @property
    def reporting_split(self) -> str:
        """``test`` if there is one, else ``val``."""
        return "test" if "test" in self.masks else "val"


def make_views(collected: ReportRuns, leaking: Leaking | None, data: DataFolder | None) -> tuple[View, ...]:
    """One view of all samples, and one without those in ``leaking``, if there are any and enough are left.

    Raises DataError if the votes in ``data`` can't be read.
    """
    everything = {split: np.ones(len(keys), bool) for split, keys in collected.keys.items()}
    votes = {}
    if data is not None and data.manifest.votes is not None and set(collected.class_names) <= set(FER2013_CLASSES):
        votes = {split: read_votes(data.path, split, data.manifest, keys) for split, keys in collected.keys.items()}
    views = [_view("all", collected, everything, votes)]
    if leaking is not None:
        clean = {split: ~leaks for split, leaks in leaking_samples(collected, leaking).items()}
        if any(not mask.all() for mask in clean.values()) and all(mask.sum() > 1 for mask in clean.values()):
            views.append(_view("clean", collected, clean, votes))
    return tuple(views)


def leaking_samples(collected: ReportRuns, leaking: Leaking) -> dict[str, NDArray[np.bool_]]:
    """By split, (samples,): whether the sample leaks."""
    samples = {}
    for split, keys in collected.keys.items():
        known = frozenset(leaking.get(split, ()))
        samples[split] = np.array([key in known for key in keys], dtype=np.bool_)
    return samples


def _view(
    key: Literal["all", "clean"],
    collected: ReportRuns,
    masks: dict[str, NDArray[np.bool_]],
    votes: Mapping[str, NDArray[np.int64]],
) -> View:
    ranked = rank(collected.recipes, masks)
    shown = (*ranked, *collected.ensembles)
    pairs = compare(ranked, "test" if "test" in masks else "val", masks["test" if "test" in masks else "val"])
    noises = {
        split: label_noise(votes[split], collected.labels[split], collected.class_names, shown, split, masks[split])
        for split in votes
    }
    return View(
        key=key,
        masks=masks,
        recipes=tuple(ranked),
        ensembles=collected.ensembles,
        figures={
            recipe.name: {split: measure(recipe.predictions[split], masks[split]) for split in masks}
            for recipe in shown
        },
        tempered={
            recipe.name: temper(recipe.predictions["val"], recipe.predictions["test"], masks)
            for recipe in shown
            if set(masks) == {"val", "test"} and not recipe.labels_only
        },
        pairs=tuple(pairs),
        verdict=judge(ranked, pairs, masks) if ranked else None,
        noise={split: noise for split, noise in noises.items() if noise is not None},
    )
