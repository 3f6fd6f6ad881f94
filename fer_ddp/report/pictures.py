"""The worst errors as pictures inside the page: images of the data set, so only where they are asked for."""

import base64
from dataclasses import dataclass

import numpy as np

from fer_ddp.ensemble import mean_probabilities
from fer_ddp.report.data_folder import DataFolder
from fer_ddp.report.gather import Recipe
from shards.png import encode_pngs
from shards.reader import read_split

_MOST = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """A sample that a recipe takes for something else."""

    picture: str
    """A ``data:`` address that holds a PNG."""
    key: str
    label: str
    predicted: str
    probability: float
    """Of what was predicted, mean over seeds."""


def worst_mistakes(data: DataFolder, recipe: Recipe, split: str) -> list[Mistake]:
    """The mistakes of a recipe's mean over seeds, the most confident first. Raises DataError for damaged shards."""
    answers = recipe.predictions[split][0]
    probabilities = mean_probabilities([each.probabilities for each in recipe.predictions[split]])
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != answers.labels)
    chosen = wrong[np.argsort(-probabilities.max(axis=1)[wrong], kind="stable")][:_MOST]
    decoded = read_split(data.path, split, manifest=data.manifest)
    places = {key: place for place, key in enumerate(decoded.keys)}
    pngs = encode_pngs(decoded.images[[places[answers.keys[sample]] for sample in chosen]]) if len(chosen) else []
    return [
        Mistake(
            picture=f"data:image/png;base64,{base64.b64encode(png).decode()}",
            key=answers.keys[sample],
            label=answers.class_names[answers.labels[sample]],
            predicted=answers.class_names[predicted[sample]],
            probability=float(probabilities[sample].max()),
        )
        for sample, png in zip(chosen, pngs, strict=True)
    ]
