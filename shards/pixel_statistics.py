"""Pixel statistics of an image and of a split, in exact integers: the same on any number of workers."""

import hashlib
import math

import numpy as np


def pixel_digests(images: np.ndarray) -> list[str]:
    """A 128-bit digest, in hex, of each image of ``images``: uint8, (n, channels, height, width)."""
    # Processors have instructions for SHA-256, which make it twice as fast as BLAKE2.
    return [hashlib.sha256(image).hexdigest()[:32] for image in np.ascontiguousarray(images)]


def pixel_sums(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each image's sum of pixels and sum of squared pixels: int64, (n, channels) both."""
    flat = images.reshape(*images.shape[:2], -1)
    sums, square_sums = np.empty(flat.shape[:2], np.int64), np.empty(flat.shape[:2], np.int64)
    total = np.uint32 if flat.shape[2] * 255**2 < 2**32 else np.uint64  # exact; the narrower, the faster
    step = max(1, 50_000 // max(1, flat[0].size)) if len(flat) else 1  # images that fit the processor's cache
    for start in range(0, len(flat), step):
        values = flat[start : start + step]
        sums[start : start + step] = values.sum(axis=2, dtype=total)
        square_sums[start : start + step] = np.multiply(values, values, dtype=np.uint16).sum(axis=2, dtype=total)
    return sums, square_sums


def mean_and_std(sums: np.ndarray, square_sums: np.ndarray, pixels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and (population) standard deviation for each channel, of pixels scaled to [0, 1].

    ``sums`` and ``square_sums`` are int64, (n, channels); ``pixels`` is height x width. Without samples: 0 and 0.
    """
    count = len(sums) * pixels
    means, stds = [], []
    for total, square_total in zip(sums.sum(axis=0).tolist(), square_sums.sum(axis=0).tolist(), strict=True):
        # n * sum of squares - (sum)^2 in whole numbers: nothing cancels.
        means.append(total / (255 * count) if count else 0.0)
        stds.append(math.sqrt(count * square_total - total * total) / (255 * count) if count else 0.0)
    return tuple(means), tuple(stds)
