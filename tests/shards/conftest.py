from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from shards.manifest import Manifest
from shards.packing.packer import pack
from shards.sources.listing import SourceOptions
from shards.sources.registry import source_of

SIDE = 8
"""Small images: the CSV's source takes any square."""


def csv_row(label: object, pixels: np.ndarray | str, usage: str) -> str:
    text = pixels if isinstance(pixels, str) else " ".join(map(str, pixels.ravel().tolist()))
    return f"{label},{text},{usage}"


def random_images(count: int, seed: int = 0, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)


class Rows:
    """70 train, 14 val and 14 test rows with all labels, and their images."""

    def __init__(self) -> None:
        self.images = random_images(98)
        self.labels = [place % 7 for place in range(98)]
        self.usages = ["Training"] * 70 + ["PublicTest"] * 14 + ["PrivateTest"] * 14
        triples = zip(self.labels, self.images, self.usages, strict=True)
        self.lines = [csv_row(label, image, usage) for label, image, usage in triples]


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[..., Path]:
    def write(lines: Sequence[str], header: str = "emotion,pixels,Usage", name: str = "fer.csv") -> Path:
        path = tmp_path / name
        path.write_text("\n".join([header, *lines]) + "\n")
        return path

    return write


@pytest.fixture
def write_faces(write_csv: Callable[..., Path]) -> Callable[..., Path]:
    """Writes a CSV of triples (label, image, usage)."""

    def write(samples: Sequence[tuple[int, np.ndarray, str]]) -> Path:
        return write_csv([csv_row(*sample) for sample in samples])

    return write


@pytest.fixture(scope="session")
def small_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("csv") / "fer.csv"
    path.write_text("\n".join(["emotion,pixels,Usage", *Rows().lines]) + "\n")
    return path


@pytest.fixture(scope="session")
def small_set(small_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows of :class:`Rows`, packed: 5 + 1 + 1 shards. Not to be changed by a test."""
    out = tmp_path_factory.mktemp("sets") / "small"
    pack(source_of(small_csv), out, shard_samples=16)
    return out


@pytest.fixture
def pack_source(tmp_path: Path) -> Callable[..., Manifest]:
    """Packs a path to ``tmp_path / "out"`` and returns the manifest."""

    def packed(path: Path, votes: Path | None = None, allowed_classes: Sequence[str] = (), **options: int) -> Manifest:
        source = source_of(path, votes=votes, options=SourceOptions(allowed_classes=tuple(allowed_classes)))
        return pack(source, tmp_path / "out", **options).manifest  # type: ignore[arg-type]

    return packed
