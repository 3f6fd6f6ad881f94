"""Reads a data set back through webdataset and compares everything with its manifest."""

from pathlib import Path

import numpy as np

from shards.errors import DataError
from shards.images import BadImage, decode_image
from shards.manifest import Manifest, Shard, read_manifest
from shards.pixel_statistics import mean_and_std, pixel_sums
from shards.progress import with_progress
from shards.reading.content import Content
from shards.reading.reader import read_shard, refuse_url


def verify(folder: Path) -> Manifest:
    """Check every shard and sample of ``folder``; returns its manifest. Raises :class:`DataError` with what is wrong.

    For each shard: size and sha256; the samples as plain webdataset reads them, against those of our own reader; then
    the counts, class counts, and train's mean and standard deviation against the manifest.
    """
    refuse_url(str(folder))
    manifest = read_manifest(folder)
    known = {shard.name for split in manifest.splits.values() for shard in split.shards}
    for path in sorted(folder.glob("*.tar")):
        if path.name not in known:
            raise DataError(f"{path}: is not in the manifest; remove it, or pack the data set again")
    seen: set[str] = set()
    measured = ["train"] if "train" in manifest.splits else list(manifest.splits)
    sums, square_sums = [], []
    for name, split in manifest.splits.items():
        counts = np.zeros(len(manifest.class_names), np.int64)
        for shard in with_progress(split.shards, f"verifying {name}", split.samples, unit=" images", size=_samples_of):
            labels, pixels = _read_both_ways(folder, shard, manifest, seen)
            counts += np.bincount(labels, minlength=len(counts))
            if name in measured:
                one_sums, one_square_sums = pixel_sums(pixels)
                sums.append(one_sums)
                square_sums.append(one_square_sums)
        if counts.sum() != split.samples or tuple(counts.tolist()) != split.class_counts:
            raise DataError(
                f"{folder}: {name} has {counts.tolist()} samples of its classes, "
                f"the manifest says {list(split.class_counts)}"
            )
        if name == measured[-1]:
            pixels_each = manifest.image_shape[1] * manifest.image_shape[2]
            found = mean_and_std(np.concatenate(sums), np.concatenate(square_sums), pixels_each)
            if found != (manifest.mean, manifest.std):
                raise DataError(
                    f"{folder}: {measured[0]}'s mean and standard deviation are {found}, the manifest says otherwise"
                )
    return manifest


def _samples_of(shard: Shard) -> int:
    return shard.samples


def _read_both_ways(folder: Path, shard: Shard, manifest: Manifest, seen: set[str]) -> tuple[np.ndarray, np.ndarray]:
    import webdataset

    path = folder / shard.name
    content = Content(read_shard(folder, shard), str(path))
    labels, pixels = content.labels(), content.pixels(manifest.image_shape)
    if len(labels) != shard.samples:
        raise DataError(f"{path}: holds {len(labels)} samples, the manifest says {shard.samples}")
    if len(labels) and labels.max() >= len(manifest.class_names):
        raise DataError(f"{path}: holds label {labels.max()}; it should be from 0 to {len(manifest.class_names) - 1}")
    count = 0
    for index, sample in enumerate(webdataset.WebDataset([str(path.absolute())], shardshuffle=False)):
        count += 1
        key = sample["__key__"]
        if key in seen:
            raise DataError(f"{path}: sample {key} appears twice in the data set")
        seen.add(key)
        image = next((sample[extension] for extension in ("png", "jpg", "jpeg") if extension in sample), b"")
        try:
            through_webdataset = decode_image(image)[0]
        except BadImage as error:
            raise DataError(f"{path}: sample {key}: its image {error}") from error
        same = key == content.keys[index] and int(sample["cls"]) == labels[index]
        if not same or not np.array_equal(through_webdataset, pixels[index]):
            raise DataError(f"{path}: sample {key} reads differently through webdataset; pack the data set again")
    if count != shard.samples:
        raise DataError(f"{path}: webdataset reads {count} samples, the manifest says {shard.samples}")
    return labels, pixels
