"""Folders of JPEGs to shards: ours against Pillow and webdataset's writer in one process, both keeping the bytes.

Each run is a process of its own (`bench.pack_process`), which also gives its processor time and memory.
"""

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from bench.data import Data
from bench.sizes import Sizes
from bench.table import Result, compare
from bench.timing import in_turns
from shards.labels import FER2013_CLASSES
from shards.parallel import usable_cpus
from shards.sources.synthetic_faces import draw_faces

SIDE = 112


def pack_images_results(data: Data, sizes: Sizes) -> list[Result]:
    folder = data.workspace / "jpegs"
    write_jpegs(folder, sizes.jpegs)
    measured: dict[str, list[tuple[float, float, float]]] = {"ours": [], "peer": []}

    def run(side: str) -> Callable[[], float]:
        def timed() -> float:
            out = data.workspace / f"packed-jpegs-{side}"
            command = [sys.executable, "-m", "bench.pack_process", side, str(folder), str(out), str(usable_cpus())]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            shutil.rmtree(out)
            measured[side].append(tuple(json.loads(output.splitlines()[-1])))
            return measured[side][-1][0]

        return timed

    ours, peer = in_turns([run("ours"), run("peer")], sizes.repeats)
    used = {
        side: f"{statistics.median(cpu for _, cpu, _ in runs):.1f} s of processor time and "
        f"{max(memory for _, _, memory in runs):.0f} MiB a process"
        for side, runs in measured.items()
    }
    note = (
        f"{sizes.jpegs:,} made images, {usable_cpus()} workers; {used['ours']} ours, {used['peer']} the peer's; ours "
        f"also checks, hashes and syncs what it writes, and finds duplicates"
    )
    against = "Pillow + webdataset.ShardWriter, one process"
    return [compare(f"pack JPEGs of {SIDE} x {SIDE}", against, sizes.jpegs, ours, peer, 1.6, note)]


def write_jpegs(folder: Path, count: int) -> None:
    """``count`` faces in colour as train/CLASS/NUMBER.jpg, each with noise of its own."""
    random = np.random.default_rng(0)
    for name in FER2013_CLASSES:
        (folder / "train" / name).mkdir(parents=True)
    labels = np.arange(min(count, 700)) % len(FER2013_CLASSES)
    faces = [Image.fromarray(face).resize((SIDE, SIDE)) for face in draw_faces(labels, random)]
    for number in range(count):
        label = int(labels[number % len(labels)])
        noise = random.integers(-8, 9, (SIDE, SIDE, 3))
        pixels = np.clip(np.asarray(faces[number % len(labels)])[..., None] + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "train" / FER2013_CLASSES[label] / f"{number}.jpg", quality=90)
