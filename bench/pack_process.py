"""Packs once, in a process of its own that has no torch: ``ours|peer CSV_OR_FOLDER OUT WORKERS``.

Prints its seconds, those of processor time, and the most memory of a process in MiB.
"""

import json
import resource
import sys
import time
from pathlib import Path


def ours(source: Path, out: Path, workers: int) -> float:
    from shards.packing.packer import pack
    from shards.sources.registry import source_of

    started = time.perf_counter()
    pack(source_of(source), out, workers=workers)
    return time.perf_counter() - started


def peer(source: Path, out: Path, workers: int) -> float:
    return _peer_folder(source, out) if source.is_dir() else _peer_csv(source, out)


def _peer_csv(csv: Path, out: Path) -> float:
    import numpy as np
    import pandas
    from PIL import Image
    from webdataset import ShardWriter

    started = time.perf_counter()
    out.mkdir()
    frame = pandas.read_csv(csv)
    for usage, group in frame.sample(frac=1, random_state=0).groupby("Usage"):
        with ShardWriter(f"{out}/{usage}-%06d.tar", maxcount=2048, verbose=0) as writer:
            for index, label, pixels in zip(group.index, group["emotion"], group["pixels"], strict=True):
                image = Image.fromarray(np.fromstring(pixels, np.uint8, sep=" ").reshape(48, 48))
                writer.write({"__key__": f"{index:06d}", "png": image, "cls": int(label)})
    return time.perf_counter() - started


def _peer_folder(folder: Path, out: Path) -> float:
    """Each image is decoded, since one must know that it is whole, and its bytes are written."""
    import io
    import random

    from PIL import Image
    from webdataset import ShardWriter

    started = time.perf_counter()
    out.mkdir()
    for split in sorted(folder.iterdir()):
        classes = sorted(path.name for path in split.iterdir())
        paths = sorted(split.rglob("*.jpg"))
        random.Random(0).shuffle(paths)
        with ShardWriter(f"{out}/{split.name}-%06d.tar", maxcount=2048, verbose=0) as writer:
            for index, path in enumerate(paths):
                content = path.read_bytes()
                Image.open(io.BytesIO(content)).load()
                label = classes.index(path.parent.name)
                writer.write({"__key__": f"{index:06d}", "jpg": content, "cls": label})
    return time.perf_counter() - started


if __name__ == "__main__":
    side, source, out, workers = sys.argv[1:]
    before = time.process_time()  # imports that a side makes later count as its own
    seconds = {"ours": ours, "peer": peer}[side](Path(source), Path(out), int(workers))
    of_workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = time.process_time() - before + of_workers.ru_utime + of_workers.ru_stime
    memory = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, of_workers.ru_maxrss) / 1024
    print(json.dumps([seconds, cpu, memory]))
