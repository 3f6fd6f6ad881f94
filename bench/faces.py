"""``python -m bench.faces``: how many faces of photographs `predict --faces` finds.

Faces are pasted into two photographs that scikit-learn ships and onto plain colours: 1 to 5 in each of 800 x 534
pixels, 48 to 200 pixels wide, none upon another. A box belongs to the face with which it shares the most, if that is at
least 0.4 of both together; each face has one box at most.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from fer_ddp.deploy.faces import FaceDetector
from fer_ddp.deploy.pictures import Box
from shards.labels import FER2013_CLASSES
from shards.reading.reader import read_split
from shards.sources.synthetic_faces import draw_faces

WIDTH, HEIGHT = 800, 534
SMALLEST, LARGEST = 48, 200
LEAST_OVERLAP = 0.4


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Of some montages."""

    found: int
    missed: int
    false: int
    seconds: float
    """Median of an image."""
    side: float
    """Median side of the found boxes, as a multiple of the face's."""


def montages(faces: NDArray[np.uint8], count: int, seed: int = 0) -> Iterator[tuple[Image.Image, list[Box]]]:
    """``count`` pictures, and where the faces, (n, height, width), are in them."""
    random = np.random.default_rng(seed)
    photographs = [Image.fromarray(image).resize((WIDTH, HEIGHT)) for image in load_sample_images().images]
    for number in range(count):
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        picture = photographs[number % 2].copy() if number % 4 < 2 else Image.new("RGB", (WIDTH, HEIGHT), colour)
        boxes: list[Box] = []
        while len(boxes) < 1 + number % 5:
            side = int(random.integers(SMALLEST, LARGEST))
            left, top = int(random.integers(WIDTH - side)), int(random.integers(HEIGHT - side))
            box = (left, top, left + side, top + side)
            if all(overlap(box, other) == 0 for other in boxes):
                face = Image.fromarray(faces[random.integers(len(faces))])
                picture.paste(face.resize((side, side), Image.Resampling.BICUBIC), (left, top))
                boxes.append(box)
        yield picture, boxes


def overlap(one: Box, other: Box) -> float:
    """What two boxes share, as a part of what they cover together."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0, width) * max(0, height)
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (area - shared)


def matched(found: Sequence[Box], boxes: Sequence[Box]) -> list[tuple[Box, Box]]:
    """The boxes found, each with the face that it belongs to."""
    pairs = sorted(((overlap(one, box), one, box) for one in found for box in boxes), reverse=True)
    chosen: list[tuple[Box, Box]] = []
    for shared, one, box in pairs:
        if shared >= LEAST_OVERLAP and all(one != taken and box != face for taken, face in chosen):
            chosen.append((one, box))
    return chosen


def score(faces: NDArray[np.uint8], count: int) -> Score:
    """Search ``count`` montages of ``faces``."""
    detector = FaceDetector()
    found = missed = false = 0
    seconds, sides = list[float](), list[float]()
    for picture, boxes in montages(faces, count):
        started = time.process_time()
        detected = detector(picture)
        seconds.append(time.process_time() - started)
        pairs = matched(detected, boxes)
        found, missed, false = found + len(pairs), missed + len(boxes) - len(pairs), false + len(detected) - len(pairs)
        sides += [(one[2] - one[0]) / (box[2] - box[0]) for one, box in pairs]
    return Score(
        found=found,
        missed=missed,
        false=false,
        seconds=statistics.median(seconds),
        side=statistics.median(sides) if sides else float("nan"),
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.faces", description=__doc__)
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="packed faces, of which val is used; else drawn ones"
    )
    parser.add_argument("--montages", type=int, default=200)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.data is None:
        faces = draw_faces(np.arange(700) % len(FER2013_CLASSES), np.random.default_rng(0))
    else:
        faces = read_split(options.data, "val").images[:, 0]
    result = score(faces, options.montages)
    source = "drawn faces" if options.data is None else str(options.data)
    share = 100 * result.found / (result.found + result.missed)
    print("| faces | pictures | found | missed | false boxes | seconds a picture | side of a box |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {source} | {options.montages} | {result.found} ({share:.0f} %) | {result.missed} | {result.false} | "
        f"{result.seconds:.2f} | {result.side:.2f} |"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
