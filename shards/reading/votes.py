"""FER+ votes in the shards of a data set: ``KEY.votes.json`` beside a sample's image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shards.errors import DataError
from shards.manifest import Manifest
from shards.reading.reader import read_shard
from shards.reading.tar_index import index_tar
from shards.votes import CATEGORIES, parse_votes

_VOTES = ".votes.json"


def read_votes(folder: Path, split: str, manifest: Manifest, keys: Sequence[str]) -> np.ndarray:
    """Votes of the samples ``keys``: int64 (samples, 10), in the order of :data:`CATEGORIES`.

    A sample without votes has a row of zeros. Raises as :func:`votes_by_key`.
    """
    by_key = votes_by_key(folder, split, manifest)
    return np.array([by_key.get(key, [0] * len(CATEGORIES)) for key in keys], dtype=np.int64)


def votes_by_key(folder: Path, split: str, manifest: Manifest) -> dict[str, list[int]]:
    """The votes of each sample of a split that has any, in the order of :data:`CATEGORIES`.

    Raises :class:`DataError` as :func:`shards.reading.reader.read_shard` does, and for malformed votes.
    """
    by_key: dict[str, list[int]] = {}
    for shard in manifest.split(split, folder).shards:
        content = read_shard(folder, shard)
        for member in index_tar(content, str(folder / shard.name)):
            if member.name.endswith(_VOTES):
                try:
                    votes = parse_votes(content[member.offset : member.offset + member.size])
                except (ValueError, KeyError, TypeError):
                    raise DataError(
                        f"{folder / shard.name}: {member.name} holds no votes; it must hold a count for each of "
                        f"{', '.join(CATEGORIES)}"
                    ) from None
                by_key[member.name.removesuffix(_VOTES)] = votes
    return by_key
