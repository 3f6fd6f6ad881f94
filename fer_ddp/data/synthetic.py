"""Synthetic faces for whoever has no data yet: drawn into the cache folder when a job first needs them."""

import dataclasses
from functools import partial
from pathlib import Path

from fer_ddp.data.cache_folder import cache_folder
from fer_ddp.data.dataset import DataConfig

SYNTHETIC = Path("data/fake")
"""What a job gives as ``data.path`` for synthetic faces, such as the recipe ``smoke``."""


def drawn_if_missing(config: DataConfig) -> DataConfig:
    """``config``; where its path is `SYNTHETIC` and there is no such folder, the faces in the cache folder instead.

    They are drawn unless they are there already: 2,000 in train, 800 each in val and test, always the same ones. Raises
    shards' DataError if the cache folder can't hold them.
    """
    if Path(config.path) != SYNTHETIC or SYNTHETIC.exists():
        return config
    folder = cache_folder() / "synthetic-faces"
    if not folder.exists():
        from shards.packing.packer import pack
        from shards.sources.synthetic_faces import Faces, scan_faces

        print(f"{config.path}: there is no such folder; drawing 2,000 synthetic faces in {folder}", flush=True)
        pack(partial(scan_faces, Faces(train=2000, val=800, test=800)), folder)
    else:
        print(f"{config.path}: there is no such folder; using the synthetic faces in {folder}", flush=True)
    return dataclasses.replace(config, path=str(folder))
