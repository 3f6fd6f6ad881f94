"""Near-duplicates: pairs of pictures that are one photograph, saved twice.

Three steps, each for the pairs that pass the one before.

1. *Similar hashes.* A perceptual hash of each picture: the 36 frequencies of its DCT from 1 to 6 in both directions
   (as in pHash, but kept as numbers, not cut to signs), of length 1. All pairs are compared, by matrix products.
2. *Similar but for shift and zoom.* Each hash comes with its derivatives: how it changes as the picture moves right,
   down, or is cropped tighter. Shift and zoom are those that explain the difference of two hashes best, with the mean
   of both pictures' derivatives, which makes the estimate accurate to second order (Benhimane and Malis, "Real-time
   image-based tracking of planes using efficient second-order minimization", IROS 2004); what they leave unexplained
   is the residual.
3. *Similar pixels.* Both pictures are resampled to what they share; the distance is 1 minus the lesser of two
   correlations, of the pixels and of the details (structures of about 2 to 12 of 48 pixels).

The first two compare each pair twice, with the second picture as it is and mirrored. The hashes, the resampled
pictures and everything compared are whole numbers that a float holds exactly: the result depends neither on the machine
nor on the order of the pictures.
"""

from dataclasses import dataclass

import numpy as np

from shards.progress import with_progress

# The limits. docs/leakage.md has what each of them, and a looser one, finds in FER2013.
MIN_SIMILARITY = 0.66
"""Inner product of two hashes. A lower limit leaves the next step far more pairs: three times as many at 0.6."""
MAX_RESIDUAL = 0.2
"""Squared length of what shift and zoom leave of the difference of two hashes. 0.3 would let four times as many pairs
pass, and hardly any of them would be near in the end."""
MAX_DISTANCE = 0.08
"""Of a near pair. All pairs inspected up to here are one photograph; beyond 0.15 few are."""
MAX_ZOOM, MAX_SHIFT = 0.25, 8.0
"""Beyond this (a fraction; pixels of 48) the estimate is not reliable."""
SIDE = 48
"""Pictures are compared at this size."""
_MIN_CONTRAST = 2.0
"""Standard deviation, in grey levels, below which a picture is blank: it matches no other."""

_ONE = 4000
"""The length of a hash; a float32 holds its square exactly."""
_ROWS_AT_ONCE, _COLUMNS_AT_ONCE, _PAIRS_AT_ONCE = 1024, 4096, 2048
_MIDDLE = (SIDE - 1) / 2
_POSITIONS = np.arange(SIDE) - _MIDDLE
_FREQUENCIES = np.arange(1, 7)
_WEIGHTS = np.sqrt(np.hypot(_FREQUENCIES[:, None], _FREQUENCIES))  # photographs have less of the higher ones
_COSINES = np.cos(np.pi * (_POSITIONS + SIDE / 2) * _FREQUENCIES[:, None] / SIDE)
_SLOPES = _COSINES @ np.gradient(np.eye(SIDE), axis=0)
_ZOOMS = _COSINES @ (_POSITIONS[:, None] * np.gradient(np.eye(SIDE), axis=0))
# Mirroring a picture turns the sign of its odd horizontal frequencies, and right into left.
_MIRROR = np.tile(np.where(_FREQUENCIES % 2, -1, 1), 6) * np.array([1, -1, 1, 1])[:, None]


@dataclass(frozen=True, kw_only=True, slots=True)
class NearPairs:
    """Pairs of pictures, sorted by ``first``, then ``second``; all arrays are (pairs,)."""

    first: np.ndarray
    """int64, indices of the pictures compared."""
    second: np.ndarray
    """int64, each greater than its ``first``."""
    distance: np.ndarray
    """float64, 0 to the maximum, rounded to four digits."""
    flipped: np.ndarray
    """bool: nearer when one of the two is mirrored."""


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Grey pictures to compare, uint8, (n, 48, 48), of images uint8, (n, 1 or 3, height, width): means over areas."""
    count, channels, height, width = images.shape
    if channels == 3:
        red, green, blue = images.transpose(1, 0, 2, 3).astype(np.int32)
        grey = (299 * red + 587 * green + 114 * blue + 500) // 1000  # luma of ITU-R BT.601
    else:
        grey = images[:, 0]
    pictures = np.empty((count, SIDE, SIDE), np.uint8)
    if (height, width) == (SIDE, SIDE):
        pictures[:] = grey
        return pictures
    down, across = _areas(height), _areas(width).T
    for index in range(count):
        pictures[index] = np.rint(down @ grey[index].astype(np.float64) @ across / (height * width))
    return pictures


def find_near(pictures: np.ndarray, max_distance: float = MAX_DISTANCE) -> NearPairs:
    """The pairs of ``pictures``, uint8, (n, 48, 48), that are near-duplicates. Takes n * n / 2 comparisons."""
    hashes = _hashes(pictures)
    parts = [np.empty((4, 0))]

    def pairs_from(start: int) -> int:
        return sum(len(hashes) - 1 - row for row in range(start, min(start + _ROWS_AT_ONCE, len(hashes))))

    starts, total = range(0, len(hashes), _ROWS_AT_ONCE), len(hashes) * (len(hashes) - 1) // 2
    for start in with_progress(starts, "comparing images", total, unit=" pairs", size=pairs_from):
        for flipped in (False, True):
            candidates = _candidates(hashes, start, flipped)
            for at in range(0, candidates.shape[1], _PAIRS_AT_ONCE):
                first, second = candidates[:, at : at + _PAIRS_AT_ONCE]
                others = hashes[second] * _MIRROR if flipped else hashes[second]
                movement, residual = _movements(hashes[first], others)
                max_movement = np.array([MAX_SHIFT, MAX_SHIFT, MAX_ZOOM])
                fits = (residual <= MAX_RESIDUAL) & (np.abs(movement) <= max_movement).all(axis=1)
                first, second = first[fits], second[fits]
                mirrored = pictures[second][:, :, ::-1] if flipped else pictures[second]
                distance = _distances(pictures[first], mirrored, movement[fits])
                found = np.stack([first, second, distance, np.full(len(first), flipped)])
                parts.append(found[:, distance <= max_distance])
    pairs = np.concatenate(parts, axis=1)
    pairs = pairs[:, np.lexsort(pairs[::-1])]
    # A frontal face can be near both as it is and mirrored: the nearer one comes first, and is kept.
    repeated = (np.diff(pairs[:2]) == 0).all(axis=0)
    first, second, distance, mirror = pairs[:, np.append(True, ~repeated)[: pairs.shape[1]]]
    return NearPairs(
        first=first.astype(np.int64), second=second.astype(np.int64), distance=distance, flipped=mirror == 1
    )


def _areas(size: int) -> np.ndarray:
    """How much each of ``size`` pixels in a row covers of each of 48: whole numbers as float64, (48, size), whose rows
    sum to ``size``."""
    edges = np.arange(size + 1) * SIDE
    begin = np.arange(SIDE)[:, None] * size
    covered = np.minimum(edges[1:], begin + size) - np.maximum(edges[:-1], begin)
    areas: np.ndarray = np.maximum(covered, 0).astype(np.float64)
    return areas


def _hashes(pictures: np.ndarray) -> np.ndarray:
    """Hash and derivatives (right, down, zoom) of each picture: float32, (n, 4, 36), whole numbers; 0 if blank."""
    hashes = np.zeros((len(pictures), 4, 36), np.float32)
    for start in range(0, len(pictures), _ROWS_AT_ONCE):
        values = pictures[start : start + _ROWS_AT_ONCE].astype(np.float64)
        plain, right = _COSINES @ values @ _COSINES.T, _COSINES @ values @ _SLOPES.T
        down, zoom = _SLOPES @ values @ _COSINES.T, _COSINES @ values @ _ZOOMS.T + _ZOOMS @ values @ _COSINES.T
        found = (np.stack([plain, right, down, zoom], axis=1) * _WEIGHTS).reshape(-1, 4, 36)
        length = np.sqrt((found[:, 0] ** 2).sum(axis=1))
        usable = (values.std(axis=(1, 2)) >= _MIN_CONTRAST) & (length > 1e-6)
        hashes[start : start + len(values)][usable] = np.rint(_ONE * found[usable] / length[usable, None, None])
    return hashes


def _candidates(hashes: np.ndarray, start: int, flipped: bool) -> np.ndarray:
    """Pairs of similar hashes, the first of each among the rows from ``start``: int64, (2, pairs), indices."""
    rows = hashes[start : start + _ROWS_AT_ONCE, 0] * (_MIRROR[0].astype(np.float32) if flipped else 1)
    parts = []
    for column in range(start, len(hashes), _COLUMNS_AT_ONCE):
        similarity = rows @ hashes[column : column + _COLUMNS_AT_ONCE, 0].T
        first, second = np.nonzero(similarity >= MIN_SIMILARITY * _ONE**2)
        pairs = np.stack([first + start, second + column])
        parts.append(pairs[:, pairs[0] < pairs[1]])
    return np.concatenate(parts, axis=1)


def _movements(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How the first picture must move to become the second: float64, (n, 3), pixels right, pixels down and zoom (above
    0: the second shows more of the surroundings); and the residual: float64, (n,). ``first`` and ``second`` are hashes
    with their derivatives."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    slopes, difference = first[:, 1:] + second[:, 1:], 2 * (second[:, 0] - first[:, 0])
    normal = slopes @ slopes.transpose(0, 2, 1) + np.eye(3)  # the 1 is tiny here; it keeps the matrix invertible
    projected = slopes @ difference[:, :, None]
    movement = np.linalg.solve(normal, projected)
    residual = np.einsum("nk,nk->n", difference, difference) - (movement * projected).sum(axis=(1, 2))
    return movement[:, :, 0], residual / (2 * _ONE) ** 2


def _distances(first: np.ndarray, second: np.ndarray, movement: np.ndarray) -> np.ndarray:
    """Distances of pairs of pictures, uint8, (n, 48, 48): each is moved by half the movement to what both share."""
    one, other = first.astype(np.float64), second.astype(np.float64)
    right, down, zoom = np.rint(64 * movement.T) / 128
    for axis, shift in ((1, down), (2, right)):
        low = np.maximum((-_MIDDLE - shift) / (1 + zoom), (-_MIDDLE + shift) / (1 - zoom))
        high = np.minimum((_MIDDLE - shift) / (1 + zoom), (_MIDDLE + shift) / (1 - zoom))
        shared = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, SIDE)
        one = _resampled(one, axis, shared * (1 + zoom)[:, None] + shift[:, None])
        other = _resampled(other, axis, shared * (1 - zoom)[:, None] - shift[:, None])
    one, other = np.rint(one), np.rint(other)
    similarity = np.minimum(_correlations(one, other), _correlations(_details(one), _details(other)))
    distance: np.ndarray = np.round(1 - similarity, 4)
    return distance


def _resampled(pictures: np.ndarray, axis: int, positions: np.ndarray) -> np.ndarray:
    """``pictures``, float64, (n, 48, 48), at ``positions``, (n, 48), along an axis, counted from the middle; linear."""
    positions = np.clip(positions + _MIDDLE, 0, SIDE - 1)
    before = np.minimum(positions.astype(np.int64), SIDE - 2)
    fraction, index = np.expand_dims(positions - before, 3 - axis), np.expand_dims(before, 3 - axis)
    low, high = np.take_along_axis(pictures, index, axis), np.take_along_axis(pictures, index + 1, axis)
    resampled: np.ndarray = low + fraction * (high - low)
    return resampled


def _filter(kernel: list[int]) -> np.ndarray:
    """A matrix that filters a row of 48 with ``kernel``, its ends repeated: float64, (48, 48)."""
    reach = len(kernel) // 2
    matrix = np.zeros((SIDE, SIDE))
    for offset, weight in zip(range(-reach, reach + 1), kernel, strict=True):
        matrix[np.arange(SIDE), np.clip(np.arange(SIDE) + offset, 0, SIDE - 1)] += weight
    return matrix


_FINE, _COARSE = _filter([1, 4, 6, 4, 1]), _filter([1] * 13)


def _details(pictures: np.ndarray) -> np.ndarray:
    """Each pixel's mean over 5 x 5 less that over 13 x 13, in 16ths of a grey level: float64, (n, 48, 48)."""
    fine, coarse = _FINE @ pictures @ _FINE.T, _COARSE @ pictures @ _COARSE.T
    details: np.ndarray = np.rint(16 * (fine / 256 - coarse / 169))
    return details


def _correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson's correlations of pictures, whole numbers as float64, (n, 48, 48): (n,); 0 where one is constant."""

    def covariance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        total: np.ndarray = np.einsum("nij,nij->n", one, other) * SIDE**2 - one.sum((1, 2)) * other.sum((1, 2))
        return total

    spread = np.sqrt(covariance(first, first) * covariance(second, second))
    correlation: np.ndarray = covariance(first, second) / np.maximum(spread, 1)
    return correlation
