"""Packs once, in a process of its own that has no torch: ``ours|peer CSV OUT WORKERS``; prints its seconds."""

import sys
import time
from pathlib import Path


def ours(csv: Path, out: Path, workers: int) -> float:
    from shards.packing.packer import pack
    from shards.sources.registry import source_of

    started = time.perf_counter()
    pack(source_of(csv), out, workers=workers)
    return time.perf_counter() - started


def peer(csv: Path, out: Path, workers: int) -> float:
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


if __name__ == "__main__":
    side, csv, out, workers = sys.argv[1:]
    print({"ours": ours, "peer": peer}[side](Path(csv), Path(out), int(workers)))
