"""Labels a source by its FER+ votes: eight classes, each sample in that with the most votes.

Train keeps every sample of which the votes make a target by one of the rules in :mod:`shards.votes`, so that each way
to train on votes has the samples that FER+'s authors give it. Val and test keep those with a majority, which the
authors evaluate on.
"""

from dataclasses import replace

import numpy as np

from shards.errors import DataError
from shards.labels import FERPLUS
from shards.sources.scan import SourceScan
from shards.splits import SPLITS
from shards.votes import CATEGORIES, clearest_emotion, describe_votes, is_usable, majority_targets, parse_votes


def label_by_votes(scan: SourceScan) -> SourceScan:
    """``scan`` with FER+'s classes, without the samples that no way to train on votes can use.

    Raises :class:`DataError` if that is all of them.
    """
    votes = votes_of(scan)
    usable = is_usable(votes)
    if not usable.any():
        raise DataError("none of the samples has FER+ votes that agree on an expression")
    table = scan.table.assign(label=clearest_emotion(votes))
    return replace(scan, table=table, class_names=FERPLUS.class_names).selected(usable)


def without_unclear(scan: SourceScan) -> SourceScan:
    """``scan`` without the val and test samples on which the votes have no majority."""
    return scan.selected((scan.table.split == "train").to_numpy() | majority_targets(votes_of(scan)).any(axis=1))


def describe_by_split(scan: SourceScan) -> dict[str, str]:
    """:func:`shards.votes.describe_votes` of each split of a scan with votes."""
    votes, splits = votes_of(scan), scan.table.split.astype(str).to_numpy()
    return {split: describe_votes(votes[splits == split]) for split in SPLITS if (splits == split).any()}


def votes_of(scan: SourceScan) -> np.ndarray:
    """int64 (samples, 10), zeros for a sample without votes."""
    return np.array([parse_votes(text) for text in scan.votes or []], np.int64).reshape(-1, len(CATEGORIES))
