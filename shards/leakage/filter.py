"""Leaves out of a source the val and test samples whose image stands in train; train stays as it is."""

from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from shards.images import decode_image
from shards.labels import SPLITS
from shards.leakage.find import compare, leaking
from shards.leakage.near import LARGEST_DISTANCE, SIDE, thumbnails
from shards.sources.scan import Images, Scanned

RULE = f"distance up to {LARGEST_DISTANCE}"
_IMAGES_AT_ONCE = 512


def leave_out_leaks(scanned: Scanned, pool: Executor) -> tuple[Scanned, dict[str, int | str]]:
    """``scanned`` without the samples that leak, and the options that say so in the manifest.

    Not the training samples that match val or test: what is trained on must not depend on what is tested on.
    """
    table = scanned.table
    places = table.place.tolist()
    pieces = [places[at : at + _IMAGES_AT_ONCE] for at in range(0, len(places), _IMAGES_AT_ONCE)]
    pictures = list(pool.map(partial(_pictures, scanned.images), pieces))
    splits = table.split.map(SPLITS.index).to_numpy(np.int64)
    leakage = compare(
        splits=splits,
        keys=table.key.tolist(),
        labels=table.label.to_numpy(np.int64),
        class_names=scanned.class_names,
        digests=table.digest.tolist(),
        pictures=np.concatenate([np.empty((0, SIDE, SIDE), np.uint8), *pictures]),
    )
    leaks = {leakage.keys[place] for place in np.flatnonzero(leaking(leakage))}
    keep = ~table.key.isin(leaks).to_numpy()
    counts = {f"left_out_{SPLITS[one]}": int((~keep & (splits == one)).sum()) for one in np.unique(splits[splits > 0])}
    kept = replace(
        scanned,
        table=table[keep].reset_index(drop=True),
        sums=scanned.sums[keep],
        square_sums=scanned.square_sums[keep],
        votes=None
        if scanned.votes is None
        else [votes for votes, kept in zip(scanned.votes, keep, strict=True) if kept],
    )
    return kept, {"without_leaks": RULE, **counts}


def _pictures(images: Images, places: list[Any]) -> np.ndarray:
    return np.concatenate([thumbnails(decode_image(content)[0][None]) for _, content in images.files(places)])
