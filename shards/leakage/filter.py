"""Removes from a source the val and test samples whose image also appears in train; train stays as it is."""

from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from shards.images import decode_image
from shards.leakage.find import Leakage, compare, leaking
from shards.leakage.near import MAX_DISTANCE, SIDE, thumbnails
from shards.progress import with_progress
from shards.sources.scan import Images, SourceScan
from shards.splits import SPLITS

RULE = f"distance up to {MAX_DISTANCE}"
_IMAGES_AT_ONCE = 512


def compare_samples(scan: SourceScan, pool: Executor) -> Leakage:
    """Compare the images of ``scan`` with each other."""
    table = scan.table
    locations = table.location.tolist()
    groups = [locations[at : at + _IMAGES_AT_ONCE] for at in range(0, len(locations), _IMAGES_AT_ONCE)]
    results = pool.map(partial(_thumbnails_of, scan.images), groups)
    pictures = list(with_progress(results, "reading images", len(locations), unit=" images", size=len))
    return compare(
        splits=table.split.map(SPLITS.index).to_numpy(np.int64),
        keys=table.key.tolist(),
        labels=table.label.to_numpy(np.int64),
        class_names=scan.class_names,
        digests=table.digest.tolist(),
        pictures=np.concatenate([np.empty((0, SIDE, SIDE), np.uint8), *pictures]),
    )


def remove_leaks(scan: SourceScan, leakage: Leakage) -> SourceScan:
    """``scan`` without the samples that leak by ``leakage``, its comparison; their counts are in its options.

    Never removes training samples that match val or test: what is trained on must not depend on what is tested on.
    """
    table = scan.table
    splits = table.split.map(SPLITS.index).to_numpy(np.int64)
    leaks = {leakage.keys[index] for index in np.flatnonzero(leaking(leakage))}
    mask = ~table.key.isin(leaks).to_numpy()
    counts = {f"left_out_{SPLITS[one]}": int((~mask & (splits == one)).sum()) for one in np.unique(splits[splits > 0])}
    return replace(scan.selected(mask), options={**scan.options, "without_leaks": RULE, **counts})


def _thumbnails_of(images: Images, locations: list[Any]) -> np.ndarray:
    return np.concatenate([thumbnails(decode_image(content)[0][None]) for _, content in images.files(locations)])
