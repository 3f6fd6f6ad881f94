"""The data set that the runs are about, where it can be reached from here: its manifest, its FER+ votes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_ddp.report.gather import Gathered
from shards.errors import DataError
from shards.manifest import Manifest
from shards.reader import read_shard
from shards.scan import manifest_of
from shards.sources.votes import CATEGORIES
from shards.tar_index import index_tar

_VOTES = ".votes.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFolder:
    """A folder whose digest is the runs'."""

    path: Path
    manifest: Manifest


def find_data(gathered: Gathered) -> tuple[DataFolder | None, str]:
    """The folder that the runs name, if it is here and still the same; else None and a sentence that says why."""
    paths = dict.fromkeys(str(run.job.get("data", {}).get("path", "")) for run in gathered.runs if run.job)
    reasons = []
    for path in filter(None, paths):
        try:
            manifest = manifest_of(Path(path))
        except (DataError, OSError) as error:
            reasons.append(str(error).rstrip("."))
            continue
        if manifest.digest == gathered.data_digest:
            return DataFolder(path=Path(path), manifest=manifest), ""
        reasons.append(f"{path}: holds other data now (digest {manifest.digest[:12]})")
    return None, f"The data can't be reached from here ({'; '.join(reasons) or 'the runs name no folder'})."


def read_votes(data: DataFolder, split: str, keys: Sequence[str]) -> NDArray[np.int64]:
    """FER+ votes of the samples ``keys``: (samples, 10), in the order of `shards.sources.votes.CATEGORIES`.

    A sample without votes has a row of zeros. Raises DataError as `shards.reader.read_shard` does, and for votes that
    are none.
    """
    by_key: dict[str, list[int]] = {}
    for shard in data.manifest.split(split, data.path).shards:
        content = read_shard(data.path, shard)
        for member in index_tar(content, str(data.path / shard.name)):
            if member.name.endswith(_VOTES):
                try:
                    votes = json.loads(content[member.offset : member.offset + member.size])
                    by_key[member.name.removesuffix(_VOTES)] = [int(votes[category]) for category in CATEGORIES]
                except (ValueError, KeyError, TypeError):
                    raise DataError(
                        f"{data.path / shard.name}: {member.name} holds no votes; they are a count for each of "
                        f"{', '.join(CATEGORIES)}"
                    ) from None
    return np.array([by_key.get(key, [0] * len(CATEGORIES)) for key in keys], dtype=np.int64)
