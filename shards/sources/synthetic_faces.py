"""Faces drawn from formulas: a data set without rights of others, for trying things out and for tests.

A grey face of 48 x 48 is a head with hair, brows, eyes, nose and mouth. Its expression moves the features the way the
textbook faces of Ekman and Friesen do (a smile bends the mouth up, anger draws the brows down and together, ...), each
at its own strength. Pose, build, skin, light, glasses, noise and occlusions are random and independent of the
expression, so that single pixels carry little information: a linear model on pixels stays far below a small CNN.
"""

import hashlib
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from shards.errors import DataError
from shards.labels import FER2013_CLASSES
from shards.pixel_statistics import pixel_digests, pixel_sums
from shards.progress import with_progress
from shards.sources.sample_keys import row_key
from shards.sources.scan import PixelFile, SourceScan
from shards.splits import SPLITS

SIDE = 48
_Number = np.ndarray | float
_FACES_AT_ONCE = 200
"""Faces that share one random stream and one drawing pass; the pixels depend on it."""

_EXPRESSIONS = {
    #           smile  open  width lips_up brow_raise brow_inner eyes wrinkle cheeks
    "angry": (-0.15, 0.00, -0.10, 0.00, -0.55, -1.00, -0.35, 0.20, 0.0),
    "disgust": (-0.45, 0.15, -0.05, 1.00, -0.35, -0.45, -0.55, 1.00, 0.3),
    "fear": (-0.25, 0.55, 0.25, 0.00, 0.65, 0.75, 0.75, 0.00, 0.0),
    "happy": (1.00, 0.30, 0.25, 0.00, 0.05, 0.00, -0.25, 0.00, 1.0),
    "sad": (-0.80, 0.00, -0.10, 0.00, 0.10, 0.90, -0.30, 0.00, 0.0),
    "surprise": (0.00, 1.00, -0.30, 0.00, 1.00, 0.05, 0.90, 0.00, 0.0),
    "neutral": (0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.0),
}
"""How far each expression moves each feature from rest; 1 is as far as a face goes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Faces:
    """How many faces to draw for each split, and from which seed."""

    train: int = 4000
    val: int = 800
    test: int = 800
    seed: int = 0


def scan_faces(faces: Faces, work: Path, pool: Executor, workers: int) -> SourceScan:
    """Draw ``faces``; the pixels go to a file in the folder ``work``.

    Raises :class:`DataError` (exit status 2) if a number of faces is negative, or there is none to train on.
    """
    import pandas

    counts = (faces.train, faces.val, faces.test)
    if min(counts) < 0 or not faces.train:
        raise DataError("--train should be 1 or more, --val and --test 0 or more", exit_status=2)
    total = sum(counts)
    store = PixelFile(path=work / "pixels.bin", rows=total, shape=(1, SIDE, SIDE))
    store.create()
    # In every split the classes are equally frequent, to within one.
    labels = np.concatenate([np.arange(count) % len(FER2013_CLASSES) for count in counts]).astype(np.int64)
    starts = range(0, total, _FACES_AT_ONCE)
    pieces = [labels[start : start + _FACES_AT_ONCE] for start in starts]
    results = pool.map(partial(_draw_into, store, faces.seed), starts, pieces)
    parts = list(with_progress(results, "drawing faces", total, unit=" faces", size=lambda part: len(part[0])))
    table = pandas.DataFrame(
        {
            "key": [row_key(row) for row in range(1, total + 1)],
            "split": np.repeat(SPLITS, counts),
            "label": labels,
            "location": np.arange(total),
            "digest": [digest for digests, _, _ in parts for digest in digests],
        }
    )
    return SourceScan(
        table=table,
        sums=np.concatenate([sums for _, sums, _ in parts]),
        square_sums=np.concatenate([square_sums for _, _, square_sums in parts]),
        images=store,
        image_shape=store.shape,
        class_names=FER2013_CLASSES,
        rejects=[],
        source_format="synthetic-faces",
        source_sha256=hashlib.sha256(store.open().tobytes()).hexdigest(),
    )


def _draw_into(store: PixelFile, seed: int, start: int, labels: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray]:
    images = draw_faces(labels, np.random.default_rng([seed, start]))[:, None]
    store.open("r+")[start : start + len(images)] = images
    return pixel_digests(images), *pixel_sums(images)


def draw_faces(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw a face for each of ``labels`` (FER2013's, int, (n,)): uint8, (n, 48, 48)."""
    count = len(labels)

    def between(low: float, high: float) -> np.ndarray:
        return random.uniform(low, high, (count, 1, 1)).astype(np.float32)

    def around(middle: float, spread: float) -> np.ndarray:
        return random.normal(middle, spread, (count, 1, 1)).astype(np.float32)

    def sometimes(probability: float) -> np.ndarray:
        return (random.random((count, 1, 1)) < probability).astype(np.float32)

    moves = np.array([_EXPRESSIONS[name] for name in FER2013_CLASSES], np.float32)[labels]
    moves = moves * random.uniform(0.65, 1.0, (count, 1)) + random.normal(0, 0.06, moves.shape)
    smile, opening, wide, lips_up, raised, inner, eyes, wrinkle, cheeks = moves.astype(np.float32).T[:, :, None, None]
    mirrored = np.sign(between(-1, 1))

    # Pose: from the picture's pixels to the head's own coordinates, in which it reaches about 1 up and down.
    grid = (np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2) / (SIDE / 2)
    angle = around(0, 0.12)
    size = between(0.86, 1.08)
    column, row = grid[None, None, :] - between(-0.13, 0.13), grid[None, :, None] - between(-0.13, 0.13)
    x = (np.cos(angle) * column + np.sin(angle) * row) / size
    y = (np.cos(angle) * row - np.sin(angle) * column) / size
    turn = between(-0.10, 0.10)  # the head turned sideways: features shift against the outline

    # Background, head, hair.
    picture = between(20, 235) + between(-50, 50) * grid[None, None, :] + between(-50, 50) * grid[None, :, None]
    skin = between(90, 215)
    head_width = between(0.66, 0.82)
    head = _inside(_ellipse(x, y, 0, 0.05, head_width, 0.95), 0.06)
    hair_tone = between(10, 200)
    picture = _over(picture, hair_tone, _inside(_ellipse(x, y, 0, -0.1, head_width + 0.1, 1.0), 0.06) * (y < 0.35))
    picture = _over(picture, skin, head)
    hairline = between(-0.85, -0.6) + between(-0.2, 0.2) * x
    picture = _over(picture, hair_tone, head * _step(hairline - y, 0.06))

    u = x - turn  # the features' own horizontal coordinate
    dark = skin * between(0.2, 0.45)
    feature_y = between(-0.05, 0.05)
    for side in (-1, 1):
        eye_x, eye_y = side * between(0.28, 0.34), feature_y - 0.18
        opened = 0.10 * (1 + 0.75 * eyes) * between(0.85, 1.15)
        eye = _ellipse(u, y, eye_x, eye_y, 0.17, np.maximum(opened, 0.025))
        picture = _over(picture, np.minimum(skin * 1.35 + 25, 250), _inside(eye, 0.25))
        pupil_x = eye_x + between(-0.04, 0.04)
        pupil = _inside(_ellipse(u, y, pupil_x, eye_y, 0.075, 0.075), 0.3) * _inside(eye, 0.25)
        picture = _over(picture, dark * 0.6, pupil)
        lid = np.abs(y - (eye_y - opened * (1 - ((u - eye_x) / 0.18) ** 2)))
        picture = _over(picture, dark, _step(0.03 - lid, 0.04) * (np.abs(u - eye_x) < 0.18))
        # Brows: raised as a whole, their inner ends up (sad, afraid) or down (angry).
        along = (u - side * 0.31) * side  # -0.2 at the inner end, 0.2 at the outer
        brow_y = eye_y - 0.23 - 0.13 * raised - 0.55 * inner * -along * 0.9 + 1.2 * along**2
        brow = _step(between(0.035, 0.06) - np.abs(y - brow_y), 0.04) * _step(0.21 - np.abs(along), 0.05)
        picture = _over(picture, np.minimum(dark, hair_tone), brow * 0.9)
        cheek = _inside(_ellipse(u, y, side * 0.38, 0.22, 0.16, 0.10), 0.6)
        picture = picture + 22 * cheeks * cheek
        # From the nose to the corners of the mouth: deep when the nose is wrinkled.
        fold = np.abs(u - side * (0.16 + 0.35 * (y - 0.1)))
        picture = _over(
            picture, dark, 0.6 * np.clip(wrinkle, 0, 1) * _step(0.03 - fold, 0.05) * (np.abs(y - 0.22) < 0.16)
        )

    nose = _step(0.03 - np.abs(u - 0.05 * mirrored - 0.06 * mirrored * (y - 0.1)), 0.05) * (np.abs(y - 0.02) < 0.17)
    picture = _over(picture, skin * 0.75, nose * 0.7)
    nostrils = _inside(_ellipse(np.abs(u), y, 0.08, 0.2, 0.04, 0.03), 0.5)
    picture = _over(picture, dark, nostrils)
    for line in (-0.06, 0.0, 0.06):
        crease = _step(0.018 - np.abs(y + 0.1 - line - 0.3 * np.abs(u)), 0.03) * (np.abs(u) < 0.13)
        picture = _over(picture, dark, 0.7 * np.clip(wrinkle, 0, 1) * crease)

    # Mouth: a bent band that opens; disgust lifts one side of the upper lip.
    half = 0.29 * (1 + 0.45 * wide) * between(0.9, 1.1)
    across = u / half
    mouth_y = (
        0.52 + feature_y + 0.15 * smile * (0.4 - across**2) - 0.10 * lips_up * np.clip(across * mirrored + 0.3, 0, 1)
    )
    gap = 0.17 * np.clip(opening, 0, 1.2) * np.sqrt(np.clip(1 - across**2, 0, 1))
    within = _step(1 - np.abs(across), 0.12)
    lips = _step(gap + between(0.035, 0.06) - np.abs(y - mouth_y), 0.05) * within
    inside = _step(gap - 0.02 - np.abs(y - mouth_y), 0.04) * within
    picture = _over(picture, skin * between(0.45, 0.7), lips)
    picture = _over(picture, dark * 0.5, inside)
    teeth = inside * _step(mouth_y - 0.25 * gap - y, 0.04) * np.clip(smile + wide, 0, 1)
    picture = _over(picture, 225.0, teeth)

    # Independent of the expression: glasses, light, occlusions, blur, noise, exposure.
    rim = np.abs(_ellipse(np.abs(u), y, 0.31, feature_y - 0.17, 0.24, 0.21) - 1)
    picture = _over(picture, between(10, 120), sometimes(0.2) * _step(0.12 - rim, 0.12))
    light = between(0, 2 * np.pi)
    picture = picture * (1 + between(0, 0.4) * (np.cos(light) * column + np.sin(light) * row))
    for _ in range(2):
        block = (np.abs(column - between(-1, 1)) < between(0.06, 0.28)) & (
            np.abs(row - between(-1, 1)) < between(0.06, 0.28)
        )
        picture = _over(picture, between(0, 255), sometimes(0.3) * block)
    softness = between(0, 0.25)
    picture = _blur(picture, softness)
    picture = (picture - 128) * between(0.6, 1.1) + 128 + between(-30, 30)
    picture = picture + between(2, 10) * random.standard_normal((count, SIDE, SIDE), np.float32)
    drawn: np.ndarray = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return drawn


def _ellipse(x: np.ndarray, y: np.ndarray, x0: _Number, y0: _Number, width: _Number, height: _Number) -> np.ndarray:
    """Distance from the centre (x0, y0), in units in which the ellipse of these half axes is at 1."""
    across, along = (x - x0) / width, (y - y0) / height
    return np.sqrt(across * across + along * along)


def _inside(distance: np.ndarray, softness: float) -> np.ndarray:
    return _step(1 - distance, softness)


def _step(value: np.ndarray, softness: float) -> np.ndarray:
    """0 where ``value`` is below zero, 1 where it is above, with a ramp of width ``softness``."""
    ramp: np.ndarray = np.clip(value / softness + 0.5, 0, 1)
    return ramp


def _over(picture: np.ndarray, tone: _Number, cover: np.ndarray) -> np.ndarray:
    """``tone`` painted over the picture where ``cover`` (0 to 1) is."""
    return picture + cover * (tone - picture)


def _blur(picture: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Each pixel mixed with its four neighbours, ``amount`` (0 to 0.25) for each."""
    padded = np.pad(picture, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around: np.ndarray = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    blurred: np.ndarray = (picture + amount * around) / (1 + 4 * amount)
    return blurred
