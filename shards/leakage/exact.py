"""Exact duplicates: images whose pixels are equal, within a split and across splits."""

from typing import TYPE_CHECKING

from shards.labels import SPLITS
from shards.manifest import Duplicates

if TYPE_CHECKING:
    import pandas


def find_duplicates(table: "pandas.DataFrame") -> Duplicates:
    """Count them in a table with the columns ``split``, ``label`` and ``digest`` (hex, of the pixels)."""
    digests = {split: table.digest[table.split == split] for split in SPLITS if (table.split == split).any()}
    names = list(digests)
    return Duplicates(
        within={name: int(digests[name].duplicated().sum()) for name in names},
        across={
            f"{first}/{second}": int(digests[second].isin(digests[first]).sum())
            for place, first in enumerate(names)
            for second in names[place + 1 :]
        },
        conflicting_groups={
            "all": _conflicting(table),
            **{name: _conflicting(table[table.split == name]) for name in names},
        },
    )


def _conflicting(table: "pandas.DataFrame") -> int:
    repeated = table[table.digest.duplicated(keep=False)]
    return int((repeated.groupby("digest").label.nunique() > 1).sum())
