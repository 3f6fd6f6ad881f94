"""What is measured on: FER2013's CSV where FER2013_CSV names it, else synthetic faces of the same number and format."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.sizes import Sizes
from fer_ddp.config.job import Job
from fer_ddp.config.load import load_job
from shards.packing.packer import pack
from shards.parallel import usable_cpus
from shards.sources.registry import source_of
from shards.sources.synthetic_faces import draw_faces

RECIPES = Path(__file__).parents[1] / "jobs"
USAGES = {"Training": 28709, "PublicTest": 3589}
"""FER2013's splits that are measured on, and their sizes; PrivateTest stays unread."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    description: str
    csv: Path
    rows: int
    """In the CSV."""
    folder: Path
    """The CSV, packed."""
    images: int
    """In train."""
    workspace: Path
    """For files of the stages."""
    cache: Path
    """Where decoded splits are kept, also by the processes that the stages start."""


def prepare(sizes: Sizes, workspace: Path) -> Data:
    wanted = {
        usage: min(count, limit if limit is not None else count)
        for (usage, count), limit in zip(USAGES.items(), (sizes.train, sizes.val), strict=True)
    }
    csv, cache = workspace / "fer2013.csv", workspace / "cache"
    os.environ["FER_DDP_CACHE"] = str(cache)
    given = os.environ.get("FER2013_CSV")
    if given:
        found = _copy_rows(Path(given), csv, wanted)
        description = f"FER2013, {found['Training']} train and {found['PublicTest']} val images"
    else:
        found = wanted
        _write_synthetic(csv, wanted)
        description = f"synthetic faces like FER2013, {found['Training']} train and {found['PublicTest']} val images"
    folder = workspace / "shards"
    pack(source_of(csv), folder, shard_samples=sizes.shard_samples, workers=usable_cpus())
    return Data(
        description=description,
        csv=csv,
        rows=sum(found.values()),
        folder=folder,
        images=found["Training"],
        workspace=workspace,
        cache=cache,
    )


def recipe(data: Data, sizes: Sizes, *overrides: str) -> Job:
    """Model 4 on ``data``."""
    size = [] if sizes.batch_size is None else [f"global_batch_size={sizes.batch_size}"]
    return load_job(RECIPES / "model4.yaml", [f"data.path={data.folder}", *size, *overrides])


def _copy_rows(source: Path, target: Path, wanted: dict[str, int]) -> dict[str, int]:
    """Copy the header and the first rows of each usage; returns how many there were."""
    found = dict.fromkeys(wanted, 0)
    with open(source, "rb") as lines, open(target, "wb") as out:
        out.write(next(lines))
        for line in lines:
            usage = next((usage for usage in wanted if usage.encode() in line), None)
            if usage is not None and found[usage] < wanted[usage]:
                out.write(line)
                found[usage] += 1
    return found


def _write_synthetic(path: Path, wanted: dict[str, int]) -> None:
    numbers = [str(number) for number in range(256)]
    random = np.random.default_rng(0)
    with open(path, "w") as out:
        out.write("emotion,pixels,Usage\n")
        for usage, count in wanted.items():
            for start in range(0, count, 200):
                labels = np.arange(start, min(start + 200, count)) % 7
                for label, face in zip(labels, draw_faces(labels, random), strict=True):
                    out.write(f"{label},{' '.join([numbers[pixel] for pixel in face.ravel()])},{usage}\n")
