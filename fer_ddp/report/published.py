"""Published figures on FER2013, with what is known of their selection."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer_ddp.report.collect import ReportRuns
from fer_ddp.yaml_io import read_yaml
from shards.labels import FER2013_CLASSES

_CLASS_COUNTS = {"val": (467, 56, 496, 895, 653, 415, 607), "test": (491, 55, 528, 879, 594, 416, 626)}
"""PublicTest and PrivateTest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedFigure:
    """One row of ``published.yaml``."""

    work: str
    source: str
    """The address of its code or paper."""
    accuracy: str
    """Per cent, as printed there."""
    what: str
    selection: str
    clean: str
    """Whether test chose nothing: ``yes``, ``no``, ``unknown``."""


def published_figures() -> list[PublishedFigure]:
    """The rows, the lowest accuracy first."""
    rows = read_yaml(Path(__file__).with_name("published.yaml"))["figures"]
    return [PublishedFigure(**row) for row in rows]


def is_fer2013(collected: ReportRuns) -> bool:
    """Whether the data are FER2013's: its classes in its order, and its counts of each in one of the splits."""
    if collected.class_names != FER2013_CLASSES:
        return False
    return any(
        tuple(np.bincount(labels, minlength=len(FER2013_CLASSES)).tolist()) == _CLASS_COUNTS[split]
        for split, labels in collected.labels.items()
    )
